"""quern run."""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import cli
from cli import environment, fails, quern

GREEDY = ["--temp", "0", "-p", "Hello there"]


def run(*args, **more):
    return quern("run", "-m", cli.model(), *args, **more)


def test_text_and_timings():
    result = run(*GREEDY, "-n", "8")
    assert result.out.startswith(b"Hello there") and result.out.endswith(b"\n")
    for word in (b"load", b"prompt", b"generated", b"t/s", b"first token"):
        assert word in result.err
    assert b"\r" not in result.err and b"\x1b" not in result.err  # no bar in a pipe
    without = run(*GREEDY, "-n", "8", "--no-display-prompt", "--no-timings")
    assert b"Hello there" + without.out == result.out
    assert without.err == b""


def test_prompts():
    expected = run(*GREEDY, "-n", "8").out
    assert run("--temp", "0", "-n", "8", stdin=b"Hello there\n").out == expected
    assert run("--temp", "0", "-n", "8", "-f", "-", stdin=b"Hello there").out == expected
    path = "prompt.txt"
    with open(path, "wb") as file:
        file.write(b"Hello there")
    assert run("--temp=0", "--n-predict=8", f"--file={path}").out == expected
    os.unlink(path)
    assert run("--temp", "0", "-n", "0", "-p", r"a\tb\x41").out == b"a\tbA\n"
    assert run("--temp", "0", "-n", "0", "-p", r"a\tb", "--no-escape").out == b"a\\tb\n"


def test_same_for_any_threads():
    first = run(*GREEDY, "-n", "32", "-t", "1").out
    for threads in ("2", "3", "4"):
        assert run(*GREEDY, "-n", "32", "-t", threads).out == first
    assert run(*GREEDY, "-n", "32", env=environment(QUERN_THREADS="3", QUERN_DEVICE="cpu")).out == first
    assert run(*GREEDY, "-n", "32", "--device", "cpu", "-b", "1").out == first


def test_trained_model():
    """The stored continuation of a trained model, token by token and as text."""
    folder = cli.shared("goldens")
    path, text = folder / "models" / "stories260K.gguf", folder / "golden" / "stories260K.once.txt"
    ids = (folder / "golden" / "stories260K.once.ids.txt").read_text().split("greedy64:")[1].split()
    args = ["run", "-m", path, "-p", "Once upon a time", "-n", "64", "--temp", "0"]
    out = quern(*args, "--json").json()
    assert [str(t["id"]) for t in out["tokens"]] == ids
    assert quern(*args, "--no-display-prompt").text.rstrip("\n") == text.read_text().rstrip("\n")


def test_seeds():
    def sample(*args):
        return run("-p", "Hello", "-n", "24", "--no-display-prompt", "--temp", "2", "--top-k", "0", *args)

    assert sample("-s", "7").out == sample("--seed", "7").out
    assert sample("-s", "7").out != sample("-s", "8").out
    result = sample()
    seed = next(line.split()[1] for line in result.lines if line.startswith("seed"))
    assert sample("-s", seed).out == result.out
    assert b"seed" not in sample("-s", "7").err


def test_json():
    out = run(*GREEDY, "-n", "6", "--json", "--n-probs", "3").json()
    assert out["prompt"] == "Hello there" and out["stop"] == "length"
    assert len(out["tokens"]) == 6 == out["timings"]["generated_n"]
    for token in out["tokens"]:
        probs = token["probs"]
        assert len(probs) == 3 and probs[0]["id"] == token["id"]
        assert 1 >= probs[0]["prob"] >= probs[1]["prob"] >= probs[2]["prob"] >= 0
    assert out["timings"]["first_token_ms"] >= out["timings"]["prompt_ms"] > 0


def test_bias():
    greedy = run(*GREEDY, "-n", "1", "--json").json()["tokens"][0]["id"]
    other = run(*GREEDY, "-n", "1", "--json", "--logit-bias", f"{greedy}-inf").json()["tokens"][0]["id"]
    assert other != greedy
    forced = run(*GREEDY, "-n", "3", "--json", "--logit-bias", "50+1000", "--ignore-eos").json()["tokens"]
    assert [t["id"] for t in forced] == [50, 50, 50]
    fails(2, "run", "-m", cli.model(), *GREEDY, "--logit-bias", "99999999+1", says=["99999999"])


def test_stop_strings():
    args = ["--no-display-prompt", "--no-timings", "--no-escape", "--ignore-eos"]
    text = run(*GREEDY, "-n", "40", *args).out
    tried = 0
    for begin in range(4, len(text) - 8, 5):
        for length in (1, 2, 5):
            stop = text[begin:begin + length]
            if b"\0" in stop or b"\xef\xbf\xbd" in stop:
                continue
            try:
                word = stop.decode()
            except UnicodeDecodeError:
                continue
            out = run(*GREEDY, "-n", "40", "--stop", word, "--stop", "never in there", *args).out
            before = text[:text.index(stop)]
            assert out == (before if before.endswith(b"\n") or not before else before + b"\n"), (stop, out, text)
            tried += 1
    assert tried >= 3
    assert run(*GREEDY, "-n", "40", "--stop", word, "--json", "--ignore-eos").json()["stop"] == "stop-string"


def test_full_context():
    out = run(*GREEDY, "-n", "100", "-c", "16", "--ignore-eos", "--json").json()
    assert out["stop"] == "context"
    assert out["timings"]["generated_n"] + out["timings"]["prompt_n"] in (16, 17)
    out = run(*GREEDY, "-n", "100", "-c", "16", "--ignore-eos", "--json", "--context-shift", "--keep", "2").json()
    assert out["stop"] == "length" and len(out["tokens"]) == 100
    fails_late = quern("run", "-m", cli.model(), "-c", "8", "-p", "word " * 50, "--no-display-prompt", code=1)
    assert len(fails_late.lines) == 1


def test_not_finite():
    for name in ("75-nan-weights.gguf", "76-inf-weights.gguf"):
        path = cli.GOLDEN / "malformed" / name
        if not path.exists():
            raise cli.Skip(f"{path} is not here")
        result = quern("run", "-m", path, "-p", "x", "-n", "4", "--no-display-prompt", code=1)
        assert len(result.lines) == 1 and name in result.lines[0], result.lines


def test_model_not_named():
    """QUERN_MODEL stands for -m; a program without a model of its own says what to do."""
    env = environment(QUERN_MODEL=str(cli.model()))
    named = quern("run", "-m", cli.model(), "--temp", "0", "-n", "4", "-p", "Hello").out
    assert quern("run", "--temp", "0", "-n", "4", "-p", "Hello", env=env).out == named
    missing = quern("run", "-p", "x", env=environment(QUERN_MODEL="not/here.gguf"), code=1)
    assert missing.lines[0].startswith("quern: not/here.gguf: "), missing.lines
    # nothing said at all: a story
    story = quern("run", "--temp", "0", "-n", "4", env=env)
    assert story.out.startswith(b"Once upon a time"), story.out
    assert quern("run", "--temp", "0", "-n", "4", stdin=b"Hello\n", env=env).out == named
    assert not run("--temp", "0", "-n", "4").out.startswith(b"Once")


def test_program_that_was_moved():
    """Away from its build folder the program looks for its model where an installation has it."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "bin").mkdir()
        (root / "share" / "quern").mkdir(parents=True)
        exe = shutil.copy(cli.EXE, root / "bin")

        def moved():
            return subprocess.run([exe, "run", "--temp", "0", "-n", "4", "-p", "Hello"], capture_output=True,
                                  env=environment(), check=False)

        without = moved()
        assert without.returncode == 2 and b"-m FILE" in without.stderr, without
        shutil.copy(cli.model(), root / "share" / "quern" / "quern-story-moe.gguf")
        assert moved().stdout.startswith(b"Hello")


def start(*args, stdin=subprocess.DEVNULL):
    return subprocess.Popen([cli.EXE, *map(os.fspath, args)], stdin=stdin, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=environment())


def interrupt(process):
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    seconds = time.monotonic() - begin
    assert seconds < cli.PATIENCE, seconds
    return out, err


def test_interrupt():
    endless = ["run", "-m", cli.model(), *GREEDY, "--ignore-eos", "--context-shift"]
    for args in (endless, [*endless[:-1], "-c", "60000"]):
        process = start(*args)
        first = os.read(process.stdout.fileno(), 1)
        while len(first) < 200:
            first += os.read(process.stdout.fileno(), 4096)
        out, err = interrupt(process)
        assert process.returncode == 0, (process.returncode, err)
        assert (first + out).startswith(b"Hello there") and b"interrupted" in err

    process = start(*endless, "--json")
    time.sleep(1)
    out, err = interrupt(process)
    assert process.returncode == 0, (process.returncode, err)
    assert b'"stop":"interrupted"' in out and out.endswith(b"}\n")


def test_interrupt_while_reading():
    process = start("run", "-m", cli.model(), stdin=subprocess.PIPE)
    time.sleep(0.5)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert time.monotonic() - begin < cli.PATIENCE
    process.communicate()


def test_closed_pipe():
    """A reader that leaves ends the run."""
    process = start("run", "-m", cli.model(), *GREEDY, "--ignore-eos", "--context-shift")
    os.read(process.stdout.fileno(), 100)
    process.stdout.close()
    begin = time.monotonic()
    process.wait(timeout=30)
    assert time.monotonic() - begin < cli.PATIENCE
    process.stderr.close()


if __name__ == "__main__":
    cli.main(globals())
