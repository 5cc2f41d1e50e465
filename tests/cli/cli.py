"""What the tests of the command share: running it, and the small runner. A test file defines functions named
test_*; main() runs them and prints "ok NAME", "FAILED NAME" or "skipped NAME" for each."""
import functools
import json
import os
import pathlib
import subprocess
import sys
import time
import traceback

EXE = os.environ["QUERN_EXE"]
SOURCE = pathlib.Path(os.environ["QUERN_SOURCE"])
GOLDEN = SOURCE / "tests" / "golden"
MODEL = GOLDEN / "models" / "llama.gguf"
TOKENS = GOLDEN / "golden" / "tokens48.txt"
# A second is what people wait; sanitizers need more.
PATIENCE = 5.0


class Skip(Exception):
    pass


def model(name="llama.gguf"):
    path = GOLDEN / "models" / name
    if not path.exists():
        raise Skip(f"{path} is not here")
    return path


def shared(folder):
    """A folder of the reference data that is not part of the project."""
    path = pathlib.Path(os.environ.get("QUERN_SHARED", "../shared")) / folder
    if not path.exists():
        raise Skip(f"reference data {path} is not here")
    return path


def environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("QUERN_")}
    env["QUERN_CACHE_DIR"] = env["QUERN_PROFILE_DIR"] = "off"  # tests leave the user's alone
    env.update(more)
    return env


class Result:
    def __init__(self, code, out, err, seconds):
        self.code, self.out, self.err, self.seconds = code, out, err, seconds

    @property
    def text(self):
        return self.out.decode()

    @property
    def lines(self):
        """Lines of stderr."""
        return self.err.decode(errors="replace").splitlines()

    def json(self):
        return json.loads(self.out.decode())


def quern(*args, stdin=b"", env=None, code=0, timeout=60):
    """Runs the command in pipes and expects the exit code (None: any)."""
    begin = time.monotonic()
    done = subprocess.run([EXE, *map(os.fspath, args)], input=stdin, capture_output=True, timeout=timeout,
                          env=env or environment(), check=False)
    result = Result(done.returncode, done.stdout, done.stderr, time.monotonic() - begin)
    if code is not None and result.code != code:
        raise AssertionError(f"{args}: exit code {result.code}, expected {code}\n{result.err.decode(errors='replace')}")
    return result


@functools.cache
def has_vulkan():
    """Whether the command was built with the Vulkan driver."""
    return "vulkan" in quern("device", "schema").text


def fails(code, *args, stdin=b"", says=()):
    """Expects exit code 1 or 2, nothing on stdout and one line on stderr with all of `says` in it."""
    result = quern(*args, stdin=stdin, code=code)
    assert result.out == b"", result.out[:200]
    assert len(result.lines) == 1, result.lines
    for word in says:
        assert word in result.lines[0], (word, result.lines[0])
    return result


def main(names):
    failed = skipped = ran = 0
    for name, test in list(names.items()):
        if not name.startswith("test_"):
            continue
        try:
            test()
            ran += 1
            print("ok", name, flush=True)
        except Skip as reason:
            skipped += 1
            print("skipped", name, flush=True)
            print(f"SKIPPED: {name}: {reason}", file=sys.stderr)
        except Exception:
            failed += 1
            print("FAILED", name, flush=True)
            traceback.print_exc()
    sys.exit(1 if failed else 77 if skipped and not ran else 0)
