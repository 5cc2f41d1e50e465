#!/usr/bin/env python3
"""Compiles every kernel of kernels.inc, has the modules validated, and writes them as one C file. Modules whose inputs
are as they were are taken from the folder OUT.spv, where the last run left them; or from $QUERN_SPIRV, which builds that
are made one after another may share.

usage: compile.py GLSLC SPIRV_VAL FORMATS_INC KERNELS_INC OUT.c OUT.d INCLUDE_DIR...   (SPIRV_VAL "": none)"""
import concurrent.futures
import hashlib
import os
import pathlib
import re
import subprocess
import sys

ROW = re.compile(r'^(KERNEL|KERNEL_POOLS|KERNEL_FORMATS)\((\w+), (\w+), "([^"]+)", "([^"]*)", (\d+), (\d+)(?:,\s+"([^"]+)")?\)', re.M)
FORMAT = re.compile(r"^QN_FORMAT_(?:PLAIN|R|RW)\((\w+), (\w+),", re.M)
ACTIVATIONS_ONLY = {"Q8_1", "Q8_K"}  # no weights are stored in these
OPTIONAL = ("-DCOOPMAT", "-DCOOPMAT2")  # modules with these need extensions of GLSL that not every compiler has


def rows(kernels, formats):
    """(name, source, defines) of each module."""
    for kind, _, name, source, define, _, _, only in ROW.findall(kernels):
        defines = ["-D" + d for d in define.split()]
        if kind == "KERNEL_FORMATS":
            wanted = None if only == "all" else only.split()
            for upper, lower in FORMAT.findall(formats):
                if upper in wanted if wanted else upper not in ACTIVATIONS_ONLY:
                    yield f"{name}_{lower}", source, [*defines, "-DFORMAT_" + upper]
        else:
            yield name, source, defines


def vulkan_of(defines):
    """The least Vulkan that a module needs (as in drivers/vulkan/shaderc.c)."""
    return "vulkan1.3" if "-DCOOPMAT2" in defines else "vulkan1.2"


def knows(glslc, source_dir, define):
    """Whether the compiler has what modules with that define need."""
    return subprocess.run([glslc, f"--target-env={vulkan_of([define])}", "-fshader-stage=comp", define, "-o", os.devnull,
                           str(source_dir / "probe.comp")], capture_output=True, check=False).returncode == 0


def inputs_of(depfile):
    return depfile.read_text().replace("\\\n", " ").split(":", 1)[1].split()


def digest(command, inputs):
    """What a module is made of."""
    all_of_it = hashlib.sha256(repr(command).encode())
    for path in inputs:
        all_of_it.update(pathlib.Path(path).read_bytes())
    return all_of_it.hexdigest()


def main():
    glslc, spirv_val, formats_inc, kernels_inc, out_c, out_d, *folders = sys.argv[1:]
    source_dir = pathlib.Path(kernels_inc).parent
    modules = list(rows(pathlib.Path(kernels_inc).read_text(), pathlib.Path(formats_inc).read_text()))

    for define in OPTIONAL:
        if not knows(glslc, source_dir, define):
            modules = [module for module in modules if define not in module[2]]

    folder = pathlib.Path(os.environ.get("QUERN_SPIRV") or pathlib.Path(out_c).with_suffix(".spv"))
    folder.mkdir(parents=True, exist_ok=True)
    version = subprocess.run([glslc, "--version"], capture_output=True, check=True).stdout

    def build(module):
        name, source, defines = module
        target, deps, key, valid = (folder / (name + end) for end in (".spv", ".d", ".key", ".valid"))
        command = [glslc, f"--target-env={vulkan_of(defines)}", "-fshader-stage=comp", "-O", "-MD", "-MF", str(deps),
                   *(f"-I{d}" for d in folders), *defines, str(source_dir / source), "-o", str(target)]
        check = [spirv_val, "--target-env", vulkan_of(defines), str(target)]
        steps = [(key, command)] + ([(valid, check)] if spirv_val else [])
        made_by = [version, source, defines]
        for mark, step in steps:
            try:
                if mark.read_text() == digest(made_by, inputs_of(deps)):
                    continue
            except OSError:
                pass  # not built yet, or an input is gone
            mark.unlink(missing_ok=True)
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode:
                return name, None, f"{name}: {done.stdout}{done.stderr}", []
            mark.write_text(digest(made_by, inputs_of(deps)))
        return name, target.read_bytes(), "", inputs_of(deps)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        built = list(pool.map(build, modules))
    faults = [text for _, code, text, _ in built if code is None]
    if faults:
        sys.exit("\n".join(faults))
    with open(out_c, "w", encoding="ascii") as f:
        f.write('#include "drivers/vulkan/kernels.h"\n\n')
        for name, code, _, _ in built:
            words = [int.from_bytes(code[i:i + 4], "little") for i in range(0, len(code), 4)]
            f.write(f"static const uint32_t {name}[] = {{\n")
            for i in range(0, len(words), 12):
                f.write("    " + ", ".join(f"0x{w:08x}" for w in words[i:i + 12]) + ",\n")
            f.write("};\n")
        f.write("\nconst struct qn_vk_module qn_vk_modules[] = {\n")
        for name, _, _, _ in sorted(built):
            f.write(f'    {{"{name}", {name}, sizeof {name}}},\n')
        f.write(f"}};\nconst size_t qn_vk_n_modules = {len(built)};\n")
        whole = hashlib.sha256()
        for name, code, _, _ in sorted(built):
            whole.update(f"{name} {len(code)} ".encode() + code)
        f.write(f'const char qn_vk_modules_hash[] = "{whole.hexdigest()[:24]}";\n')
    inputs = sorted({str(source_dir / "probe.comp"), *(path for _, _, _, paths in built for path in paths)})
    pathlib.Path(out_d).write_text(f"{out_c}: {' '.join(inputs)}\n")


if __name__ == "__main__":
    main()
