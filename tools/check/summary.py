#!/usr/bin/env python3
"""Counts the test cases of the last `meson test` of a build folder: one line, exit code 1 on any failure.

usage: summary.py BUILD_DIR...

Cases are counted in programs that print them: cmocka's "[       OK ] name", or "ok name", "FAILED name",
"skipped name" at the start of a line. Any other program is one case. A program that fails without a failed
case (a crash, a time-out) adds one failure.
"""
import json
import pathlib
import re
import sys

CASE = re.compile(r"^(?:\[ +(OK|FAILED|SKIPPED) +\] (?!\d+ test|tests: )|(ok|FAILED|skipped) )(\S.*)")


def count(entry):
    """(passed, failed, skipped) of one program, and the names of the failed and skipped cases."""
    verdicts = {}  # by name: cmocka repeats the failed and the skipped at its end
    for stream in ("stdout", "stderr"):
        for line in entry.get(stream, "").splitlines():
            match = CASE.match(line)
            if match:
                verdicts[match.group(3)] = (match.group(1) or match.group(2)).lower()
    cases = {kind: sum(v == kind for v in verdicts.values()) for kind in ("ok", "failed", "skipped")}
    result = entry["result"]
    if not any(cases.values()):
        cases["ok" if result in ("OK", "EXPECTEDFAIL") else "skipped" if result == "SKIP" else "failed"] = 1
    elif result not in ("OK", "SKIP", "EXPECTEDFAIL") and not cases["failed"]:
        cases["failed"] = 1
    named = [f"{verdicts[name]}: {entry['name']}: {name}" for name in verdicts if verdicts[name] != "ok"]
    if len(named) < cases["failed"] + cases["skipped"]:
        named.append(f"{'failed' if cases['failed'] else 'skipped'}: {entry['name']} ({result.lower()})")
    return (cases["ok"], cases["failed"], cases["skipped"]), named


def main():
    total = [0, 0, 0]
    for build in sys.argv[1:]:
        log = pathlib.Path(build) / "meson-logs" / "testlog.json"
        for line in log.read_text(encoding="utf-8").splitlines():
            counts, named = count(json.loads(line))
            total = [a + b for a, b in zip(total, counts)]
            for name in named:
                print(name)
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    sys.exit(main())
