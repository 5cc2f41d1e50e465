"""quern device check, profiles, show, emulate: device profiles from end to end."""
import pathlib
import re
import tempfile

import cli
from cli import fails, has_vulkan, quern

FAULTS = cli.SOURCE / "tests" / "profiles" / "faults"
BUILT_IN = cli.SOURCE / "drivers" / "profiles"
HEAD = "quern-profile: 1\nname: {}\nmatch:\n  api: cpu\n"


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
        if "vulkan" in text and not vulkan:
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
        if path.stem not in names and not has_vulkan():
            continue  # it is for Vulkan, or what it extends is
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
    assert "3 (overruled)" in text and "closer.yaml:7:10" in text
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


def test_quirks():
    """A quirk for other versions of the driver is not applied, and shown with its range."""
    text = HEAD.format("q") + """quirks:
  - threads: {count: 1}
    reason: it is old
    link: https://example.org/1
    driver-version: "<0.0.1"
  - weights: {layout: file}
    reason: it is not
    driver-version: ">=0.0.1 <99"
"""
    path = folder(q=text)
    name, values = settings(QUERN_PROFILE_DIR=str(path))
    assert name == "q" and set(values) == {"weights.layout"}
    shown = quern("device", "show", "cpu", "--json", env=cli.environment(QUERN_PROFILE_DIR=str(path))).json()
    unused, = shown["quirks_not_applied"]
    assert (unused["setting"], unused["driver_version"]) == ("threads.count", "<0.0.1"), unused
    assert unused["origin"] == f"{path}/q.yaml:6:22" and shown["settings"][0]["driver_version"] == ">=0.0.1 <99"
    lines = quern("device", "show", "cpu", env=cli.environment(QUERN_PROFILE_DIR=str(path))).text.splitlines()
    assert "quirk: weights.layout file: it is not" in lines
    version = shown["match"]["driver_version"]
    assert ("quirk, not applied: threads.count 1: it is old (https://example.org/1): it is for version <0.0.1 of the "
            f"driver, which is {version}") in lines, lines


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


def rows():
    """Every setting as its driver has it: (driver, name) to what may be said."""
    found = {}

    def walk(node):
        if isinstance(node, dict):
            if "x-quern" in node:
                found[node["x-quern"]["driver"], node["x-quern"]["setting"]] = node["x-quern"]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(quern("device", "schema").json()["definitions"])
    return found


UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "s": 1000000, "ms": 1000, "": 1,
         "MB/s": 10**6, "TB/s": 10**12, "MOP/s": 10**6, "TOP/s": 10**12}


def written(text, row):
    """What a cell of schema.md says in the words of the driver's table: (kind, values)."""
    number = r"([0-9]+) ?(KiB|MiB|GiB|TiB|ms|s|MB/s|TB/s|MOP/s|TOP/s|)"
    to = re.fullmatch(number + " to " + number, text)
    if text == "flag":
        return "flag", None
    if to:
        low, high = (int(to[i]) * UNITS[to[i + 1]] for i in (1, 3))
        return row["type"] if row["type"] != "flag" else "a range", (low, high)
    if "`" in text:
        return "word", re.findall("`([^`]*)`", text)
    words = text.replace("...", ",...,").split(",")
    words = [w.strip() for w in words if w.strip()]
    if "..." in words:  # the double, and so on
        at = words.index("...")
        middle = []
        while not middle or int(middle[-1]) * 2 < int(words[at + 1]):
            middle.append(str(int((middle or words[at - 1:])[-1 if middle else 0]) * 2))
        words[at:at + 1] = middle
    return "count", words


def test_documented():
    """The tables of schema.md have exactly the settings that there are, with what each may be."""
    have = rows()
    described, driver, before = set(), None, None
    for line in (BUILT_IN / "schema.md").read_text(encoding="utf-8").splitlines():
        title = re.match(r"#+ (.*)", line)
        if title:
            driver = {"Every device": "", "vulkan": "vulkan", "cpu": "cpu"}.get(title[1])
        cells = [c.strip() for c in line.strip("|").split("|")] if line.startswith("| `") else []
        if driver is None or not cells or (driver == "vulkan" and not has_vulkan()):
            continue
        for name in re.findall("`([^`]*)`", cells[0]):
            row = have.get((driver, name))
            assert row, f"schema.md describes {name}, which driver \"{driver}\" does not have"
            described.add((driver, name))
            before = cells[1] if cells[1] != "the same" else before
            kind, values = written(before, row)
            if row["type"] in ("bytes", "time", "rate", "ops") or (row["type"] == "count" and "choices" not in row):
                expected = row["type"], (row["min"], row["max"])
            else:
                expected = row["type"], row.get("choices")
            assert (kind, values) == expected, f"schema.md has {before} of {name}, which is {expected}"
            assert cells[0].endswith("*") == row["formats"], f"schema.md: {name} and its formats"
    drivers = {"", "cpu"} | ({"vulkan"} if has_vulkan() else set())
    missing = {key for key in have if key[0] in drivers} - described
    assert not missing, f"schema.md lacks {missing}"


def test_schema():
    """What editors are told of profiles: good ones pass, and faults of many kinds are found."""
    try:
        import jsonschema
        import yaml
    except ImportError as e:
        raise cli.Skip(f"{e} (Debian: python3-yaml python3-jsonschema)") from e
    schema = quern("device", "schema").json()
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    n = 0
    for path in sorted(BUILT_IN.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if not has_vulkan() and ("api: vulkan" in text or "extends: generic" not in text):
            continue
        faults = [e.message for e in validator.iter_errors(yaml.safe_load(text))]
        assert not faults, f"{path}: {faults}"
        n += 1
    assert n >= (25 if has_vulkan() else 1), n
    example = re.search(r"```yaml\n(.*?)```", (BUILT_IN / "schema.md").read_text(encoding="utf-8"), re.S)[1]
    if has_vulkan():
        assert not list(validator.iter_errors(yaml.safe_load(example)))
    kinds = ["unknown-setting", "unknown-section", "unknown-top-key", "unknown-match-key", "unknown-type", "unknown-word",
             "unknown-feature", "unknown-format", "format-lower-case", "count-out-of-range", "count-not-a-choice", "bytes-unit",
             "bytes-negative", "time-without-unit", "version-without-sign", "quirk-without-reason", "quirk-unknown-key",
             "quirk-is-text", "future-version", "no-name", "no-version", "name-characters", "section-is-text", "flag",
             "format-where-none-is", "match-is-text", "not-a-mapping", "value-is-a-mapping", "overlay-is-a-word"]
    for kind in kinds:
        text = (FAULTS / f"{kind}.yaml").read_text(encoding="utf-8")
        if "api: vulkan" in text and not has_vulkan():
            continue
        assert list(validator.iter_errors(yaml.safe_load(text))), f"{kind} passes"
def test_passes():
    """However the processor's kernels read weights, and share tokens out, the results are right."""
    path = folder(passes=HEAD.format("passes") + "limits:\n  cache: 64 KiB\nkernels:\n  matmul: {columns: 16}\n"
                  "  matvec: {streams: 2, ahead: 0}\nweights:\n  Q4_K: {isa: avx2}\n") / "passes.yaml"
    report = quern("device", "verify", "cpu", "matmul", "moe_matmul", "Q4_0", "Q4_K", "F16", "--profile", path, "--json").json()
    assert report["failed"] == 0 and report["cases"] > 20 and report["profile"] == "passes", report


def test_tune():
    tune = ["device", "tune", "cpu", "threads", "--seconds", "0.001", "--bytes", "100000"]
    report = quern(*tune, "--dry-run", "--json").json()
    assert report["saved"] == "" and [row["kernel"] for row in report["rows"]] == ["threads"]
    path = folder()
    env = cli.environment(QUERN_PROFILE_DIR=str(path))
    assert "rows are faster" in quern(*tune, env=env).text
    saved = list(path.glob("cpu-*-tuned.yaml"))
    assert len(saved) == 1 and check(saved[0]) == ["ok"]
    assert "kept" in quern(*tune, env=env).text
    # made with another version of the driver, it is not used, and a line says so
    saved[0].write_text(re.sub('driver-version: ".*"', 'driver-version: "=0.0.1"', saved[0].read_text()) +
                        "\nthreads: {count: 1}\n" * ("threads:" not in saved[0].read_text()))
    name, values = settings(QUERN_PROFILE_DIR=str(path))
    assert "threads.count" not in values, values
    err = quern("device", "show", "cpu", env=env).err.decode()
    assert "another version of the driver" in err and str(saved[0]) in err, err
    # what the device reaches, for --device auto
    assert "prefill" in quern("device", "tune", "cpu", "costs", "--again", env=env).text
    name, values = settings(QUERN_PROFILE_DIR=str(path))
    assert re.fullmatch("[0-9]+ [MG]B/s", values["costs.decode"][0]), values
    assert re.fullmatch("[0-9]+ [MGT]OP/s", values["costs.prefill"][0]), values
    fails(2, "device", "tune", says=["expected the ID"])
    fails(1, *tune, says=["QUERN_PROFILE_DIR"])


DUMP = cli.SOURCE / "tests" / "dumps" / "lavapipe.json"


def test_dump():
    """A device of another machine, written down, gets the profile that it has there."""
    shown = quern("device", "show", "vulkan", "--replay", DUMP, "--json").json()
    assert shown["name"].startswith("llvmpipe") and shown["match"]["driver"] == "llvmpipe"
    assert shown["profile"] == ("lavapipe" if has_vulkan() else "generic")
    # what is written of what was read is the same
    again = quern("device", "dump", "vulkan", "--replay", DUMP).json()
    written = cli.json.loads(DUMP.read_text())
    for dump in (again, written):
        del dump["devices"][0]["state"]  # which this machine knows of its own device
    assert again == written
    path = folder() / "bad.json"
    for old, new, says in (('"type":	"software"', '"type":	"toaster"', "type"), ("{", "[", "JSON"),
                           ('"vendor":	"0x10005"', '"vendor":	"lava"', "match"),
                           ('"driver":	"vulkan",\n	"devices"', '"driver":	3,\n	"devices"', "driver")):
        text = DUMP.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        fails(1, "device", "list", "--replay", path, says=[str(path), says])


def as_dump(row):
    """A line of devices.txt as `quern device dump` writes such a device."""
    _, kind, vendor, device, name, driver, features = row[:7]
    identity = row[9] if len(row) > 9 else ""
    match = {"vendor": vendor, "device_id": device, "driver": driver, "driver_version": "1.2.3"}
    return {"name": name, "type": kind, "driver_version": driver, "features": features, "identity": identity, "memory": 1 << 30,
            "match": match, "facts": {}}


def test_devices():
    """Each device gets its profile, which says what it must."""
    lines = (FAULTS.parent / "devices.txt").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith("#")]
    dump = folder() / "dump.json"
    n = 0
    for row in rows:
        api, name, profile, says = row[0], row[4], row[7], row[8]
        if api == "vulkan" and not has_vulkan():
            continue
        dump.write_text(cli.json.dumps({"driver": api, "devices": [as_dump(row)]}), encoding="utf-8")
        shown = quern("device", "show", api, "--replay", dump, "--json").json()
        assert shown["name"] == name and shown["profile"] == profile, (row, shown["profile"])
        values = {s["setting"]: s["value"] for s in shown["settings"]}
        setting, _, value = says.partition("=")
        assert not says or values.get(setting) == value, (row, values)
        n += 1
    assert n >= 7, n


def test_new():
    """The beginning of a profile is a profile, and one for its device."""
    for arguments in (["cpu"], ["vulkan", "--replay", DUMP] if has_vulkan() else ["cpu"]):
        path = folder() / "new.yaml"
        path.write_bytes(quern("device", "new", *arguments).out)
        assert check(path) == ["ok"], check(path)
        name = re.search(r"^name: (\S+)$", path.read_text(), re.M).group(1)
        shown = quern("device", "show", *arguments, "--profile", path, "--json").json()
        assert shown["profile"] == name
        # with a setting taken out of its comment, it says it
        text = path.read_text().replace("# weights:\n#   layout:", "weights:\n  layout: file")
        path.write_text(text)
        assert check(path) == ["ok"], check(path)
    path = folder() / "acme-g7.yaml"
    path.write_bytes(quern("device", "new", "cpu", "--name", "acme-g7").out)
    assert check(path) == ["ok"] and "\nname: acme-g7\n" in path.read_text()
    # one that does not match says why
    path.write_text(re.sub("  device: .*", "  device: 'ACME G7*'", path.read_text()))
    err = quern("device", "show", "cpu", "--profile", path).err.decode()
    assert re.search(r'is not for .*: its match.device does not hold for ".*" \(acme-g7\)', err), err
    fails(2, "device", "new", says=["expected the ID"])
    fails(1, "device", "new", "vulkan:77", says=["no device"])


if __name__ == "__main__":
    cli.main(globals())
