#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the results of meson and pytest (RESULTS/meson.json and RESULTS/*.xml) and checks the skips against the list.

usage: test-summary.py SKIPS RESULTS

A line of SKIPS is `PATTERN: reason`; PATTERN is a shell pattern for the test's id, printed below for each skip; `#` begins
a comment. A skip that no line allows counts as failed. Writes RESULTS/summary and prints it as the last line.
"""
import fnmatch
import json
import pathlib
import re
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


TAP = re.compile(r"^(not )?ok\b *([^#\n]*?) *(?:# *(SKIP|TODO)\S* *(.*))?$", re.I | re.M)


def read_meson(path):
    """Meson's log, not its JUnit file: that one leaves out why a test was skipped, and crashes and timeouts."""
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        name, result, out = f"meson:{entry['name']}", entry["result"], entry.get("stdout") or ""
        failed = 0
        subtests = TAP.findall(out) if re.search(r"^1\.\.[1-9]", out, re.M) else []
        for bad, title, directive, reason in subtests:
            skipped = directive.upper() == "SKIP"
            failed += bad != ""
            yield f"{name}.{title}", "failed" if bad else "skipped" if skipped else "passed", reason if skipped else ""
        if result == "SKIP" and not subtests:
            lines = (out + (entry.get("stderr") or "")).strip().splitlines()
            yield name, "skipped", re.sub(r"^1\.\.0 *# *SKIP\w* *", "", lines[-1], flags=re.I) if lines else ""
        elif result not in ("OK", "EXPECTEDFAIL", "SKIP") and not failed:
            yield name, "failed", result.lower()  # a crash or a timeout has no failed subtest of its own
        elif not subtests:
            yield name, "passed", ""


def read_pytest(path):
    cases = 0
    for case in ET.parse(path).getroot().iter("testcase"):
        cases += 1
        skipped = case.find("skipped")
        reason = (skipped.get("message") or skipped.text or "") if skipped is not None else ""
        bad = case.find("failure") is not None or case.find("error") is not None
        result = "failed" if bad else "skipped" if skipped is not None else "passed"
        yield f"pytest:{case.get('classname')}.{case.get('name')}", result, reason
    if not cases:
        yield path.name, "failed", "no test was run"


def read_results(folder):
    """Yields (id, "passed" | "failed" | "skipped", reason)."""
    meson, others = folder / "meson.json", sorted(folder.glob("*.xml"))
    if meson.exists():
        yield from read_meson(meson)
    for path in others:
        yield from read_pytest(path)
    if not others and not meson.exists():
        yield "results", "failed", "no test wrote any result"


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
