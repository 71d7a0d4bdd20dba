#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts and execs of micropod beside Docker, plain runtimes and bare QEMU: every contender in turn in one loop, a first round
dropped, medians and 95th percentiles. Prints JSON; with --docs writes the table and the chart into docs/ too.

usage: bench.py [--rounds N] [--short] [--docs] BUILD     (root; BUILD with `make kernel` and test images)
"""
import argparse
import json
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys

from chart import bars
from contenders import Docker, FloorStart, Micropod, Runtime
from floor import Floor

TOP = pathlib.Path(__file__).resolve().parents[1]
DOCS = TOP / "docs/benchmarks.md"
OWN = "micropod run --rm, template, small kernel"


def machine():
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    meminfo = pathlib.Path("/proc/meminfo").read_text()

    def version(*words):
        return subprocess.run(words, capture_output=True, text=True).stdout.splitlines()[0] if shutil.which(words[0]) else None

    return {"cpu": re.search(r"model name\s*: (.*)", cpuinfo)[1], "cores": cpuinfo.count("model name"),
            "memory_gib": int(re.search(r"MemTotal:\s*(\d+)", meminfo)[1]) >> 20, "kernel": platform.release(),
            "qemu": version("qemu-system-x86_64", "--version"), "docker": version("dockerd", "--version"),
            "runc": version("runc", "--version"), "crun": version("crun", "--version")}


def contenders(build, short):
    root, image = build / "test-root", build / "test-images/busybox"
    tsc = (root / "cache/tsc").read_text().split()[1]
    yield Micropod(OWN, build, root, image, "--kernel", "small")
    yield Micropod("the same, distribution's kernel", build, root, image, "--kernel", "cloud")
    floor = Floor(build / "guest/kernel/vmlinuz", tsc)
    yield FloorStart(floor)
    yield Runtime("runc run", "runc", image)
    yield Runtime("crun run (static)", build / "guest/crun", image)
    if not short:
        yield Micropod("micropod run --rm --cold, small kernel", build, root, image, "--cold", "--kernel", "small")
        yield Micropod("the same, cold, distribution's kernel", build, root, image, "--cold", "--kernel", "cloud")
        yield Docker(image)


def measure(all_of_them, what, rounds):
    """name -> seconds, one round after the other; one that cannot run here is named and left out."""
    times = {one.name: [] for one in all_of_them if getattr(one, what)}
    for number in range(rounds + 1):
        for one in all_of_them:
            if one.name not in times:
                continue
            try:
                value = getattr(one, what)()
            except subprocess.CalledProcessError as error:
                print(f"bench: {one.name}: {what} failed with {error.returncode}: left out", file=sys.stderr)
                del times[one.name]
                continue
            if number:
                times[one.name].append(value)
    return {name: {"median": statistics.median(values), "p95": sorted(values)[int(len(values) * 0.95)], "min": min(values)}
            for name, values in times.items()}


def table(result):
    lines = ["| start of `true` | median, s | 95 %, s | to the first |", "|---|---|---|---|"]
    base = result["start"][OWN]["median"]
    for name, row in sorted(result["start"].items(), key=lambda item: item[1]["median"]):
        lines.append(f"| {name} | {row['median']:.3f} | {row['p95']:.3f} | {row['median'] / base:.2f} |")
    lines += ["", "| `exec` of `true` | median, s | 95 %, s | |", "|---|---|---|---|"]
    for name, row in sorted(result["exec"].items(), key=lambda item: item[1]["median"]):
        lines.append(f"| {name} | {row['median']:.3f} | {row['p95']:.3f} | |")
    host = result["machine"]
    lines += ["", f"{result['rounds']} rounds; {host['cpu']}, {host['cores']} cores, {host['memory_gib']} GiB, {host['qemu']}, "
              f"{host['docker'] or 'no Docker'}. Without KVM."]
    return "\n".join(lines)


def write_docs(result):
    text = DOCS.read_text()
    begin, end = "<!-- bench -->", "<!-- /bench -->"
    before, after = text.split(begin)[0], text.split(end)[1]
    DOCS.write_text(f"{before}{begin}\n{table(result)}\n{end}{after}")
    rows = [(name, row["median"] * 1000, name == OWN) for name, row in sorted(result["start"].items(), key=lambda item: item[1]["median"])]
    (TOP / "docs/start.svg").write_text(bars("Start of a container that runs `true`, without KVM", rows, "ms"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("build", type=pathlib.Path)
    arg = parser.parse_args()
    result = {"machine": machine(), "rounds": arg.rounds}
    all_of_them = []
    try:
        for one in contenders(arg.build.resolve(), arg.short):
            all_of_them.append(one)
        result["start"] = measure(all_of_them, "start", arg.rounds)
        result["exec"] = measure(all_of_them, "exec", arg.rounds)
    finally:
        for one in all_of_them:
            one.close()
    print(json.dumps(result, indent=2))
    if arg.docs:
        write_docs(result)


main()
