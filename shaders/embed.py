#!/usr/bin/env python3
"""Writes the GLSL of all kernels as one C file, from which they are compiled while the program runs.

usage: embed.py OUT.c OUT.d FOLDER...   (names are relative to their folder; of one name the first folder's file counts)"""
import hashlib
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "drivers"))
from c_strings import literal  # noqa: E402


def main():
    out_c, out_d, *folders = sys.argv[1:]
    files = {}
    for folder in map(pathlib.Path, folders):
        for path in sorted([*folder.rglob("*.comp"), *folder.rglob("*.glsl")]):
            files.setdefault(path.relative_to(folder).as_posix(), path)
    with open(out_c, "w", encoding="utf-8") as f:
        f.write('#include "drivers/vulkan/sources.h"\n\nconst struct qn_vk_source qn_vk_sources[] = {\n')
        for name, path in sorted(files.items()):
            body, n = literal(path.read_text(encoding="utf-8"))
            f.write(f'    {{"{name}",\n{body},\n     {n}}},\n')
        f.write(f"}};\nconst size_t qn_vk_n_sources = {len(files)};\n")
        whole = hashlib.sha256()
        for name, path in sorted(files.items()):
            whole.update(f"{name} ".encode() + path.read_bytes())
        f.write(f'const char qn_vk_sources_hash[] = "{whole.hexdigest()[:24]}";\n')
    source = pathlib.Path(folders[0])  # in which a file may be new
    inputs = [*files.values(), source, *(path for path in source.iterdir() if path.is_dir())]
    pathlib.Path(out_d).write_text(f"{out_c}: {' '.join(map(str, inputs))}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
