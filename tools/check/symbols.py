#!/usr/bin/env python3
"""Checks that a shared library exports quern_* and nothing else. usage: symbols.py LIBRARY [NM]"""
import subprocess
import sys


def main():
    library = sys.argv[1]
    nm = sys.argv[2] if len(sys.argv) > 2 else "nm"
    output = subprocess.run([nm, "-D", "--defined-only", "--format=posix", library], check=True, text=True,
                            capture_output=True).stdout
    names = sorted(line.split()[0] for line in output.splitlines() if line)
    foreign = [name for name in names if not name.startswith("quern_")]
    for name in foreign:
        print(f"{library}: exports {name}; only quern_* may be visible")
    if not names:
        print(f"{library}: exports nothing")
    print("FAILED" if foreign or not names else "ok", f"{len(names)} exported symbols")
    return 1 if foreign or not names else 0


if __name__ == "__main__":
    sys.exit(main())
