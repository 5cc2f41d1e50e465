#!/usr/bin/env python3
"""Checks that includes point one way, as docs/architecture.md draws it. Prints every fault with file and line.

usage: includes.py [SOURCE_ROOT]

An include is judged by where it leads in this tree; headers of the system and generated ones are not judged.
"""
import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SOURCES = {".c", ".h", ".inc", ".cpp", ".hpp", ".cc"}
FOLDERS = ("runtime", "drivers", "models", "tools")
LONG = 1000  # lines; longer files are pointed out

# layer -> layers, or single files, that it may include besides itself. A layer is the longest prefix in this table.
RULES = {
    "runtime/include/quern": set(),
    "runtime/base": {"runtime/include/quern"},
    "runtime/formats": {"runtime/include/quern", "runtime/base"},
    "runtime": {"runtime/include/quern", "runtime/base", "runtime/formats", "runtime/graph", "runtime/gguf",
                "models"},
    "runtime/graph": {"runtime/include/quern", "runtime/base", "runtime/formats"},
    "runtime/gguf": {"runtime/include/quern", "runtime/base", "runtime/formats"},
    "models": {"runtime/include/quern", "runtime/base", "runtime/formats", "runtime/graph", "runtime/gguf"},
    "drivers": {"driver.h", "runtime/base", "runtime/formats"},
    "tools": {"runtime/include/quern", "runtime/base/guess.h"},
}
DRIVER_H = "runtime/include/quern/driver.h"


def layer_of(path):
    matches = [name for name in RULES if path == name or path.startswith(name + "/")]
    return max(matches, key=len) if matches else None


def includes_of(text):
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


class Tree:
    def __init__(self, root):
        self.root = root
        self.roots = ("runtime/include", "runtime", "")
        self.driver_headers = self.closure(DRIVER_H)

    def resolve(self, path, quoted, target):
        """The file in this tree that the include leads to, or None."""
        folders = ([str(pathlib.PurePosixPath(path).parent)] if quoted else []) + list(self.roots)
        for folder in folders:
            candidate = (self.root / folder / target).resolve()
            if candidate.is_file() and candidate.is_relative_to(self.root):
                return candidate.relative_to(self.root).as_posix()
        return None

    def closure(self, path):
        """The header and what it includes of this tree."""
        seen, todo = set(), [path]
        while todo:
            current = todo.pop()
            if current in seen or not (self.root / current).is_file():
                continue
            seen.add(current)
            for _, quoted, target in includes_of((self.root / current).read_text(encoding="utf-8")):
                found = self.resolve(current, quoted, target)
                if found:
                    todo.append(found)
        return seen

    def allowed(self, path, target):
        layer, other = layer_of(path), layer_of(target)
        if other is None or other == layer:
            return True
        if "driver.h" in RULES[layer] and target in self.driver_headers:
            return True
        return other in RULES[layer] or target in RULES[layer]

    def check(self, path):
        text = (self.root / path).read_text(encoding="utf-8", errors="replace")
        for number, quoted, target in includes_of(text):
            found = self.resolve(path, quoted, target)
            if found and not self.allowed(path, found):
                yield f"{path}:{number}: {layer_of(path)}/ must not include {found}"


def sources(root, folders, suffixes):
    for folder in folders:
        for file in sorted((root / folder).rglob("*")):
            if file.is_file() and (suffixes is None or file.suffix in suffixes):
                yield file


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
    tree = Tree(root)
    faults, n = [], 0
    for file in sources(root, FOLDERS, SOURCES):
        n += 1
        faults += tree.check(file.relative_to(root).as_posix())
    for file in sources(root, ["drivers"], None):
        if file.suffix in (".pyc", ".spv"):
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if "gguf" in line.lower():
                faults.append(f"{file.relative_to(root).as_posix()}:{number}: drivers/ must not mention gguf")
    for file in sources(root, FOLDERS + ("tests", "shaders"), SOURCES | {".py", ".comp", ".glsl"}):
        lines = file.read_bytes().count(b"\n")
        if lines > LONG:
            print(f"warning: {file.relative_to(root).as_posix()} has {lines} lines; {LONG} is the aim")
    for fault in faults:
        print(fault)
    print("FAILED" if faults else "ok", f"includes of {n} files")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
