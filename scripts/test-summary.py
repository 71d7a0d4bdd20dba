#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the results of meson and pytest (RESULTS/*.xml, JUnit) and checks the skips against the list.

usage: test-summary.py SKIPS RESULTS

A line of SKIPS is `PATTERN: reason`; PATTERN is a shell pattern for the test's id, printed below for each skip; `#` begins
a comment. A skip that no line allows counts as failed. Writes RESULTS/summary and prints it as the last line.
"""
import fnmatch
import pathlib
import sys
import xml.etree.ElementTree as ET


def read_allowed(path):
    allowed = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        pattern, colon, reason = line.partition(": ")
        if not colon or not reason.strip():
            sys.exit(f"{path}:{number}: wants 'PATTERN: reason'")
        allowed.append(pattern.strip())
    return allowed


def read_results(folder):
    """Yields (id, "passed" | "failed" | "skipped", reason)."""
    files = sorted(folder.glob("*.xml"))
    if not files:
        yield "results", "failed", "no test wrote any result"
    for path in files:
        tool = path.stem.partition("-")[0]
        cases = 0
        for case in ET.parse(path).getroot().iter("testcase"):
            cases += 1
            name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
            skipped = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                yield f"{tool}:{name}", "failed", ""
            elif skipped is not None:
                yield f"{tool}:{name}", "skipped", skipped.get("message") or skipped.text or ""
            else:
                yield f"{tool}:{name}", "passed", ""
        if not cases:
            yield str(path.name), "failed", "no test was run"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    allowed, folder = read_allowed(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2])
    count = {"passed": 0, "failed": 0, "skipped": 0}
    for name, result, reason in read_results(folder):
        if result == "skipped":
            print(f"skipped: {name}: {reason.strip() or 'no reason given'}")
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed):
                print(f"failed: {name}: this skip does not stand in {sys.argv[1]}")
                result = "failed"
        elif result == "failed":
            print(f"failed: {name}{': ' if reason else ''}{reason}")
        count[result] += 1
    summary = "{passed} passed, {failed} failed, {skipped} skipped".format(**count)
    (folder / "summary").write_text(summary + "\n")
    print(summary)
    return count["failed"] > 0


if __name__ == "__main__":
    sys.exit(main())
