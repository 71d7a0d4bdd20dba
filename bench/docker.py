#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Containers of a Docker Engine with the agent in them, beside the engine's own commands: contenders in turn, medians, ratios.

usage: docker.py BUILD [ROUNDS]       (root: it starts an engine of its own)
"""
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(sys.argv[1]).resolve()
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 15
os.environ["MICROPOD_BUILD"] = str(BUILD)
os.environ.setdefault("MICROPOD_TEST_IMAGES", str(BUILD / "test-images"))
sys.path.append(str(TOP / "tests/e2e"))
from engine import Engine  # noqa: E402
from servers import Runner, Server  # noqa: E402


def timed(*words, **kwargs):
    began = time.perf_counter()
    subprocess.run([str(word) for word in words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **kwargs)
    return time.perf_counter() - began


def in_turn(contenders, rounds=ROUNDS):
    """Medians, in seconds. Each contender: what is timed, and what puts things back."""
    times = {name: [] for name in contenders}
    for i in range(rounds + 1):
        for name, (run, undo) in contenders.items():
            taken = run()
            undo()
            if i:
                times[name].append(taken)
    return {name: statistics.median(list_) for name, list_ in times.items()}


def rss(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise SystemExit("no RSS")


def main():
    engine = Engine()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-docker-"))
    os.environ.update(DOCKER_HOST=engine.host, MICROPOD_ROOT=str(folder / "root"), MICROPOD_DRIVER="docker")
    micropod, docker = BUILD / "src/cli/micropod", "docker"
    quiet = {"stdout": subprocess.DEVNULL, "check": True}

    def nothing():
        pass

    def drop(*words):
        return lambda: subprocess.run(words, **quiet)

    def report(what, contenders, aim, rounds=ROUNDS):
        medians = in_turn(contenders, rounds)
        ours, theirs = medians.values()
        print(f"| {what} | {ours * 1000:.1f} ms | {theirs * 1000:.1f} ms | {ours / theirs:.2f} | {aim} |", flush=True)

    try:
        engine.load("busybox")
        print("| | micropod | docker | ratio | aim |\n|---|---|---|---|---|")
        report("`run -d` to agent ready, `docker run -d`", {
            "ours": (lambda: timed(micropod, "run", "-d", "--name", "ours", "busybox", "sleep", "1000"), drop(micropod, "rm", "-f", "ours")),
            "theirs": (lambda: timed(docker, "run", "-d", "--name", "theirs", "busybox", "sleep", "1000"), drop(docker, "rm", "-f", "theirs")),
        }, "1.2")
        report("the same, the agent copied (`--agent-path /tmp/agent`)", {
            "ours": (lambda: timed(micropod, "run", "-d", "--name", "ours", "--agent-path", "/tmp/agent", "busybox", "sleep", "1000"), drop(micropod, "rm", "-f", "ours")),
            "theirs": (lambda: timed(docker, "run", "-d", "--name", "theirs", "busybox", "sleep", "1000"), drop(docker, "rm", "-f", "theirs")),
        }, "")
        report("`run --rm true`", {
            "ours": (lambda: timed(micropod, "run", "--rm", "busybox", "true"), nothing),
            "theirs": (lambda: timed(docker, "run", "--rm", "busybox", "true"), nothing),
        }, "")
        subprocess.run([micropod, "run", "-d", "--name", "box", "busybox", "sleep", "100000"], **quiet)
        pid = int(engine.ok("inspect", "-f", "{{.State.Pid}}", "box"))
        print(f"\nAgent, idle: {rss(pid):.2f} MB.\n")
        report("`exec true`", {
            "ours": (lambda: timed(micropod, "exec", "box", "true"), nothing),
            "theirs": (lambda: timed(docker, "exec", "box", "true"), nothing),
        }, "0.15", 3 * ROUNDS)
        server = Server(folder)
        runner = Runner(server, folder, "host", folder / "root")
        try:
            remote = {**os.environ, "MICROPOD_SERVER": server.url, "MICROPOD_TOKEN": server.token("--user", "bench")}
            report("`exec true` through a server and a runner", {
                "ours": (lambda: timed(micropod, "exec", "box", "true", env=remote), nothing),
                "theirs": (lambda: timed(docker, "exec", "box", "true"), nothing),
            }, "0.2", 3 * ROUNDS)
        finally:
            runner.kill()
            server.kill()
        big, tree = folder / "big", folder / "tree"
        big.write_bytes(os.urandom(10 << 20))
        tree.mkdir()
        for i in range(5000):
            (tree / f"{i}").write_text(f"file {i}\n")
        for what, path in (("10 MB", big), ("5,000 files", tree)):
            report(f"`cp` of {what} in", {
                "ours": (lambda: timed(micropod, "cp", path, "box:/in"), drop(micropod, "exec", "box", "rm", "-rf", "/in")),
                "theirs": (lambda: timed(docker, "cp", path, "box:/in"), drop(micropod, "exec", "box", "rm", "-rf", "/in")),
            }, "", 5)
            subprocess.run([micropod, "cp", path, "box:/out"], check=True)
            report(f"`cp` of {what} out", {
                "ours": (lambda: timed(micropod, "cp", "box:/out", folder / "back"), drop("rm", "-rf", folder / "back")),
                "theirs": (lambda: timed(docker, "cp", "box:/out", folder / "back"), drop("rm", "-rf", folder / "back")),
            }, "", 5)
            subprocess.run([micropod, "exec", "box", "rm", "-rf", "/out"], check=True)
        print(f"\nAgent, after these: {rss(pid):.2f} MB.")
    finally:
        subprocess.run([micropod, "rm", "-f", "box", "ours"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        engine.stop()
        subprocess.run(["rm", "-rf", folder])


main()
