#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a volume adds to a start: `run --rm busybox true` with and without -v, in turn, from a template and cold.
usage: bench/volumes.py [BUILD]   (after `make bench` or `make test`, which prepare guest and images)"""
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS, WARM_UP = 20, 2


def main():
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
    program = [build / "src/cli/micropod", "--root", build / "test-root"]
    image = [f"oci:{build}/test-images/busybox:latest", "true"]
    with tempfile.TemporaryDirectory() as folder:
        ways = {"plain": [], "-v": ["-v", f"{folder}:/w"], "cold": ["--cold"], "cold -v": ["--cold", "-v", f"{folder}:/w"]}
        times = {name: [] for name in ways}
        for options in ([], ["--volumes"]):
            subprocess.run([*program, "template", "build", "-q", *options], check=True, stdout=subprocess.DEVNULL)
        for _ in range(ROUNDS + WARM_UP):
            for name, options in ways.items():
                began = time.monotonic()
                subprocess.run([*program, "run", "--rm", "-q", *options, *image], check=True)
                times[name].append(time.monotonic() - began)
    for name, all_of_it in times.items():
        kept = sorted(all_of_it[WARM_UP:])
        base = statistics.median(times["cold" if name.startswith("cold") else "plain"][WARM_UP:])
        print(f"{name:8} median {statistics.median(kept):.3f} s, 95 % {kept[int(len(kept) * 0.95)]:.3f} s, "
              f"{statistics.median(kept) / base:.2f} of without")


if __name__ == "__main__":
    main()
