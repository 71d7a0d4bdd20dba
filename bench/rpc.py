#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""rpc.py HELLO_MICROPOD [--seconds N] [--rounds N]: unary calls a second over a unix socket, ours and the C-core's.

Each round measures both in turn with h2load, so that both have the same machine; the medians are compared.
Prints a table and, as the last line, JSON.
"""

import argparse
import json
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
LOADS = {"c1 m1": ["-c1", "-m1"], "c4 m32": ["-c4", "-m32"]}


def build_core(folder):
    """The C-core's server, with the compiler and options that meson uses for ours."""
    core = folder / "hello-core"
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "grpc_unsecure"], stdout=subprocess.PIPE, text=True, check=False)
    if flags.returncode:
        sys.exit("rpc.py: the C-core is missing: apt-get install libgrpc-dev")
    subprocess.run(["protoc-c", f"-I{HERE}", f"--c_out={folder}", "helloworld.proto"], check=True)
    subprocess.run(["cc", "-O2", "-g", f"-I{folder}", HERE / "hello-core.c", folder / "helloworld.pb-c.c", "-o", core,
                    "-lgrpc_unsecure", "-lgpr", "-lprotobuf-c"], check=True)
    return core


def memory(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return {k: int(re.search(rf"^{k}:\s+(\d+)", status, re.M)[1]) for k in ("VmRSS", "VmHWM", "RssAnon")}


def answers(sock):
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(str(sock)) == 0


def load(sock, body, seconds, args):
    out = subprocess.run(["h2load", *args, "-D", str(seconds), "--warm-up-time", "1", "-B", f"unix:{sock}", "-d", body,
                          "-H", "content-type: application/grpc", "-H", "te: trailers",
                          "http://localhost/helloworld.Greeter/SayHello"], stdout=subprocess.PIPE, text=True, check=False).stdout
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", out)
    if not counts or not int(counts[1]) or int(counts[2]) or int(counts[3]):
        sys.exit(f"rpc.py: h2load saw failures:\n{out}")
    return float(re.search(r"finished in .*?, ([\d.]+) req/s", out)[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ours", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    opts = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:  # h2load takes socket paths in lower case only
        folder = pathlib.Path(name)
        servers = {"micropod": opts.ours.resolve(), "C-core": build_core(folder)}
        body = folder / "request"
        body.write_bytes(b"\0\0\0\0\7\n\5world")
        running, rates = {}, {s: {l: [] for l in LOADS} for s in servers}
        try:
            for s, path in servers.items():
                running[s] = subprocess.Popen([path, f"unix:{folder}/{s.lower()}.sock"])
            deadline = time.monotonic() + 10
            while not all(answers(folder / f"{s.lower()}.sock") for s in servers):
                if time.monotonic() > deadline:
                    sys.exit("rpc.py: a server did not start")
                time.sleep(0.05)
            for _ in range(opts.rounds):
                for label, args in LOADS.items():
                    for s, p in running.items():
                        if p.poll() is not None:
                            sys.exit(f"rpc.py: the {s} server ended with {p.returncode}")
                        rates[s][label].append(load(folder / f"{s.lower()}.sock", body, opts.seconds, args))
            sizes = {s: memory(p.pid) for s, p in running.items()}
        finally:
            for p in running.values():
                p.terminate()
                p.wait()
    result = {s: {l: statistics.median(r) for l, r in rates[s].items()} | {"rss_kib": sizes[s]["VmRSS"], "anon_kib": sizes[s]["RssAnon"]}
              for s in servers}
    ratio = {l: result["micropod"][l] / result["C-core"][l] for l in LOADS}
    print(f"{'':10}" + "".join(f"{l + ' req/s':>16}" for l in LOADS) + f"{'RSS KiB':>10}{'anon KiB':>10}")
    for s, r in result.items():
        print(f"{s:10}" + "".join(f"{r[l]:16.0f}" for l in LOADS) + f"{r['rss_kib']:10}{r['anon_kib']:10}")
    print(f"{'ratio':10}" + "".join(f"{ratio[l]:16.2f}" for l in LOADS))
    print(json.dumps({"benchmark": "rpc-unary", "rounds": opts.rounds, "seconds": opts.seconds, "result": result, "ratio": ratio}))


main()
