"""Devices whose drivers crash, hang or lie: what the command does about them, and what it remembers.

Needs the Vulkan loader; most tests also lavapipe. The layer of tests/layer plays the faults of devices, tests/support's
bad_icd those of drivers that do not survive being loaded."""
import contextlib
import ctypes
import glob
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile

import cli

LAYER = "VK_LAYER_QUERN_test"
RUN = ["-m", cli.MODEL, "-p", "hello", "-n", "2", "--seed", "1"]


def loader():
    try:
        ctypes.CDLL("libvulkan.so.1")
    except OSError:
        raise cli.Skip("there is no Vulkan loader; Debian has it in libvulkan1") from None


def lavapipe():
    loader()
    files = glob.glob("/usr/share/vulkan/icd.d/lvp_icd.*.json")
    if not files:
        raise cli.Skip("lavapipe is not here; tools/packages vulkan")
    return files[0]


def bad_icd(folder, how):
    """A manifest of a driver that crashes or hangs when it is loaded."""
    loader()
    path = pathlib.Path(folder) / f"{how}_icd.json"
    library = os.environ["QUERN_BAD_ICD_" + how.upper()]
    path.write_text(json.dumps({"file_format_version": "1.0.0", "ICD": {"library_path": library, "api_version": "1.3.230"}}))
    return os.fspath(path)


class Place:
    """A cache of its own, and the drivers that there are."""

    def __init__(self, folder, *manifests):
        self.folder = pathlib.Path(folder)
        self.env = cli.environment(QUERN_CACHE_DIR=os.fspath(self.folder / "cache"), QUERN_HELPER_SECONDS="60",
                                   VK_ADD_LAYER_PATH=os.environ["QUERN_LAYER_PATH"])
        self.env.pop("VK_ADD_DRIVER_FILES", None)
        self.drivers(*manifests)

    def drivers(self, *manifests):
        for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
            self.env[name] = ":".join(manifests)

    def quern(self, *args, code=0, **more):
        return cli.quern(*args, env={**self.env, **more}, code=code, timeout=200)

    def run(self, device="vulkan", code=0, **more):
        """Runs a model; with the lines of the log."""
        return self.quern("run", "--device", device, "-v", *RUN, code=code, **more)

    def list(self, **more):
        return {d["id"] or d["name"]: d for d in self.quern("device", "list", "--json", **more).json()}

    def marks(self):
        return sorted((self.folder / "cache" / "marks").glob("*"))


def fault(rule):
    return {"VK_INSTANCE_LAYERS": LAYER, "QUERN_LAYER_FAULT": rule}


@contextlib.contextmanager
def place(*manifests):
    with tempfile.TemporaryDirectory() as folder:
        yield Place(folder, *(m if os.path.isabs(m) else bad_icd(folder, m) for m in manifests))


def asked(result):
    """What the helper was asked for."""
    return [re.search(r"the helper (lists|tries|measures)", line).group(1) for line in result.lines
            if "info: driver vulkan: the helper" in line]


def has(result, *words):
    assert all(word in "\n".join(result.lines) for word in words), (words, result.lines)


def test_cpu_touches_nothing():
    with place("crash") as p:
        for device in ("cpu", "cpu,null"):
            result = p.run(device, LD_DEBUG="files")
            assert "vulkan" not in "\n".join(line for line in result.lines if "LD_DEBUG" not in line and "calling init" in line)
            assert asked(result) == []
        assert not (p.folder / "cache").exists()


def test_crash_on_load():
    with place(lavapipe(), "crash") as p:
        listed = p.list()
        bad = [d for d in listed.values() if d["state"] == "left-out"]
        assert [os.path.basename(d["name"]) for d in bad] == ["crash_icd.json"] and "signal 6" in bad[0]["reason"], bad
        assert "llvmpipe" in listed["vulkan"]["name"] and listed["vulkan"]["state"] == "untried"
        assert "left out: vulkan" in p.quern("device", "list").text
        result = p.run()
        assert asked(result) == ["tries"], result.lines
        assert asked(p.run()) == []
        assert p.list()["vulkan"]["state"] == "ready"


def test_nothing_but_a_crash():
    with place("crash") as p:
        listed = p.list()
        assert not any("vulkan" in d["id"] for d in listed.values())
        has(p.run(code=1), "crash_icd.json", "signal 6")
        has(p.run("vulkan,cpu"), "dropped at start", "crash_icd.json")
        assert asked(p.run("auto")) == []


def test_hang_on_load():
    with place(lavapipe(), "hang") as p:
        p.env["QUERN_HELPER_SECONDS"] = "2"
        bad = [d for d in p.list().values() if d["state"] == "left-out"]
        assert [os.path.basename(d["name"]) for d in bad] == ["hang_icd.json"] and "within 2 s" in bad[0]["reason"]
        p.env["QUERN_HELPER_SECONDS"] = "60"
        p.run()


def test_crash_of_a_device():
    with place(lavapipe()) as p:
        for rule, state in (("vkCreateInstance=crash", "left-out"), ("vkCreateDevice=crash", "refused"),
                            ("vkQueueSubmit=crash", "refused")):
            has(p.run(code=1, **fault(rule)), "signal 6")
            again = p.run("vulkan,cpu", **fault(rule))
            assert asked(again) == []
            has(again, "dropped at start", "signal 6")
            assert [d["state"] for d in p.list(**fault(rule)).values() if d["driver"] == "vulkan"] == [state]
            p.quern("device", "forget")


def test_hang_of_a_device():
    with place(lavapipe()) as p:
        has(p.run(code=1, QUERN_HELPER_SECONDS="3", **fault("vkQueueSubmit=hang")), "within 3 s")


def test_failing_device():
    with place(lavapipe()) as p:
        has(p.run(code=1, **fault("vkQueueSubmit=VK_ERROR_DEVICE_LOST")), "vkQueueSubmit: VK_ERROR_DEVICE_LOST")
        assert asked(p.run(code=1, VK_INSTANCE_LAYERS=LAYER)) == []  # the verdict stands
        # a large block may be refused where a smaller one is to be had; and memory may be there the next time
        p.quern("device", "forget")
        p.run(**fault("vkAllocateMemory=VK_ERROR_OUT_OF_DEVICE_MEMORY"))
        p.quern("device", "forget")
        has(p.run(code=1, **fault("vkAllocateMemory@1+=VK_ERROR_OUT_OF_DEVICE_MEMORY")), "OUT_OF_DEVICE_MEMORY")
        assert asked(p.run(VK_INSTANCE_LAYERS=LAYER)) == ["tries"]


def test_memory_of_its_own():
    """What the host reads of a device whose memory it does not see comes by copies, in the trial too."""
    with place(lavapipe()) as p:
        for heaps in ("discrete=256M", "discrete=256M,bar=16M"):
            gpu = {"VK_INSTANCE_LAYERS": LAYER, "QUERN_LAYER_DEVICE": "deviceType=discrete," + heaps}
            p.quern("device", "forget")
            assert "tries" in asked(p.run(**gpu))


def test_once_per_driver():
    with place(lavapipe()) as p:
        assert asked(p.run()) == ["lists", "tries"]
        assert asked(p.run()) == [] and asked(p.run(VK_LOADER_DEBUG="none")) == []
        assert asked(p.run(QUERN_VK_DISABLE="int-dot")) == ["tries"]  # another set of kernels
        copy = p.folder / "copy_icd.json"
        copy.write_bytes(pathlib.Path(lavapipe()).read_bytes())
        p.drivers(os.fspath(copy))
        assert asked(p.run()) == ["lists", "tries"] and asked(p.run()) == []
        os.utime(copy, (1, 1))  # as an update does
        assert asked(p.run()) == ["lists", "tries"]
        p.quern("device", "forget")
        assert asked(p.run()) == ["lists", "tries"]


def test_another_device():
    """A card that was exchanged while the drivers stayed: the kept list is an old one."""
    def card(number):
        return {"VK_INSTANCE_LAYERS": LAYER, "QUERN_LAYER_DEVICE": f"deviceID={number}"}
    with place(lavapipe()) as p:
        assert asked(p.run(**card(7))) == ["lists", "tries"]
        assert asked(p.run(**card(8))) == ["lists", "tries"]
        assert asked(p.run(**card(8))) == []
        assert asked(p.run(**card(7))) == ["lists"]  # its verdict is still there


def die(p, expected=-signal.SIGABRT):
    """A process that dies in the driver though the helper did not; leaves a mark."""
    assert p.run(code=None, **fault("vkQueueSubmit=crash")).code == expected
    assert len(p.marks()) == 1


def test_mark_of_a_dead_process():
    layer = {"VK_INSTANCE_LAYERS": LAYER}
    with place(lavapipe()) as p:
        assert asked(p.run(**layer)) == ["lists", "tries"] and p.marks() == []
        die(p)
        result = p.run(**layer)  # tried anew; good, and so is the run
        has(result, "first running a plan on llvmpipe", "died at this; it is tried anew")
        assert asked(result) == ["tries"] and p.marks() == []
        assert asked(p.run(**layer)) == []
        die(p)
        has(p.run(code=1, **fault("vkQueueSubmit=crash")), "the helper crashed (signal 6) in the trial")
        assert p.marks() == [] and p.list(**layer)["vulkan"]["state"] == "refused"
        p.quern("device", "forget")
        assert asked(p.run(**layer)) == ["lists", "tries"]


def test_quarantine():
    layer = {"VK_INSTANCE_LAYERS": LAYER}
    with place(lavapipe()) as p:
        p.run(**layer)
        die(p)
        mark = p.marks()[0]
        for i in range(2):  # of another process that died as well
            mark.with_name(f"{mark.name}-{i}").write_text("process 7: opening it")
        has(p.run(code=1, **layer), "3 processes in a row died", "quern device forget")
        listed = p.list(**layer)["vulkan"]
        assert listed["state"] == "refused" and "in a row died" in listed["reason"]
        assert asked(p.run("vulkan,cpu", **layer)) == []
        assert asked(p.run("auto", **layer)) == []
        p.quern("device", "forget")
        p.run(**layer)


def test_names():
    with place(lavapipe()) as p:
        copy = p.folder / "copy_icd.json"
        copy.write_bytes(pathlib.Path(lavapipe()).read_bytes())
        p.run("vulkan:LLVM")
        p.run("vulkan:pipe,cpu")
        p.run("vulkan:0")
        for wanted, word in (("vulkan:radeon", "radeon"), ("vulkan:1", "vulkan:1"), ("vulkan:", "vulkan:")):
            has(p.run(wanted, code=1), word)
        p.drivers(lavapipe(), os.fspath(copy))
        listed = p.list()
        if "vulkan:1" not in listed:
            raise cli.Skip("this loader shows one driver once")
        has(p.run("vulkan:llvm", code=1), "may be each of vulkan:0", "vulkan:1")
        p.run("vulkan:1")
        p.run("vulkan:0")
        p.run("vulkan")
        assert p.quern("device", "show", "vulkan:1", "--json").json()["id"] == "vulkan:1"


def test_show():
    with place(lavapipe()) as p:
        shown = p.quern("device", "show", "vulkan", "--json").json()
        facts = shown["facts"]
        for name in ("heap 0", "subgroup size", "8-bit dot products", "largest storage buffer", "shared memory",
                     "push constants", "invocations of a workgroup", "vulkan"):
            assert facts[name], (name, facts)
        text = p.quern("device", "show", "vulkan").text
        assert all(name in text for name in facts) and shown["name"] in text
        assert p.quern("device", "show", "vulkan:0").text == text
        has(p.quern("device", "show", "vulkan:9", code=1), "vulkan:9")
        assert p.quern("device", "show", code=2).out == b""


def test_auto_leaves_software_alone():
    with place(lavapipe()) as p:
        first = p.run("auto")
        assert asked(first) == ["lists"]
        has(first, "auto: cpu")
        assert asked(p.run("auto")) == []
        has(p.run("auto", QUERN_CACHE_DIR="off"), "auto: cpu")


def choice(rates):
    """What takes the least time for 512 tokens of a prompt and 128 of an answer."""
    def seconds(prefill, decode):
        return (512 / rates[prefill][1] + 128 / rates[decode][0]) * (1 if prefill == decode else 1.1)

    lists = {("cpu", "cpu"): "cpu", ("vulkan", "vulkan"): "vulkan,cpu", ("vulkan", "cpu"): "prefill=vulkan,cpu",
             ("cpu", "vulkan"): "decode=vulkan,cpu"}
    return lists[min(lists, key=lambda pair: seconds(*pair))]


def test_auto_measures():
    gpu = {"VK_INSTANCE_LAYERS": LAYER, "QUERN_LAYER_DEVICE": "deviceType=discrete"}
    slow = {"QUERN_CPU_ISA": "none", "QUERN_THREADS": "1"}
    with place(lavapipe()) as p:
        result = p.run("auto", **gpu, **slow)
        assert asked(result) == ["lists", "tries", "measures"]
        has(result, "weights/s")
        found = [line for line in result.lines if "against the processor" in line]
        decode, prefill = [[float(x) for x in pair] for pair in re.findall(r"([0-9.e+]+) to ([0-9.e+]+)", found[0])]
        taken = choice(dict(zip(("vulkan", "cpu"), zip(decode, prefill))))
        has(result, f"auto: {taken}")
        assert asked(p.run("auto", **gpu, **slow)) == []
        has(p.run("auto", **gpu, **slow), found[0].split("auto: ")[1])
        # what profiles say of both need not be measured
        costs = ("quern-profile: 1\nname: costs-{0}\nmatch: {{api: {0}}}\noverlay: true\n"
                 "costs: {{decode: {1} GB/s, prefill: {2} GOP/s}}\n")
        folder = p.folder / "profiles"
        folder.mkdir()
        for decode, prefill, best in ((9, 90, "vulkan,cpu"), (3, 30, "cpu"), (1, 500, "prefill=vulkan,cpu"),
                                      (50, 1, "decode=vulkan,cpu")):
            for api, rates in ("vulkan", (decode, prefill)), ("cpu", (5, 50)):
                (folder / f"costs-{api}.yaml").write_text(costs.format(api, *rates))
            result = p.run("auto", **gpu, QUERN_PROFILE_DIR=str(folder))
            assert asked(result) in (["tries"], [])
            has(result, f"decode {decode * 1777.8:.4g} to 8889, prefill", f"auto: {best}")
        # and what they wish
        wishes = "placement: {{prefill: {0}, decode: {1}}}\n"
        for prefill, decode, best in (("measure", "avoid", "cpu"), ("prefer", "avoid", "prefill=vulkan,cpu"),
                                      ("prefer", "measure", "vulkan,cpu"), ("avoid", "measure", "decode=vulkan,cpu")):
            (folder / "costs-vulkan.yaml").write_text(costs.format("vulkan", 40, 40) + wishes.format(prefill, decode))
            has(p.run("auto", **gpu, QUERN_PROFILE_DIR=str(folder)), f"auto: {best}")
        # a GPU that crashes is no GPU
        p.quern("device", "forget")
        result = p.run("auto", **{**gpu, **fault("vkQueueSubmit=crash")})
        has(result, "is not used: the helper crashed", "auto: cpu")


def test_wrong_settings():
    with place(lavapipe()) as p:
        has(p.run(code=1, QUERN_VK_DISABLE="no-such-feature"), "no-such-feature", "int-dot")
        assert "forget" not in "\n".join(p.run(code=1, QUERN_VK_DISABLE="no-such-feature").lines)


def test_setting_that_does_not_hold():
    """What a profile says and the device cannot do is told with its place."""
    with place(lavapipe()) as p:
        folder = p.folder / "profiles"
        folder.mkdir()
        path = folder / "wide.yaml"
        path.write_text("quern-profile: 1\nname: wide\noverlay: true\nmatch: {api: vulkan}\n"
                        "kernels: {subgroup: 64, matmul: {rows: 64}}\n")
        for _ in range(2):  # at first use, and from then on
            has(p.run(QUERN_PROFILE_DIR=str(folder)),
                f"{path}:5:21: kernels.subgroup is 64, which llvmpipe", "does not have; it has ")


def test_helper_alone():
    result = cli.quern("device-helper", "try", "null", "0", code=0, timeout=100)
    assert "good 0" in result.text and "wrong results" in result.text, result.text
    assert "good 1" in cli.quern("device-helper", "try", "cpu", "0").text
    for wrong in ([], ["list"], ["list", "nothing"], ["try", "cpu", "x"], ["dance", "cpu"], ["try", "cpu", "0", "", "x"]):
        assert cli.quern("device-helper", *wrong, code=1).out == b""


if __name__ == "__main__":
    cli.main(globals())
