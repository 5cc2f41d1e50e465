#!/usr/bin/env python3
"""Compiles every public header alone, as C11 and as C++17, with all warnings as errors.

usage: headers.py INCLUDE_DIR C_COMPILER [CXX_COMPILER]   (a compiler: a command with its arguments, one word each
                                                           separated by spaces; no CXX_COMPILER: C only)
"""
import pathlib
import subprocess
import sys

WARNINGS = ["-Wall", "-Wextra", "-Wundef", "-pedantic", "-Werror", "-fsyntax-only"]


def main():
    include = pathlib.Path(sys.argv[1])
    languages = [("C11", sys.argv[2].split() + ["-x", "c", "-std=c11", "-Wstrict-prototypes"])]
    if len(sys.argv) > 3:
        languages.append(("C++17", sys.argv[3].split() + ["-x", "c++", "-std=c++17"]))
    headers = sorted((include / "quern").rglob("*.h"))
    failed = not headers
    for language, command in languages:
        for header in headers:
            source = f"#include <{header.relative_to(include).as_posix()}>\n" * 2
            result = subprocess.run(command + WARNINGS + [f"-I{include}", "-"], input=source, text=True,
                                    capture_output=True)
            good = result.returncode == 0
            print("ok" if good else "FAILED", header.name, "as", language)
            if not good:
                failed = True
                print(result.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
