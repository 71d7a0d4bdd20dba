#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rules of CODING_STYLE.md that a program can check: licence line, banned calls, sizes, tabs, unfinished words."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BANNED = re.compile(r"(?<![\w.>])(strcpy|strcat|sprintf|gets|atoi|atol|strtok|alloca|system|tmpnam|mktemp)\s*\(")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
LINES_C, LINES_H = 1000, 260


def tracked(*patterns):
    out = subprocess.run(["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in out.stdout.splitlines()]


def strip(text):
    """Without comments and strings, lines kept."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda m: "\n" * m.group(0).count("\n"), text)


def check_c(path, bad):
    text = path.read_text()
    name = path.relative_to(ROOT)
    lines = text.splitlines()
    if not lines or "SPDX-License-Identifier: Apache-2.0" not in lines[0]:
        bad.append(f"{name}:1: the first line is not the licence line")
    limit = LINES_H if path.suffix == ".h" else LINES_C
    if len(lines) > limit:
        bad.append(f"{name}: {len(lines)} lines, more than {limit}: split it where a reader would")
    for number, line in enumerate(strip(text).splitlines(), 1):
        match = BANNED.search(line)
        if match:
            bad.append(f"{name}:{number}: {match.group(1)}() is banned")
        if re.match(r" {8}", line):
            bad.append(f"{name}:{number}: indented with spaces")
    for number, line in enumerate(lines, 1):
        if UNFINISHED.search(line):
            bad.append(f"{name}:{number}: unfinished: {line.strip()[:60]}")
        if line.rstrip() != line:
            bad.append(f"{name}:{number}: white space at the end")


def main():
    bad = []
    for path in tracked("*.c", "*.h"):
        check_c(path, bad)
    for path in tracked("*.py", "*.sh", "*.proto", "meson.build", "*/meson.build"):
        head = "\n".join(path.read_text().splitlines()[:3])
        if path.stat().st_size and "SPDX-License-Identifier" not in head and "grpc" not in path.parts:
            bad.append(f"{path.relative_to(ROOT)}: no licence line in the first three")
    for line in bad:
        print(line)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
