"""--keep-layouts: laid out weights are kept beside the model, or in the cache, and used by the next start."""
import os
import pathlib
import resource
import signal
import subprocess
import tempfile

import cli
from cli import quern


class Home:
    """A folder with a model whose weights take several pieces, and a cache."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.model = self.folder / "m.gguf"
        self.kept = self.folder / "m.gguf.layouts"
        self.env = cli.environment(QUERN_CACHE_DIR=str(self.folder / "cache"))
        subprocess.run([os.environ["QUERN_RANDOM_MODEL"], "tiny", "q4_k_m", self.model, "--layers", "1", "--width", "512",
                        "--vocabulary", "20000"], check=True, stdout=subprocess.DEVNULL)

    def run(self, *args):
        """The answer and the lines of the log."""
        done = quern("run", "-m", self.model, "--device", "cpu", "-t", "2", "-n", "24", "--temp", "0", "-p", "some words",
                     "-v", *args, env=self.env)
        lines = [line for line in done.lines if "info: " in line or "warning: " in line]
        return done.out, lines

    def keeps(self, *args):
        return self.run("--keep-layouts", *args)

    def memory(self, *args):
        out = quern("profile", self.model, "--device", "cpu", "--json", *args, env=self.env).json()
        return out["memory"][0]


def has(lines, *words):
    return any(all(word in line for word in words) for line in lines)


def home(folder):
    made = Home(folder)
    _, lines = made.run("--no-repack")
    assert not has(lines, "laid out")
    if made.memory()["weights"] == 0:
        raise cli.Skip("this processor lays out nothing")
    return made


def test_kept():
    with tempfile.TemporaryDirectory() as folder:
        h = home(folder)
        want, _ = h.run()
        assert not h.kept.exists()
        out, lines = h.keeps()
        assert out == want and has(lines, "are kept in", str(h.kept)) and h.kept.stat().st_size > 8 << 20
        before = h.kept.read_bytes()
        out, lines = h.keeps()
        assert out == want and not has(lines, "are kept") and not has(lines, "warning")
        assert h.kept.read_bytes() == before
        assert sorted(p.name for p in h.folder.iterdir() if p.is_file()) == ["m.gguf", "m.gguf.layouts"]
        # profile shows it as mapped, where it was private before
        private, mapped = h.memory(), h.memory("--keep-layouts")
        assert private["weights"] > 8 << 20 and mapped["weights"] == 0
        assert mapped["mapped"] - private["mapped"] == private["weights"]
        assert h.run("--no-repack", "--keep-layouts")[0] == want


def test_changed():
    with tempfile.TemporaryDirectory() as folder:
        h = home(folder)
        want, _ = h.keeps()
        good = h.kept.read_bytes()
        h.kept.write_bytes(good[:8] + b"\x63" + good[9:])
        out, lines = h.keeps()
        assert out == want and has(lines, "not used", "another version") and has(lines, "are kept")
        assert h.kept.read_bytes() == good
        h.kept.write_bytes(good[:-1])
        out, lines = h.keeps()
        assert out == want and has(lines, "not used", "sizes") and h.kept.read_bytes() == good
        h.kept.write_bytes(good[:-4096] + b"x" * 4096)
        done = quern("profile", h.model, "--device", "cpu", "--keep-layouts", env=h.env)
        assert has(done.lines, "thrown away", "checksum") and h.kept.read_bytes() == good
        os.utime(h.model, (1, 1))
        out, lines = h.keeps()
        assert out == want and has(lines, "not used", "has changed") and has(lines, "are kept")
        out, lines = h.keeps()
        assert out == want and not has(lines, "warning")


def kill_in_the_middle(h):
    """Starts and kills until one start has died while it wrote; what it has left behind."""
    command = [cli.EXE, "run", "-m", h.model, "--device", "cpu", "-n", "4", "-p", "some words", "--keep-layouts"]
    for _ in range(100):
        with subprocess.Popen(command, env=h.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            parts = []
            while not parts and process.poll() is None:
                parts = [p for p in h.folder.iterdir() if p.suffix == ".part"]
            process.kill()
        if process.returncode == -signal.SIGKILL and parts and parts[0].exists() and not h.kept.exists():
            return parts[0]
        for path in h.folder.iterdir():
            if path.suffix == ".part":
                path.unlink()
        h.kept.unlink(missing_ok=True)
    raise AssertionError("no start was killed while it wrote")


def test_killed():
    """Killed in the middle of the write: nothing is used of what there is."""
    with tempfile.TemporaryDirectory() as folder:
        h = home(folder)
        want, _ = h.run()
        part = kill_in_the_middle(h)
        out, lines = h.keeps()
        assert out == want and not has(lines, "warning") and h.kept.exists()
        os.utime(part, (1, 1))  # nobody writes it any more
        assert h.keeps()[0] == want and not part.exists()


def test_full():
    """No room beside the model nor in the cache: a line, and the answer."""
    with tempfile.TemporaryDirectory() as folder:
        h = home(folder)
        want, _ = h.run()
        done = subprocess.run(
            [cli.EXE, "run", "-m", h.model, "--device", "cpu", "-t", "2", "-n", "24", "--temp", "0", "-p", "some words",
             "--keep-layouts"], env=h.env, capture_output=True, check=False, restore_signals=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20)))
        lines = done.stderr.decode().splitlines()
        assert done.returncode == 0 and done.stdout == want
        assert sum("warning" in line for line in lines) == 1 and has(lines, "warning", "not kept"), lines
        assert [p.name for p in h.folder.iterdir() if p.is_file()] == ["m.gguf"]


def test_cache():
    with tempfile.TemporaryDirectory() as folder:
        h = home(folder)
        want, _ = h.run()
        h.kept.mkdir()  # so that nothing can be written there
        out, lines = h.keeps()
        assert out == want and has(lines, "in the cache")
        kinds = quern("cache", "--json", env=h.env).json()["kinds"]
        entry = next(kind for kind in kinds if kind["kind"] == "layouts")
        assert entry["entries"] == 1 and entry["bytes"] > 8 << 20
        h.kept.rmdir()
        out, lines = h.keeps()
        assert out == want and not has(lines, "are kept") and not h.kept.exists()
        assert quern("cache", "clear", "layouts", "--json", env=h.env).json()["entries"] == 1
        out, lines = h.keeps()
        assert out == want and has(lines, "are kept in", str(h.kept))


if __name__ == "__main__":
    cli.main(globals())
