"""Damaged and odd files: one line and exit code 1, or they run; within a second; never a crash."""
import cli
from cli import quern

FOLDER = cli.GOLDEN / "malformed"


def rows():
    index = FOLDER / "INDEX.tsv"
    if not index.exists():
        raise cli.Skip(f"{index} is not here")
    for line in index.read_text().splitlines():
        fields = line.split("\t")
        if fields[0].endswith(".gguf") and (FOLDER / fields[0]).exists():
            yield FOLDER / fields[0], line


def check(path, line, *args):
    result = quern(*args, code=None)
    assert result.code in (0, 1), f"{path.name}: exit code {result.code}"
    assert result.seconds < cli.PATIENCE, f"{path.name}: {result.seconds:.1f} s"
    faults = [text for text in result.lines if text.startswith("quern: ") and "quern: warning: " not in text]
    if result.code == 1:
        assert len(faults) == 1 and path.name in faults[0], (path.name, result.lines)
        assert "VALID" not in line, (line, faults)
    else:
        assert not faults, (path.name, faults)
    return result.code


def test_run():
    refused = 0
    for path, line in rows():
        refused += check(path, line, "run", "-m", path, "-p", "ab", "-n", "4", "--no-timings", "--temp", "0")
    assert refused > 20


def test_inspect():
    for path, line in rows():
        check(path, line, "inspect", path, "--json")


def test_tokenize():
    for path, line in rows():
        check(path, line, "tokenize", "-m", path, "-p", "some text")


if __name__ == "__main__":
    cli.main(globals())
