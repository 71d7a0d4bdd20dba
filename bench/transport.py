#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How the agent is joined: vsock, served by the shim, beside virtio-serial. Both in turn, medians; prints Markdown.

usage: transport.py BUILD [ROUNDS]
"""
import os
import pathlib
import statistics
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(sys.argv[1]).resolve()
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
os.environ["MICROPOD_BUILD"] = str(BUILD)
os.environ.setdefault("MICROPOD_TEST_IMAGES", str(BUILD / "test-images"))
os.environ.setdefault("MICROPOD_TEST_GUEST", str(BUILD / "test-root"))
sys.path.append(str(TOP / "tests/e2e"))
from conftest import Micropod  # noqa: E402

SIZE = 64 << 20
WAYS = {"virtio-serial": "false", "vsock": "true"}


def main():
    with tempfile.TemporaryDirectory(prefix="micropod-bench-") as folder:
        micropod = Micropod(folder)
        blob = pathlib.Path(folder) / "blob"
        blob.write_bytes(os.urandom(SIZE))
        data = bytes(SIZE)
        for way, word in WAYS.items():
            micropod.ok("run", "-d", "--name", way, micropod.busybox, "sleep", "100000", env={"MICROPOD_ENABLE_VSOCK": word})
            assert micropod.inspect(way)["Micropod"]["Transport"] == way
        deeds = {
            "`run --rm IMAGE true`": lambda way: micropod.ok("run", "--rm", micropod.busybox, "true", env={"MICROPOD_ENABLE_VSOCK": WAYS[way]}),
            "`run --rm -v DIR:/w IMAGE true`": lambda way: micropod.ok("run", "--rm", "-v", f"{folder}:/w", micropod.busybox, "true",
                                                                        env={"MICROPOD_ENABLE_VSOCK": WAYS[way]}),
            "`exec BOX true`": lambda way: micropod.ok("exec", way, "true"),
            "64 MiB of an `exec`'s output": lambda way: micropod("exec", way, "head", "-c", str(SIZE), "/dev/zero"),
            "64 MiB of its input": lambda way: micropod.ok("exec", "-i", way, "wc", "-c", input=data),
            "`cp` of 64 MiB in": lambda way: micropod.ok("cp", str(blob), f"{way}:/blob"),
            "`cp` of 64 MiB out": lambda way: micropod.ok("cp", f"{way}:/blob", f"{folder}/back"),
        }
        print("| | virtio-serial | vsock | ratio |\n|---|---|---|---|")
        for name, deed in deeds.items():
            times = {way: [] for way in WAYS}
            for _ in range(ROUNDS):
                for way in WAYS:
                    began = time.perf_counter()
                    deed(way)
                    times[way].append(time.perf_counter() - began)
            serial, vsock = (statistics.median(times[way]) for way in WAYS)
            print(f"| {name} | {serial:.3f} s | {vsock:.3f} s | {vsock / serial:.2f} |", flush=True)
        micropod.clean()


main()
