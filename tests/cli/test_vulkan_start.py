"""Starting on a Vulkan device: pipelines that are kept, kernels that are compiled while the program runs."""
import functools
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import cli
from cli import quern
from terminal import Terminal

LAYER = pathlib.Path(os.environ["QUERN_LAYER_PATH"]).parent
SHADERC = os.environ["QUERN_SHADERC"]
MODELS = ["qllama.Q4_K_M.gguf", "qmoe.Q8_0.gguf"]


def environment(folder, log=None, shaderc=False, **more):
    env = cli.environment(QUERN_CACHE_DIR=str(folder), **more)
    if log:
        env.update(VK_ADD_LAYER_PATH=str(LAYER), VK_INSTANCE_LAYERS="VK_LAYER_QUERN_test", QUERN_LAYER_LOG=str(log))
        env["VK_LAYER_PATH"] = str(LAYER)  # for loaders that do not know the former
    if shaderc:
        env["LD_LIBRARY_PATH"] = SHADERC
    return env


def arguments(model=MODELS[0]):
    return ["run", "-m", cli.model(model), "-p", "Once", "-n", "4", "--seed", "1", "--temp", "0", "--device", "vulkan"]


def run(env, model=MODELS[0]):
    return quern(*arguments(model), env=env)


@functools.lru_cache
def need_device():
    """What the model writes there."""
    with tempfile.TemporaryDirectory() as folder:
        result = quern(*arguments(), env=environment(folder), code=None)
    if result.code != 0:
        raise cli.Skip(f"there is no Vulkan device: {result.lines[0]}")
    return result.out


def layer_run(folder, model=MODELS[0], **more):
    """What was printed, how many pipelines the cache had and had not, and the lines about the cache's data."""
    log = pathlib.Path(folder) / "layer.log"
    log.unlink(missing_ok=True)
    result = run(environment(folder, log, **more), model)
    lines = log.read_text().splitlines()
    assert not [line for line in lines if line.startswith(("breach", "leak"))], lines
    count = {word: sum(line.startswith(f"pipeline {word}") for line in lines) for word in ("hit", "miss", "uncached")}
    return result, count, [line for line in lines if line.startswith("cache ")]


TRIED = tempfile.TemporaryDirectory()


def brought_up(folder, **more):
    """The device is tried, so that no helper does it from now on, and no pipelines of that are kept."""
    known = pathlib.Path(TRIED.name)
    if not any(known.iterdir()):
        layer_run(known)
        for path in kept(known):
            path.unlink()
    if not more:
        shutil.copytree(known, folder, dirs_exist_ok=True)
        return
    before = kept(folder)
    layer_run(folder, **more)
    for path in kept(folder):
        if path not in before:
            path.unlink()


def kept(folder):
    return sorted(pathlib.Path(folder).glob("pipelines-*.qnc"))


def test_pipelines_survive():
    expected = need_device()
    with tempfile.TemporaryDirectory() as folder:
        brought_up(folder)
        first, count, _ = layer_run(folder)
        n = count["miss"]
        assert first.out == expected and n > 3 and count["hit"] == count["uncached"] == 0, count
        assert len(kept(folder)) == 1
        written = kept(folder)[0].read_bytes()
        again, count, cache = layer_run(folder)
        assert again.out == expected and count == {"hit": n, "miss": 0, "uncached": 0}, count
        assert f"cache in {n} good" in cache, cache
        assert kept(folder)[0].read_bytes() == written
        # without a cache directory nothing is kept, and nothing breaks
        off = environment("off", pathlib.Path(folder) / "off.log")
        assert run(off).out == expected


def test_pipelines_merge():
    """Two processes that began with nothing both find all of theirs afterwards, whoever ended last."""
    need_device()
    with tempfile.TemporaryDirectory() as folder:
        brought_up(folder)
        _, first, _ = layer_run(folder, MODELS[0])
        _, second, _ = layer_run(folder, MODELS[1])
        assert second["hit"] > 0 and second["miss"] > 0, second
        for model, count in zip(MODELS, (first, second)):
            _, now, _ = layer_run(folder, model)
            assert now == {"hit": count["hit"] + count["miss"], "miss": 0, "uncached": 0}, now
    with tempfile.TemporaryDirectory() as folder:
        brought_up(folder)
        logs = [pathlib.Path(folder) / f"{i}.log" for i in range(2)]
        both = [subprocess.Popen([cli.EXE, *map(os.fspath, arguments(model))], env=environment(folder, log),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE) for model, log in zip(MODELS, logs)]
        for process in both:
            _, err = process.communicate(timeout=100)
            assert process.returncode == 0 and b"thrown away" not in err, err
        for model in MODELS:
            layer_run(folder, model)
        for model in MODELS:
            assert layer_run(folder, model)[1]["miss"] == 0


def test_pipelines_damaged():
    need_device()
    with tempfile.TemporaryDirectory() as folder:
        brought_up(folder)
        _, count, _ = layer_run(folder)
        n = count["miss"]
        path = kept(folder)[0]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        result, count, cache = layer_run(folder)
        assert count["miss"] == n and not any(line.startswith("cache in") and " 0 " not in line for line in cache), cache
        assert any(path.name in line and "thrown away" in line for line in result.lines), result.lines
        assert layer_run(folder)[1] == {"hit": n, "miss": 0, "uncached": 0}
        # pipelines of another driver are kept beside these
        brought_up(folder, QUERN_LAYER_DEVICE="pipelineCacheUUID=7")
        _, count, _ = layer_run(folder, QUERN_LAYER_DEVICE="pipelineCacheUUID=7")
        assert count["miss"] == n and len(kept(folder)) == 2
        assert layer_run(folder)[1]["hit"] == n


def test_pipeline_faults():
    """A driver whose pipeline caches fail costs time only; pipelines that cannot be made are told."""
    expected = need_device()
    with tempfile.TemporaryDirectory() as folder:
        brought_up(folder)
        for call in ("vkCreatePipelineCache", "vkGetPipelineCacheData", "vkMergePipelineCaches"):
            result, _, _ = layer_run(folder, QUERN_LAYER_FAULT=f"{call}@1+=VK_ERROR_OUT_OF_HOST_MEMORY")
            assert result.out == expected, call
        env = environment(folder, pathlib.Path(folder) / "l.log",
                          QUERN_LAYER_FAULT="vkCreateComputePipelines@3=VK_ERROR_OUT_OF_DEVICE_MEMORY")
        result = quern(*arguments(), env=env, code=1)
        assert "vkCreateComputePipelines" in result.lines[-1], result.lines
        assert "leak" not in (pathlib.Path(folder) / "l.log").read_text()


def test_import():
    """The trial measures whether weights are as fast where the file is mapped; then they stay there. Without a trial, or
    where the setting forbids it, they are copied."""
    def imports(folder, **more):
        log = pathlib.Path(folder) / "layer.log"
        log.unlink(missing_ok=True)
        assert run(environment(folder, log, **more)).out == need_device()
        calls = re.findall(r"^calls vkGetMemoryHostPointerPropertiesEXT (\d+)$", log.read_text(), re.M)
        return max(map(int, calls), default=0)

    need_device()
    with tempfile.TemporaryDirectory() as folder:
        brought_up(folder)
        verdicts = [p for p in pathlib.Path(folder).rglob("*") if p.is_file() and b"quern-verdict" in p.read_bytes()]
        assert len(verdicts) == 1, verdicts
        measured = b"import 1" in verdicts[0].read_bytes()
        assert (imports(folder) > 0) == measured
        assert imports(folder, QUERN_VK_IMPORT="1") > 0
        assert imports(folder, QUERN_VK_IMPORT="0") == 0


def starts(folder, **more):
    rows = quern("bench", "--start", "-m", cli.model(MODELS[0]), "--device", "vulkan", "-o", "json",
                 env=environment(folder, **more)).json()
    return {row["part"]: row for row in rows}


def need_shaderc():
    expected = need_device()
    if not SHADERC:
        raise cli.Skip("libshaderc-dev, glslang-dev and spirv-tools are not here")
    return expected


def test_shaders_from_a_folder():
    expected = need_shaderc()
    with tempfile.TemporaryDirectory() as folder:
        shaders = pathlib.Path(folder) / "shaders"
        shutil.copytree(cli.SOURCE / "shaders", shaders)
        env = environment(folder, shaderc=True, QUERN_VK_SHADERS=str(shaders))
        assert run(env).out == expected
        compiled = sorted(pathlib.Path(folder).glob("spirv-*.qnc"))
        assert len(compiled) > 3
        assert run(env).out == expected and sorted(pathlib.Path(folder).glob("spirv-*.qnc")) == compiled
        parts = starts(folder, shaderc=True, QUERN_VK_SHADERS=str(shaders))
        assert parts["make pipelines"]["warm_n"] > 3 and parts["compile GLSL"]["warm_n"] == 0, parts
        # what a kernel includes counts
        path = shaders / "lib" / "step.glsl"
        path.write_text(path.read_text() + "\n// changed\n")
        before = len(list(pathlib.Path(folder).glob("spirv-*.qnc")))
        assert run(env).out == expected
        assert len(list(pathlib.Path(folder).glob("spirv-*.qnc"))) > before


def test_progress():
    """What takes long shows its progress at a terminal, and never over the text."""
    need_shaderc()
    with tempfile.TemporaryDirectory() as folder:
        more = {"QUERN_VK_SHADERS": str(cli.SOURCE / "shaders")}
        env = environment(folder, log=pathlib.Path(folder) / "log", shaderc=True,
                          QUERN_LAYER_FAULT="vkCreateComputePipelines@1+=slow", **more)
        with Terminal(*arguments(), **env) as terminal:
            terminal.expect("compile kernels [")
            terminal.expect("Once")
            assert terminal.ends() == 0
            after = terminal.shown[terminal.at:].split(b"load ")[0]
            assert b"compile" not in after and b"\x1b[K" not in after, after
    with tempfile.TemporaryDirectory() as folder:
        result = run(environment(folder, shaderc=True, QUERN_VK_SHADERS=more["QUERN_VK_SHADERS"]))
        assert b"compile" not in result.err, result.err


def test_shaders_with_faults():
    need_shaderc()
    with tempfile.TemporaryDirectory() as folder:
        shaders = pathlib.Path(folder) / "shaders"
        shutil.copytree(cli.SOURCE / "shaders", shaders)
        env = environment(folder, shaderc=True, QUERN_VK_SHADERS=str(shaders))

        def fault(says):
            for _ in range(2):  # the second time from the cache
                result = quern(*arguments(), env=env, code=1)
                assert re.search(says, result.lines[-1]), result.lines

        norm = shaders / "norm.comp"
        text = norm.read_text()
        norm.write_text(text.replace("void main()", "float wrong = vec2(0).z;\nvoid main()", 1))
        line = norm.read_text().splitlines().index("float wrong = vec2(0).z;") + 1
        fault(rf"kernel norm: norm\.comp:{line}: error: ")
        norm.write_text(text + '\n#include "lib/missing.glsl"\n')
        fault(rf"kernel norm: norm\.comp:{len(text.splitlines()) + 2}: there is no lib/missing\.glsl")
        shutil.rmtree(shaders)
        fault(r"no such folder of kernels")


def test_without_shaderc():
    need_device()
    with tempfile.TemporaryDirectory() as folder:
        empty = pathlib.Path(folder) / "libshaderc.so.1"
        empty.write_text("no library")
        (pathlib.Path(folder) / "libshaderc_shared.so.1").write_text("no library")
        env = environment(folder, QUERN_VK_SHADERS=str(cli.SOURCE / "shaders"), LD_LIBRARY_PATH=folder)
        result = quern(*arguments(), env=env, code=1)
        assert "there is no shaderc" in result.lines[-1] and "libshaderc" in result.lines[-1], result.lines


if __name__ == "__main__":
    cli.main(globals())
