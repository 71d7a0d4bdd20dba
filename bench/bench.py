#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts, execs and memory of micropod beside Docker, Podman, plain runtimes and bare QEMU: every contender in turn in one loop, a
first round dropped, medians and 95th percentiles. Prints JSON; with --docs keeps it in docs/benchmarks.json and writes tables and
charts; with --check compares its ratios with those kept there, and fails where one is twice as bad.

usage: bench.py [--rounds N] [--short] [--docs | --check] [--root DIR] [--images DIR] BUILD     (root; BUILD with `make kernel` and test images)
"""
import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import report
from contenders import Boot, Crun, Docker, FloorStart, Micropod, Podman, Runtime
from fleet import Fleet, agent_binary, rpc
from floor import Floor

OWN = "micropod run --rm, template, small kernel"
README = "the same, distribution's kernel"
COLD, COLD_README = "micropod run --rm --cold, small kernel", "the same, cold, distribution's kernel"
BOOT, BOOT_README = "bare QEMU boot to init, small kernel", "bare QEMU boot to init, distribution's kernel"
DOCKER = "docker (bridge)"
FLOOR = FloorStart.name


def machine():
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    meminfo = pathlib.Path("/proc/meminfo").read_text()

    def version(*words):
        return subprocess.run(words, capture_output=True, text=True).stdout.splitlines()[0] if shutil.which(words[0]) else None

    return {"cpu": re.search(r"model name\s*: (.*)", cpuinfo)[1], "cores": cpuinfo.count("model name"),
            "memory_gib": int(re.search(r"MemTotal:\s*(\d+)", meminfo)[1]) >> 20, "kernel": platform.release(),
            "qemu": version("qemu-system-x86_64", "--version"), "docker": version("dockerd", "--version"),
            "podman": version("podman", "--version"), "runc": version("runc", "--version"), "crun": version("crun", "--version")}


def accelerator(micropod):
    """What VMs really ran with."""
    box = micropod.output("run", "-d", "-q", micropod.image, "sleep", "100").strip()
    try:
        return re.search(r'"Accel": "(\w+)"', micropod.output("inspect", box))[1]
    finally:
        micropod.run("rm", "-f", box)


def guest(root, kind):
    return json.loads((root / f"guest/{kind}.json").read_text())


def contenders(build, root, images, short):
    image = images / "busybox"
    tsc = (root / "cache/tsc").read_text().split()[1]
    yield Micropod(OWN, build, root, image, "--kernel", "small")
    floor = Floor(build / "guest/kernel/vmlinuz", tsc)
    yield FloorStart(floor)
    yield Runtime("runc run", "runc", image)
    yield Micropod(COLD, build, root, image, "--cold", "--kernel", "small")
    yield Boot(BOOT, floor, guest(root, "small")["kernel"], guest(root, "small")["initramfs"])
    if short:
        return
    yield Crun("crun run (static)", build / "guest/crun", image)
    yield Micropod(README, build, root, image, "--kernel", "cloud")
    yield Micropod(COLD_README, build, root, image, "--cold", "--kernel", "cloud")
    yield Boot(BOOT_README, floor, guest(root, "cloud")["kernel"], guest(root, "cloud")["initramfs"])
    for engine in (Docker, Podman):
        try:
            yield engine(image)
        except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
            print(f"bench: {engine.__name__} does not work here: {error}", file=sys.stderr)


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


def copies(all_of_them, rounds):
    """10 MB and 5,000 small files, in and out again, where exec() has left a sandbox."""
    result = {}
    with tempfile.TemporaryDirectory(prefix="bench-cp-") as name:
        folder = pathlib.Path(name)
        (folder / "10 MB").write_bytes(os.urandom(10 << 20))
        (folder / "5,000 files").mkdir()
        for number in range(5000):
            (folder / "5,000 files" / f"f{number}").write_bytes(b"%d" % number)
        for what in ("10 MB", "5,000 files"):
            those = [one for one in all_of_them if getattr(one, "box", None)]
            result[what] = measure([Copy(one, folder / what) for one in those], "start", rounds)
    return result


class Copy:
    def __init__(self, one, source):
        self.name, self.start = one.name, lambda: one.cp(source)


def fleets(all_of_them, images, short):
    """What one kernel's sandboxes cost, by the kernel's name."""
    result = {}
    for name in (OWN,) if short else (OWN, README):
        fleet = Fleet(next(one for one in all_of_them if one.name == name))
        result[name] = {"idle": fleet.idle(), "grow": fleet.grow(8 if short else 64)}
        if not short:
            result[name]["first_answer"], result[name]["overhead"] = fleet.nginx(images / "nginx", 5)
            result[name]["starts_a_second"] = fleet.throughput(15, 2)
    return result


def ratios(result):
    """The issue's figures that need no absolute clock. What cannot be had here is left out."""
    start, exec_ = result["start"], result["exec"]
    found = {}
    for name, cold, boot, label in ((OWN, COLD, BOOT, ""), (README, COLD_README, BOOT_README, ", distribution's kernel")):
        if name not in start:
            continue
        found[f"start / floor{label}"] = start[name]["median"] / start[FLOOR]["median"]
        found[f"cold start / bare boot{label}"] = start[cold]["median"] / start[boot]["median"]
        if DOCKER in start:
            found[f"start / docker run{label}"] = start[name]["median"] / start[DOCKER]["median"]
            found[f"exec / docker exec{label}"] = exec_[name]["median"] / exec_[DOCKER]["median"]
        found[f"exec / start{label}"] = exec_[name]["median"] / start[name]["median"]
        rows = result["fleet"][name]["grow"]
        found[f"last start / first{label}"] = rows[-1]["start"] / rows[0]["start"]
    return found


def check(result, kept):
    """A doubling is seen, noise is not."""
    worse = [f"{name}: {value:.2f}, kept {kept['ratios'][name]:.2f}" for name, value in ratios(result).items()
             if name in kept["ratios"] and value > 2 * kept["ratios"][name]]
    mine, theirs = (data["fleet"][OWN] for data in (result, kept))
    for part in ("shim", "agent"):
        if mine["idle"][part] > 2 * theirs["idle"][part]:
            worse.append(f"RSS of the {part}: {mine['idle'][part] >> 10} KiB, kept {theirs['idle'][part] >> 10}")
    if mine["grow"][-1]["memory"] > 2 * theirs["grow"][-1]["memory"]:
        worse.append(f"memory of each next sandbox: {mine['grow'][-1]['memory'] / 1e6:.0f} MB")
    return worse


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--root", type=pathlib.Path, help="a micropod root with both guests prepared (BUILD/test-root)")
    parser.add_argument("--images", type=pathlib.Path, help="OCI layouts (BUILD/test-images)")
    parser.add_argument("build", type=pathlib.Path)
    arg = parser.parse_args()
    build = arg.build.resolve()
    root, images = (arg.root or build / "test-root").resolve(), (arg.images or build / "test-images").resolve()
    result = {"machine": machine(), "rounds": arg.rounds, "agent_binary": agent_binary(build)}
    all_of_them = []
    try:
        for one in contenders(build, root, images, arg.short):
            all_of_them.append(one)
        result["machine"]["accel"] = accelerator(all_of_them[0])
        result["start"] = measure(all_of_them, "start", arg.rounds)
        result["exec"] = measure(all_of_them, "exec", arg.rounds)
        if not arg.short:
            result["cp"] = copies(all_of_them, min(arg.rounds, 5))
        for one in all_of_them:
            if isinstance(one, Micropod):
                one.leave()
        result["fleet"] = fleets(all_of_them, images, arg.short)
    finally:
        for one in all_of_them:
            one.close()
    if not arg.short:
        result["rpc"] = rpc(build)
    result["ratios"] = ratios(result)
    print(json.dumps(result, indent=2))
    if arg.docs:
        report.write(result)
    worse = check(result, json.loads(report.KEPT.read_text())) if arg.check else []
    for line in worse:
        print(f"bench: twice as bad as docs/benchmarks.json says: {line}", file=sys.stderr)
    sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()
