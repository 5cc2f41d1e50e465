"""quern cache."""
import os
import pathlib
import tempfile

import cli
from cli import quern


def entry(folder, kind, digit, size):
    """A file that the cache takes for one of its entries, as long as nobody reads it."""
    path = pathlib.Path(folder) / f"{kind}-{digit * 32}.qnc"
    path.write_bytes(b"x" * size)
    return path


def test_show_and_clear():
    with tempfile.TemporaryDirectory() as folder:
        env = cli.environment(QUERN_CACHE_DIR=folder)
        assert quern("cache", "dir", env=env).text == folder + "\n"
        assert quern("cache", "--json", env=env).json() == {"dir": folder, "kinds": []}
        entry(folder, "spirv", "a", 100)
        entry(folder, "spirv", "b", 50)
        entry(folder, "spirv-a1", "b", 1)
        other = pathlib.Path(folder) / "notes.qnc"
        other.write_text("mine")
        shown = quern("cache", "--json", env=env).json()["kinds"]
        assert shown == [{"kind": "spirv", "entries": 2, "bytes": 150}, {"kind": "spirv-a1", "entries": 1, "bytes": 1}]
        text = quern("cache", env=env).text
        assert text.startswith(folder) and "spirv" in text and "150" in text
        assert "2 entries" in quern("cache", "clear", "spirv", env=env).text
        assert quern("cache", "clear", "--json", env=env).json() == {"entries": 1, "bytes": 1}
        assert [p.name for p in pathlib.Path(folder).iterdir()] == ["notes.qnc"]


def test_where():
    base = {k: v for k, v in cli.environment().items() if k not in ("QUERN_CACHE_DIR", "XDG_CACHE_HOME", "HOME")}
    if os.name == "posix":
        assert quern("cache", "dir", env={**base, "XDG_CACHE_HOME": "/x"}).text == "/x/quern\n"
        home = {**base, "HOME": "/home/me"}
        assert quern("cache", "dir", env=home).text == "/home/me/.cache/quern\n"
        assert quern("cache", "dir", env={**home, "XDG_CACHE_HOME": "relative"}).text == "/home/me/.cache/quern\n"
        assert quern("cache", "dir", env={**home, "QUERN_CACHE_DIR": ""}).text == "/home/me/.cache/quern\n"
    for env in (base, {**base, "QUERN_CACHE_DIR": "off"}):
        result = quern("cache", env=env, code=1)
        assert result.out == b"" and len(result.lines) == 1 and "QUERN_CACHE_DIR" in result.lines[0]


def test_wrong():
    cli.fails(2, "cache", "clean", says=["clear, dir"])
    cli.fails(2, "cache", "dir", "x", says=["\"x\""])


if __name__ == "__main__":
    cli.main(globals())
