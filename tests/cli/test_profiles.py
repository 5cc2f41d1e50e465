"""quern device check, profiles, show, emulate: device profiles from end to end."""
import pathlib
import re
import tempfile

import cli
from cli import fails, quern

FAULTS = cli.SOURCE / "tests" / "profiles" / "faults"
BUILT_IN = cli.SOURCE / "drivers" / "profiles"
HEAD = "quern-profile: 1\nname: {}\nmatch:\n  api: cpu\n"


def has_vulkan():
    return "vulkan" in quern("device", "check", FAULTS / "unknown-driver.yaml", code=1).text


def check(path):
    """Faults that are found in a file, without its path."""
    result = quern("device", "check", path, code=None)
    lines = result.text.splitlines()
    assert (result.code == 0) == (lines == [f"{path}: ok"]) and result.code in (0, 1), result.text
    assert all(line.startswith(f"{path}:") for line in lines), result.text
    return [line[len(str(path)) + 1:].strip() for line in lines]


def test_faults():
    """Each file names, behind its text, the faults that it has."""
    vulkan = has_vulkan()
    n = 0
    for path in sorted(FAULTS.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        expected = re.findall(r"^# expected: (.*)$", text, re.M)
        if "api: vulkan" in text and not vulkan:
            continue
        assert expected, f"{path} says nothing that is expected"
        found = check(path)
        assert found == expected, f"{path}:\n" + "\n".join(found)
        n += 1
    assert n >= 20, n


def test_built_in():
    files = sorted(BUILT_IN.glob("*.yaml"))
    names = {item["name"] for item in quern("device", "profiles", "--json").json()}
    for path in files:
        text = path.read_text(encoding="utf-8")
        if "api: vulkan" in text and not has_vulkan():
            continue
        assert check(path) == ["ok"], check(path)
        assert re.search(r"^name: (\S+)$", text, re.M).group(1) == path.stem
        assert path.stem in names
        keys = set(re.findall(r"^([a-z]+):", text, re.M))
        if path.stem != "generic":
            assert {"about", "sources", "match"} <= keys, f"{path}: has only {keys}"
        if path.stem not in ("generic", "lavapipe"):
            assert "unmeasured" in keys, f"{path} does not say what nobody has measured"
        quirks = re.findall(r"^    reason: (.*)$", text, re.M)
        assert len(re.findall(r"^    link: https://", text, re.M)) == len(quirks), f"{path}: a quirk without a link"


def folder(**files):
    path = pathlib.Path(tempfile.mkdtemp(prefix="quern-profiles-"))
    for name, text in files.items():
        (path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return path


def settings(*args, **env):
    shown = quern("device", "show", "cpu", "--json", *args, env=cli.environment(**env)).json()
    return shown["profile"], {s["setting"]: (s["text"], s["profile"], s["overruled"]) for s in shown["settings"]}


def test_layers():
    """The closest profile counts, on top of those that it extends; a value knows where it is from."""
    path = folder(base=HEAD.format("base") + "threads:\n  count: 3\nweights:\n  layout: file\n",
                  closer=HEAD.format("closer").replace("match:\n  api: cpu\n", "extends: base\nmatch:\n  device: '*'\n") +
                  "threads:\n  count: 2\n")
    name, values = settings(QUERN_PROFILE_DIR=str(path))
    assert name == "closer"
    assert values["weights.layout"] == ("file", "base", False)
    assert values["threads.count"] == ("2", "closer", False)
    text = quern("device", "show", "cpu", "-v", env=cli.environment(QUERN_PROFILE_DIR=str(path))).text
    assert "3 (overruled)" in text and "closer.yaml:" in text
    # the one that is named by hand comes before all others
    hand = path / "hand.txt"
    hand.write_text(HEAD.format("hand") + "threads:\n  count: 1\n", encoding="utf-8")
    assert settings("--profile", hand, QUERN_PROFILE_DIR=str(path))[0] == "hand"
    assert settings(QUERN_PROFILE=str(hand), QUERN_PROFILE_DIR=str(path))[0] == "hand"


def test_circle_and_faulty_base():
    a = HEAD.format("a") + "extends: b\n"
    b = HEAD.format("b") + "extends: a\n"
    bad = HEAD.format("bad") + "threads: {count: 0}\n"
    child = HEAD.format("child") + "extends: bad\n"
    path = folder(a=a, b=b, bad=bad, child=child)
    err = quern("device", "profiles", env=cli.environment(QUERN_PROFILE_DIR=str(path))).err.decode()
    assert 'a.yaml:2:7: extends: "b" leads back to this profile' in err, err
    assert 'child.yaml:2:7: extends: "bad" has faults of its own' in err, err
    name, _ = settings(QUERN_PROFILE_DIR=str(path))
    assert name not in ("a", "b", "bad", "child")


def test_overlay():
    path = folder(base=HEAD.format("base") + "threads:\n  count: 3\n",
                  tuned=HEAD.format("tuned") + "overlay: true\nthreads:\n  count: 1\n")
    name, values = settings(QUERN_PROFILE_DIR=str(path))
    assert name == "base" and values["threads.count"] == ("1", "tuned", False)


def test_used():
    """What a profile says reaches the driver."""
    path = folder(p=HEAD.format("p") + "threads:\n  count: 1\nweights:\n  layout: file\n")
    run = ["run", "-m", cli.model(), "-p", "Once", "-n", "4", "--device", "cpu", "--temp", "0"]
    assert quern(*run, env=cli.environment(QUERN_PROFILE_DIR=str(path))).out == quern(*run).out
    bad = folder(p=HEAD.format("p") + "threads:\n  count: none\n") / "p.yaml"
    fails(1, *run, "--profile", bad,
          says=[f"{bad}:6:10: threads.count is \"none\", expected a whole number from 1 to 512"])


def test_emulate():
    path = folder(p="quern-profile: 1\nname: p\nmatch:\n  api: cpu\n  device: no such processor\nthreads: {count: 1}\n")
    shown = quern("device", "emulate", path / "p.yaml", "device", "show", "cpu", "--json").json()
    assert shown["profile"] == "p"
    fails(2, "device", "emulate", says=["expected a profile"])
    fails(1, "device", "emulate", path / "not-there.yaml", "device", "list", says=["not-there.yaml"])
    fails(2, "device", "emulate", path / "p.yaml", "walk", says=["no verb"])


def test_verify():
    report = quern("device", "verify", "cpu", "add", "norm", "q4_0", "--json").json()
    assert report["failed"] == 0 and {row["operation"] for row in report["rows"]} == {"add", "norm"}
    text = quern("device", "verify", "cpu", "rows", "--random", "3").text
    assert "0 failed in 0 rows" in text and "rows" in text
    fails(2, "device", "verify", says=["expected the ID"])
    fails(1, "device", "verify", "cpu", "walk", says=['"walk" is no operation or number format'])


if __name__ == "__main__":
    cli.main(globals())
