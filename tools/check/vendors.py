#!/usr/bin/env python3
"""Checks that what is particular to a vendor's devices stands in device profiles and not in code: no vendor's or driver's
name or number appears in C or GLSL, and nothing asks for them, but where ALLOWED says why. Comments do not count.

usage: vendors.py [SOURCE_ROOT]
"""
import pathlib
import re
import sys

FOLDERS = ("drivers", "runtime", "models", "tools", "shaders")
SOURCES = {".c", ".h", ".inc", ".comp", ".glsl"}

# Not within longer words: "command" and "normalise" are no vendors.
NAMES = ("nvidia", "geforce", "quadro", "tegra", "nouveau", "nvk", "amd", "amdgpu", "amdvlk", "radv", "radeon", "ryzen", "rdna",
         "gfx\\d+", "intel", "genuineintel", "authenticamd", "anv", "hasvk", "qualcomm", "snapdragon", "adreno", "turnip",
         "freedreno", "mali", "immortalis", "panvk", "panfrost", "apple", "moltenvk", "honeykrisp", "agx", "imagination",
         "powervr", "broadcom", "v3dv?", "videocore", "samsung", "xclipse", "huawei", "maleoon", "vivante", "verisilicon",
         "swiftshader", "llvmpipe", "lavapipe", "dozen", "dzn", "mesa", "zink")
NUMBERS = (0x1002, 0x1022, 0x10de, 0x8086, 0x5143, 0x13b5, 0x106b, 0x1010, 0x14e4, 0x144d, 0x19e5, 0x1ae0,
           0x10001, 0x10002, 0x10003, 0x10004, 0x10005, 0x10006)
NAME = re.compile(r"(?<![a-z])(" + "|".join(NAMES) + r")(?![a-z])", re.I)
NUMBER = re.compile(r"(?<![\w.])(0x[0-9a-f]+)(?=[uUlL]*\b)", re.I)
DRIVER = re.compile(r"\b(VK_(?:DRIVER|VENDOR)_ID_\w+|driverID|driver_id)\b")
# What a device says of itself of which a driver and the runtime may not make conditions.
FIELD = re.compile(r"\b(vendorID|deviceID|vendor_id|device_id)\b")
FIELD_FOLDERS = ("drivers", "runtime")
MACROS = re.compile(r"\b__APPLE__\b")  # of the system, not of a device

# file, what of it, why
ALLOWED = (
    ("runtime/device/profile_match.c", ".*", "finds the devices that a profile is for"),
    ("runtime/device/profile_read.c", "0x1002", "an example in the message about a wrong number"),
    ("runtime/device/profile_read.c", "device_id", "a condition of a profile"),
    ("runtime/device/profile.h", "device_id", "a condition of a profile"),
    ("runtime/device/records.c", "vendor_id|device_id", "what is known of a device from an earlier start, for the matcher"),
    ("runtime/include/quern/driver.h", "vendor_id|device_id", "what a driver tells the matcher"),
    ("drivers/vulkan/driver.c", "vendor_id|vendorID|device_id|deviceID", "what a driver tells the matcher"),
    ("drivers/vulkan/facts.c", "vendorID|deviceID", "part of the identity of a device"),
    ("drivers/vulkan/facts_print.c", "vendorID|deviceID", "printed for people"),
    ("drivers/vulkan/pipeline_cache.c", "vendorID|deviceID", "part of the key, and of the header that Vulkan prescribes"),
    ("drivers/vulkan/facts.c", "driverID|VK_DRIVER_ID_MESA_LLVMPIPE",
     "it leaves loops after 65535 rounds without a word; where no profile of it is read (another one is emulated, a program "
     "opens the driver by itself), a long text would otherwise give a wrong answer in silence"),
    ("drivers/vulkan/settings.inc", "llvmpipe", "help that says so"),
    ("drivers/vulkan/manifests.c", "nvidia|mali", "device nodes that drivers have, in the key of the cache"),
    ("drivers/vulkan/examine.c", "mesa|Mesa", "the name of the package to install"),
    ("tools/quern/cmd_device.c", "radeon", "an example in the help"),
)


def code_of(text):
    """The text without its comments, its lines kept."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.S)
    return pattern.sub(lambda m: m[0] if m[0][0] == '"' else re.sub(r"[^\n]", " ", m[0]), text)


def finds(path, line):
    """What of a line is a vendor's."""
    line = MACROS.sub(" ", line)
    found = [m[1] for m in DRIVER.finditer(line)]
    found += [m[1] for m in NAME.finditer(DRIVER.sub(" ", line))]
    found += [m[1] for m in NUMBER.finditer(line) if int(m[1], 16) in NUMBERS]
    if path.startswith(tuple(f + "/" for f in FIELD_FOLDERS)):
        found += [m[1] for m in FIELD.finditer(line)]
    return found


def check_text(path, text, used):
    faults = []
    for number, line in enumerate(code_of(text).splitlines(), 1):
        for what in finds(path, line):
            allowed = [a for a in ALLOWED if a[0] == path and re.fullmatch(a[1], what)]
            used.update(allowed)
            if not allowed:
                faults.append(f'{path}:{number}: "{what}" is of a vendor; what is particular to its devices goes into a profile '
                              "(drivers/profiles), or tools/check/vendors.py says why not")
    return faults


def check_tree(root):
    faults, used, n = [], set(), 0
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SOURCES and path.is_file():
                n += 1
                name = path.relative_to(root).as_posix()
                faults += check_text(name, path.read_text(encoding="utf-8"), used)
    faults += [f"tools/check/vendors.py: nothing in {a[0]} is {a[1]} any more" for a in ALLOWED if a not in used]
    return faults, n


def self_test():
    """What is looked for is found."""
    bad = ('if (p->vendorID == x)', 'if (id == 0x10DE)', 'x = 0x13b5u;', 'strstr(name, "GeForce")', 'bool is_amd = true;',
           'driver.driverID', 'VK_DRIVER_ID_MESA_RADV', '#define MALI_TILE 4', 'const uint ADRENO = 1;', '"Intel(R)"',
           'int /* a */ nvidia;', 'GenuineIntel')
    good = ('int command = 0x10101010;', '// NVIDIA has 32', '/* Mali\n * Adreno */ int x;', '#ifdef __APPLE__',
            'VK_NV_cooperative_matrix2', 'normalise("formal");', 'qn_matvec__arm', 'x = 0x1002a;', '"http://x" /* radv */')
    for text in bad:
        assert check_text("drivers/x.c", text, set()), text
    for text in good:
        assert not check_text("drivers/x.c", text, set()), text
    assert not check_text("tools/x.c", "d.vendor_id", set())
    assert not check_text("runtime/device/profile_match.c", "m->vendor_id", set())
    assert check_text("runtime/device/profile_read.c", "m->vendor_id == 0x10de", set())


def main():
    self_test()
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
    faults, n = check_tree(root)
    for fault in faults:
        print(fault)
    print(f"not ok {len(faults)} faults" if faults else f"ok {n} files know no vendor")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
