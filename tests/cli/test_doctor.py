"""quern doctor: what is wrong with a machine, on machines that a folder or the environment plays."""
import json
import os
import pathlib
import socket
import tempfile

import cli
from cli import has_vulkan, quern

MIB = 1 << 20


def doctor(code=None, **env):
    """Findings by topic and what; a machine without GPU drivers unless `env` says otherwise."""
    settings = {"VK_DRIVER_FILES": "", "VK_ICD_FILENAMES": "", "QUERN_CACHE_DIR": tempfile.mkdtemp(prefix="quern-doctor-"), **env}
    result = quern("doctor", "--json", env=cli.environment(**settings), code=code)
    report = result.json()
    assert report["good"] == (result.code == 0), result.text
    assert report["good"] == all(f["state"] != "problem" for f in report["findings"])
    for finding in report["findings"]:
        assert bool(finding["wrong"]) == bool(finding["fix"]) == (finding["state"] != "good"), finding
    return report["findings"]


def find(findings, topic, what):
    found = [f for f in findings if f["topic"] == topic and f["what"] == what]
    assert found, f"nothing is said of {topic}, {what}"
    return found[-1]


def folder(**files):
    root = pathlib.Path(tempfile.mkdtemp(prefix="quern-doctor-"))
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_text():
    """People get a table, what is wrong behind it, and the exit code."""
    bad = folder(file="x") / "file" / "below"
    result = quern("doctor", env=cli.environment(QUERN_CACHE_DIR=str(bad)), code=1)
    assert result.text.startswith("TOPIC"), result.text
    assert "problem: cache, folder:" in result.text and "\n  fix: " in result.text and "Not all is well." in result.text


def test_memory():
    meminfo = f"MemTotal: {8 << 20} kB\nMemFree: 1 kB\nMemAvailable: {4 << 20} kB\n"
    root = folder(proc__meminfo=meminfo, proc__self__cgroup="0::/a/b\n", sys__fs__cgroup__a__b__placeholder="")
    findings = doctor(QUERN_DOCTOR_ROOT=str(root))
    assert find(findings, "system", "memory")["found"] == "8.00 GiB, 4.00 GiB of it available"
    assert find(findings, "system", "memory of the group")["found"] == "no limit"
    (root / "sys/fs/cgroup/a/memory.max").write_text(f"{512 * MIB}\n")  # of the group above
    (root / "sys/fs/cgroup/a/b/memory.max").write_text("max\n")
    group = find(doctor(QUERN_DOCTOR_ROOT=str(root)), "system", "memory of the group")
    assert group["state"] == "hint" and group["found"] == "0.50 GiB" and "memory.max" in group["fix"]
    (root / "proc/meminfo").write_text(meminfo.replace(str(4 << 20), "100"))
    assert find(doctor(QUERN_DOCTOR_ROOT=str(root)), "system", "memory")["state"] == "hint"


def test_processors():
    root = folder(proc__self__cgroup="0::/\n", sys__fs__cgroup__cpu_max="")
    os.rename(root / "sys/fs/cgroup/cpu_max", root / "sys/fs/cgroup/cpu.max")
    (root / "sys/fs/cgroup/cpu.max").write_text("10000 100000\n")
    found = find(doctor(QUERN_DOCTOR_ROOT=str(root)), "system", "processors")
    assert found["state"] == "hint" and "0.1" in found["found"] and "--threads 1" in found["fix"], found
    (root / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    assert find(doctor(QUERN_DOCTOR_ROOT=str(root)), "system", "processors")["state"] == "good"


def test_folders():
    assert find(doctor(), "cache", "folder")["state"] == "good"
    assert find(doctor(QUERN_CACHE_DIR="off"), "cache", "folder")["state"] == "hint"
    cache = folder(file="not a folder") / "file" / "cache"
    found = find(doctor(code=1, QUERN_CACHE_DIR=str(cache)), "cache", "folder")
    assert found["state"] == "problem" and "QUERN_CACHE_DIR" in found["fix"], found
    profiles = folder(**{"bad.yaml": "quern-profile: 1\nname: bad\nthreads: {count: 0}\nmatch: {api: cpu}\n"})
    found = find(doctor(code=1, QUERN_PROFILE_DIR=str(profiles)), "profiles", "profile")
    assert "bad.yaml:3" in found["wrong"] and "quern device check" in found["fix"], found
    good = folder(**{"good.yaml": "quern-profile: 1\nname: good\nmatch: {api: cpu}\n"})
    assert find(doctor(QUERN_PROFILE_DIR=str(good)), "profiles", "folder")["state"] == "good"


def test_vulkan_drivers():
    """Manifests that are not there, or whose libraries are not."""
    if not has_vulkan():
        raise cli.Skip("this build has no Vulkan driver")
    root = folder(**{"lost.json": json.dumps({"ICD": {"library_path": "/nowhere/libvulkan_lost.so"}})})
    found = find(doctor(code=1, VK_DRIVER_FILES=str(root / "lost.json")), "vulkan", "driver")
    assert found["state"] == "problem" and "/nowhere/libvulkan_lost.so" in found["wrong"], found
    found = find(doctor(code=1, VK_DRIVER_FILES=str(root / "gone.json")), "vulkan", "VK_DRIVER_FILES")
    assert "gone.json" in found["wrong"] and "unset VK_DRIVER_FILES" in found["fix"], found
    home = {"HOME": str(root), "XDG_DATA_DIRS": str(root), "XDG_CONFIG_DIRS": str(root)}
    found = find(doctor(**home), "vulkan", "driver")  # no GPU either: nothing is wrong
    assert found["found"] == "none" and found["state"] == "hint", found


def test_gpu():
    """A GPU of the system that cannot be opened, or that no driver offers."""
    if not has_vulkan():
        raise cli.Skip("this build has no Vulkan driver")
    root = folder(dev__dri__placeholder="")
    node = root / "dev/dri/renderD128"
    node.write_text("")
    home = {"HOME": str(root), "XDG_DATA_DIRS": str(root), "XDG_CONFIG_DIRS": str(root), "QUERN_DOCTOR_ROOT": str(root)}
    findings = doctor(code=1, **home)
    assert find(findings, "vulkan", "gpu")["state"] == "good"
    assert find(findings, "vulkan", "driver")["state"] == "problem"
    node.unlink()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(node))  # which opens for nobody
        found = find(doctor(code=1, **home), "vulkan", "gpu")
    assert found["state"] == "problem" and "cannot be opened" in found["wrong"], found
    node.unlink()
    if os.getuid() != 0:
        node.write_text("")
        node.chmod(0o060)
        found = find(doctor(code=1, **home), "vulkan", "gpu")
        assert "usermod -aG" in found["fix"], found


if __name__ == "__main__":
    cli.main(globals())
