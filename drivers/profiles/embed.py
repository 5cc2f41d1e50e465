#!/usr/bin/env python3
"""Writes the device profiles of a folder as one C file.

usage: embed.py OUT.c OUT.d FOLDER"""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from c_strings import literal  # noqa: E402


def main():
    out_c, out_d, folder = sys.argv[1:]
    files = sorted(pathlib.Path(folder).glob("*.yaml"))
    with open(out_c, "w", encoding="utf-8") as f:
        f.write('#include "device/profile.h"\n\nconst struct qn_profile_text qn_profile_texts[] = {\n')
        for path in files:
            data = path.read_bytes()
            body, n = literal(data.decode("utf-8"))
            names = re.findall(r"^name: *([^ #\n]*)", data.decode("utf-8"), re.M)
            if names != [path.stem]:
                sys.exit(f"{path}: name: expected {path.stem}, as the file, not {' '.join(names) or 'nothing'}")
            if not data.endswith(b"\n") or b"\r" in data or b"\t" in data:
                sys.exit(f"{path}: expected lines that end with a newline, and no tabs")
            f.write(f'    {{"built-in {path.name}",\n{body},\n     {n}}},\n')
        f.write(f"}};\nconst size_t qn_n_profile_texts = {len(files)};\n")
    # the folder changes when a file comes or goes
    pathlib.Path(out_d).write_text(f"{out_c}: {folder} {' '.join(map(str, files))}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
