#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/test-summary.py counts what meson and pytest write, sees crashes, and refuses skips that are not listed."""
import json
import pathlib
import subprocess
import sys
import tempfile

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "test-summary.py"


def summary(skips, meson=None, pytest=None):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "skips.txt").write_text(skips)
        results = folder / "results"
        results.mkdir()
        if meson is not None:
            (results / "meson.json").write_text("".join(json.dumps(entry) + "\n" for entry in meson))
        if pytest is not None:
            (results / "pytest-e2e.xml").write_text(f"<testsuites><testsuite>{pytest}</testsuite></testsuites>")
        run = subprocess.run([sys.executable, SCRIPT, folder / "skips.txt", results], capture_output=True, text=True)
        return run.returncode, run.stdout.splitlines()


def test(name, result, stdout="", stderr=""):
    return {"name": f"micropod:unit / {name}", "result": result, "stdout": stdout, "stderr": stderr}


def check(got, status, last, *others):
    assert got[0] == status, got
    assert got[1][-1] == last, got
    for text in others:
        assert any(text in line for line in got[1]), (text, got)


TAP = "1..3\nok 1 - one\n# a note\nok 2 - two # SKIP no such device\nok 3 - three\n"
CASE = '<testcase classname="e2e.test_run" name="test_{}">{}</testcase>'

check(summary("", [test("a", "OK", "1..2\nok 1 - x\nok 2 - y\n"), test("b", "OK")]), 0, "3 passed, 0 failed, 0 skipped")
check(summary("", [test("a", "OK", TAP)]), 1, "2 passed, 1 failed, 0 skipped", "does not stand in")
check(summary("meson:*/ a.2 - two: needs a device", [test("a", "OK", TAP)]), 0, "2 passed, 0 failed, 1 skipped",
      "a.2 - two: no such device")
check(summary("", [test("a", "FAIL", "1..2\nok 1 - x\nnot ok 2 - y\n")]), 1, "1 passed, 1 failed, 0 skipped", "a.2 - y")
check(summary("", [test("a", "ERROR", "1..2\nok 1 - x\n")]), 1, "1 passed, 1 failed, 0 skipped", "a: error")
check(summary("", [test("a", "TIMEOUT")]), 1, "0 passed, 1 failed, 0 skipped", "timeout")
check(summary("meson:*/ a: no KVM", [test("a", "SKIP", "1..0 # SKIP no KVM here\n")]), 0, "0 passed, 0 failed, 1 skipped",
      "a: no KVM here")
check(summary("", None, CASE.format("a", "") + CASE.format("b", '<failure message="x"/>')), 1,
      "1 passed, 1 failed, 0 skipped", "pytest:e2e.test_run.test_b")
check(summary("pytest:*.test_a: no KVM", [test("a", "OK")], CASE.format("a", '<skipped message="no KVM"/>')), 0,
      "1 passed, 0 failed, 1 skipped", "test_a: no KVM")
check(summary(""), 1, "0 passed, 1 failed, 0 skipped", "no test wrote any result")
check(summary("", None, ""), 1, "0 passed, 1 failed, 0 skipped", "no test was run")
