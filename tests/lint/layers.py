#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads every #include "folder/..." below src/ and fails on an edge that docs/architecture.md does not allow.

The table in the document is the rule; this program only reads it: rows `| folder | may use |` between the
markers. A folder may use those listed and what these may use. Also fails on a cycle of headers.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SRC = ROOT / "src"


def read_rules():
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.split("<!-- layers -->")[1].split("<!-- /layers -->")[0]
    direct = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) < 2 or cells[0] in ("folder", "") or set(cells[0]) <= {"-", " "}:
            continue
        name = cells[0].strip("`")
        direct[name] = [used.strip("` ") for used in cells[1].split(",") if used.strip("` ") not in ("", "-")]
    allowed = {}

    def closure(name, trail=()):
        if name in trail:
            sys.exit(f"layers: the table has a cycle: {' -> '.join(trail + (name,))}")
        if name not in direct:
            sys.exit(f"layers: {name} is used in docs/architecture.md but has no row there")
        if name not in allowed:
            allowed[name] = {name}.union(*(closure(used, trail + (name,)) for used in direct[name]))
        return allowed[name]

    for name in direct:
        closure(name)
    return allowed


def includes(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+"([^"/]+)/([^"]+)"', line)
        if match:
            yield number, match.group(1), match.group(2)


def check_edges(allowed):
    bad = []
    for path in sorted(SRC.rglob("*.[ch]")):
        folder = path.relative_to(SRC).parts[0]
        if folder not in allowed:
            bad.append(f"{path.relative_to(ROOT)}: folder {folder} is missing in the table of docs/architecture.md")
            continue
        for number, used, rest in includes(path):
            if (SRC / used).is_dir() and used not in allowed[folder]:
                bad.append(f"{path.relative_to(ROOT)}:{number}: {folder} may not use {used}/{rest}")
    return bad


def check_cycles():
    graph = {}
    for path in SRC.rglob("*.h"):
        name = str(path.relative_to(SRC))
        graph[name] = [f"{a}/{b}" for _, a, b in includes(path)]
    state, bad = {}, []

    def visit(name, trail):
        if state.get(name) == "done" or name not in graph:
            return
        if name in trail:
            bad.append("headers include each other: " + " -> ".join(trail[trail.index(name):] + [name]))
            return
        for used in graph[name]:
            visit(used, trail + [name])
        state[name] = "done"

    for name in graph:
        visit(name, [])
    return bad


def main():
    bad = check_edges(read_rules()) + check_cycles()
    for line in bad:
        print(line)
    if bad:
        sys.exit(1)
    print("layers: every include is allowed")


if __name__ == "__main__":
    main()
