#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares docs/troubleshooting.md with the programs: every finding of `micropod doctor` has a section with its remedy, and
every error that the host's programs can show stands in one of the tables, where "..." stands for what differs.

A row that no message needs is stale and fails too. `troubleshooting.py --list` prints the messages that have no row.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOC = ROOT / "docs/troubleshooting.md"
FOLDERS = ("cli", "sandbox", "shim", "driver", "net", "image", "http", "runner", "server", "tls")
LITERAL = r'"(?:\\.|[^"\\])*"'
CALL = re.compile(r"\berr_(?:set|errno)\(\s*(?:[^;\"]*?),\s*((?:" + LITERAL + r"\s*(?:[A-Z_a-z0-9]+\s*(?=\")|))+)", re.S)


def messages():
    """The format strings of all errors, placeholders as \"...\"."""
    for folder in FOLDERS:
        for path in sorted((ROOT / "src" / folder).rglob("*.c")):
            text = path.read_text()
            for call in CALL.finditer(text):
                words = "".join(part[1:-1] for part in re.findall(LITERAL, call.group(1)))
                words = re.sub(r"%%", "%", re.sub(r"%[-+ #0-9.*]*(?:hh|h|ll|l|z|j)?[a-zA-Z]", "...", words)).replace('\\"', '"')
                if call.group(0).startswith("err_errno"):
                    words += ": ..."
                if words.strip(".: "):
                    yield f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, call.start()) + 1}", words


def rows(text):
    for line in text.splitlines():
        cell = re.match(r"\| `(.+?)` \|", line)
        if cell:
            yield cell.group(1)


def matcher(row):
    return re.compile(".*".join(re.escape(part) for part in row.split("...")), re.S)


def main():
    bad = []
    text = DOC.read_text()
    patterns = {row: matcher(row) for row in rows(text)}
    used = set()
    for where, message in messages():
        hits = {row for row, pattern in patterns.items() if pattern.fullmatch(message)}
        used |= hits
        if not hits:
            bad.append(f"{where}: no row in {DOC.relative_to(ROOT)}: {message}")
    for row in patterns.keys() - used:
        bad.append(f"{DOC.relative_to(ROOT)}: no program says: {row}")
    table = (ROOT / "src/cli/doctor.c").read_text().split("doctor_table[] = {")[1]
    findings = re.findall(r'\{\s*"([a-z-]+)",', table)
    sections = dict(re.findall(r"^### `([a-z-]+)`\n(.*?)(?=^#|\Z)", text, re.M | re.S))
    for name in findings:
        if name not in sections:
            bad.append(f"{DOC.relative_to(ROOT)}: finding {name} has no section")
        elif "Remedy:" not in sections[name] or "Cause:" not in sections[name]:
            bad.append(f"{DOC.relative_to(ROOT)}: section {name} lacks cause or remedy")
    for name in sections.keys() - set(findings):
        bad.append(f"{DOC.relative_to(ROOT)}: doctor knows no finding {name}")
    for line in bad:
        print(line)
    sys.exit(1 if bad else 0)


main()
