#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What work costs inside, beside Docker and the raw host: first starts of an image, disks, shared folders, networks, output, real
programs. Contenders in turn, medians; prints Markdown.

usage: work.py BUILD [ROUNDS [PART...]]       (root: it starts an engine of its own; parts: starts, disks, networks, output, programs)
"""
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(sys.argv[1]).resolve()
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 3
os.environ["MICROPOD_BUILD"] = str(BUILD)
os.environ.setdefault("MICROPOD_TEST_IMAGES", str(BUILD / "test-images"))
os.environ.setdefault("MICROPOD_TEST_GUEST", str(BUILD / "test-root"))
sys.path.append(str(TOP / "tests/e2e"))
from conftest import GUEST, IMAGES, Micropod  # noqa: E402
from engine import Engine  # noqa: E402

LIMIT = 900  # seconds, for one thing
MB = 1 << 20


def quiet(*words, **kwargs):
    done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, **kwargs)
    if done.returncode:
        raise SystemExit(f"{words}: {done}")
    return done.stdout.decode()


def timed(fn):
    began = time.perf_counter()
    fn()
    return time.perf_counter() - began


def in_turn(contenders, rounds=ROUNDS):
    times = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, fn in contenders.items():
            times[name].append(fn())
    return {name: statistics.median(values) for name, values in times.items()}


def table(head, rows):
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


class Podman:
    """With a storage and a network namespace of its own."""

    def __init__(self, folder):
        self.space = f"work-podman-{os.getpid()}"
        quiet("ip", "netns", "add", self.space)
        quiet("ip", "-n", self.space, "link", "set", "lo", "up")
        self.root = f"{folder}/podman"
        self.words = ["nsenter", f"--net=/run/netns/{self.space}", "podman", "--root", self.root, "--runroot", f"{folder}/podman-run",
                      "--cgroup-manager=cgroupfs", "--runtime=runc", "--events-backend=none"]

    def run(self):
        limits = [f"--ulimit={word}={min(resource.getrlimit(which)[1], 1024)}" for word, which in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))]
        quiet(*self.words, "run", "--rm", *limits, f"oci:{IMAGES}/debian:latest", "true")

    def forget(self):
        quiet(*self.words, "rmi", "-af")

    def close(self):
        subprocess.run(["umount", "-q", f"{self.root}/overlay"], check=False)
        quiet("ip", "netns", "del", self.space)


def first_starts(micropod, engine):
    """Of an image that nobody has seen: a layout on the disk, converted or unpacked, and started; and of a known one."""
    podman = Podman(micropod.folder)

    def forget():
        micropod("rmi", f"oci:{IMAGES}/debian:latest")
        engine("rmi", "-f", "debian")
        podman.forget()

    def vm(*words):
        return lambda: micropod.ok("run", "--rm", *words, f"oci:{IMAGES}/debian:latest", "true", timeout=LIMIT)

    def docker():
        engine.load("debian")
        engine.ok("run", "--rm", "debian", "true")

    contenders = {"micropod, block": vm(), "micropod, `--rootfs virtiofs`": vm("--rootfs", "virtiofs"), "Docker": docker, "Podman": podman.run}
    first, known = {}, {}
    for name, fn in contenders.items():
        def once(fn=fn):
            forget()
            return timed(fn)
        first[name] = once

        def again(name=name, fn=fn):
            return timed(fn if name != "Docker" else lambda: engine.ok("run", "--rm", "debian", "true"))
        known[name] = again
    a = in_turn(first)
    for fn in contenders.values():  # all know it now
        fn()
    b = in_turn(known)
    podman.forget()
    podman.close()
    table(["Debian, 33 MB packed", "first run, s", "known, s"], [[name, f"{a[name]:.2f}", f"{b[name]:.2f}"] for name in contenders])


SCRIPTS = {
    "write 64 MB and sync": ("dd if=/dev/zero of={d}/big bs=1M count=64 conv=fsync 2>/dev/null", 64),
    "read 64 MB": ("dd if={d}/big of=/dev/null bs=1M 2>/dev/null", 64),
    "make 1,000 files": ("mkdir -p {d}/many; i=0; while [ $i -lt 1000 ]; do i=$((i+1)); : > {d}/many/$i; done", None),
    "list and remove them": ("ls -l {d}/many >/dev/null; rm -r {d}/many", None),
}


def disks(micropod, engine, folder):
    shared = folder / "shared"
    shared.mkdir()
    engine.load("busybox")
    micropod.ok("run", "-d", "--name", "disks", "-v", f"{shared}:/shared", micropod.busybox, "sleep", "100000")
    engine.ok("run", "-d", "--name", "disks", "-v", f"{shared}:/shared", "busybox", "sleep", "100000")
    places = {
        "micropod, root disk": lambda text: micropod.ok("exec", "disks", "sh", "-c", text.format(d="/root"), timeout=LIMIT),
        "micropod, `-v`": lambda text: micropod.ok("exec", "disks", "sh", "-c", text.format(d="/shared"), timeout=LIMIT),
        "Docker, root": lambda text: engine.ok("exec", "disks", "sh", "-c", text.format(d="/root")),
        "Docker, `-v`": lambda text: engine.ok("exec", "disks", "sh", "-c", text.format(d="/shared")),
        "the host": lambda text: quiet("busybox", "sh", "-c", text.format(d=folder)),
    }
    rows = []
    results = {what: {name: [] for name in places} for what in SCRIPTS}
    for _ in range(ROUNDS):
        for name, run in places.items():
            for what, (text, _) in SCRIPTS.items():
                results[what][name].append(timed(lambda: run(text)))
    for what, (_, size) in SCRIPTS.items():
        medians = {name: statistics.median(values) for name, values in results[what].items()}
        rows.append([what] + [f"{medians[name]:.2f} s" + (f" ({size / medians[name]:.0f} MB/s)" if size else "") for name in places])
    table([""] + list(places), rows)
    micropod.ok("rm", "-f", "disks")
    engine.ok("rm", "-f", "disks")


def to_the_host(micropod, software, host_server):
    """A host's own address, from a user-mode network and from a bridge, in turn."""
    made = quiet("ip", "-4", "-br", "address", "show", "scope", "global").split()[2].split("/")[0]
    micropod.ok("network", "create", "-d", "bridge", "bridge-bench")
    rows = []
    for way, words in (("out of it", []), ("into it", ["-R"])):
        found = {"user-mode": [], "bridge": []}
        for _ in range(ROUNDS):
            for name, more in (("user-mode", []), ("bridge", ["--network", "bridge-bench"])):
                found[name].append(host_server(lambda: micropod.ok("run", "--rm", *more, software, "iperf3", "-t", "4", "-p", "5333", *words, "-c", made, timeout=60)))
        rows += [[f"the host's address, {way}, {name}", f"{statistics.median(values):.0f}"] for name, values in found.items()]
    micropod.ok("network", "rm", "bridge-bench")
    return rows


def networks(micropod, engine):
    """iperf3 for four seconds each way."""
    software = f"oci:{IMAGES}/software:latest"

    def rate(text):
        line = next(line for line in text.splitlines() if line.endswith("receiver"))
        value, unit = line.split()[6:8]
        return float(value) * {"Gbits/sec": 1000, "Mbits/sec": 1, "Kbits/sec": 0.001}[unit]

    def host_server(fn):
        server = subprocess.Popen(["iperf3", "-s", "-1", "-p", "5333"], stdout=subprocess.DEVNULL)
        time.sleep(0.3)
        out = fn()
        server.wait(timeout=30)
        return rate(out)

    rows = []
    for way, words in (("out of it", []), ("into it", ["-R"])):
        def run(*more):
            return micropod.ok("run", "--rm", *more, software, "iperf3", "-t", "4", "-p", "5333", *words, "-c", "10.0.2.2", timeout=60)
        rows.append([f"host's loopback, {way} (`--host-access`)", f"{statistics.median(host_server(lambda: run('--host-access')) for _ in range(ROUNDS)):.0f}"])
    rows += to_the_host(micropod, software, host_server)
    micropod.ok("network", "create", "bench")
    micropod.ok("run", "-d", "--name", "server", "--network", "bench", "-p", "127.0.0.1:5334:5334", software, "iperf3", "-s", "-p", "5334")
    time.sleep(2)
    rows.append(["from one sandbox to another on a network", f"{statistics.median(rate(micropod.ok('run', '--rm', '--network', 'bench', software, 'iperf3', '-t', '4', '-p', '5334', '-c', 'server', timeout=60)) for _ in range(ROUNDS)):.0f}"])
    for way, words in (("into it", []), ("out of it", ["-R"])):
        rows.append([f"published port, {way}", f"{statistics.median(rate(quiet('iperf3', '-t', '4', '-p', '5334', *words, '-c', '127.0.0.1')) for _ in range(ROUNDS)):.0f}"])
    micropod.ok("rm", "-f", "server")
    micropod.ok("network", "rm", "bench")
    engine.load("software")
    engine.ok("network", "create", "bench")
    engine.ok("run", "-d", "--name", "server", "--network", "bench", "software", "iperf3", "-s")
    time.sleep(1)
    rows.append(["Docker, from one container to another", f"{statistics.median(rate(engine.ok('run', '--rm', '--network', 'bench', 'software', 'iperf3', '-t', '4', '-c', 'server')) for _ in range(ROUNDS)):.0f}"])
    engine.ok("rm", "-f", "server")
    engine.ok("network", "rm", "bench")
    table(["iperf3, one stream", "Mbit/s"], rows)


def output(micropod, engine):
    size = 256 * MB
    command = ["sh", "-c", f"yes | head -c {size}"]

    def count(*words, env=None):
        process = subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env)
        n = 0
        while data := process.stdout.read(1 << 20):
            n += len(data)
        if process.wait() or n != size:
            raise SystemExit(f"{words}: {n} bytes")

    micropod.ok("run", "-d", "--name", "out", micropod.busybox, "sleep", "100000")
    engine.ok("run", "-d", "--name", "out", "busybox", "sleep", "100000")
    found = in_turn({
        "micropod exec": lambda: timed(lambda: count(micropod.program, "exec", "out", *command, env=micropod.env)),
        "micropod run": lambda: timed(lambda: count(micropod.program, "run", "--rm", "--log-driver", "none", micropod.busybox, *command, env=micropod.env)),
        "docker exec": lambda: timed(lambda: count("docker", "-H", engine.host, "exec", "out", *command)),
        "the host": lambda: timed(lambda: count("busybox", *command)),
    })
    table([f"`yes | head -c {size // MB}M`", "s", "MB/s"], [[name, f"{value:.2f}", f"{size / MB / value:.0f}"] for name, value in found.items()])
    micropod.ok("rm", "-f", "out")
    engine.ok("rm", "-f", "out")


PROGRAMS = {
    "a C build (`gcc -O1`, two files)": "cd /tmp && printf 'int part(int);int main(void){return part(9)!=34;}' > a.c && "
        "printf 'int part(int n){return n<2?n:part(n-1)+part(n-2);}' > b.c && gcc -O1 -c a.c b.c && gcc -o p a.o b.o && ./p",
    "redis-benchmark, 2,000 SET and GET, 10 clients": "redis-server --daemonize yes --save '' >/dev/null; until redis-cli ping >/dev/null 2>&1; "
        "do sleep 0.1; done; redis-benchmark -q -n 2000 -c 10 -t set,get >/dev/null; redis-cli shutdown",
    "Python, parsing 2,000 JSON texts": "python3 -c 'import json; t=json.dumps({str(i): [i]*20 for i in range(200)}); [json.loads(t) for _ in range(2000)]'",
}


def programs(micropod, engine):
    software = f"oci:{IMAGES}/software:latest"
    rows = []
    for name, text in PROGRAMS.items():
        found = in_turn({
            "micropod": lambda: timed(lambda: micropod.ok("run", "--rm", software, "bash", "-c", text, timeout=LIMIT)),
            "docker": lambda: timed(lambda: engine.ok("run", "--rm", "software", "bash", "-c", text)),
        })
        rows.append([name, f"{found['micropod']:.2f}", f"{found['docker']:.2f}", f"{found['micropod'] / found['docker']:.1f}"])
    table(["start and all", "micropod, s", "Docker, s", "ratio"], rows)


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-work-"))
    engine = Engine()
    micropod = Micropod(folder, guest=GUEST)
    try:
        parts = {"starts": lambda: first_starts(micropod, engine), "disks": lambda: disks(micropod, engine, folder),
                 "networks": lambda: networks(micropod, engine), "output": lambda: output(micropod, engine),
                 "programs": lambda: programs(micropod, engine)}
        for name in sys.argv[3:] or parts:
            parts[name]()
    finally:
        micropod.clean()
        engine.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
