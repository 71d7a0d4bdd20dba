# SPDX-License-Identifier: Apache-2.0
"""Many sandboxes alive at once: the time and the memory of each next one; what one costs; how many starts fit in a second."""
import json
import pathlib
import re
import socket
import subprocess
import threading
import time

KEYS = ("ShimPid", "VMMPid", "NetPid")


def status(pid, file, key):
    text = pathlib.Path(f"/proc/{pid}/{file}").read_text()
    return int(re.search(rf"^{key}:\s+(\d+) kB", text, re.M)[1]) << 10


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Fleet:
    def __init__(self, micropod):
        self.micropod, self.boxes = micropod, []

    def pids(self, box):
        text = self.micropod.output("inspect", box)
        return {key: int(re.search(rf'"{key}": (\d+)', text)[1]) for key in KEYS}

    def start(self, image, *words, publish=None):
        ports = ["-p", f"127.0.0.1:{publish}:80"] if publish else []
        before = time.monotonic()
        box = self.micropod.output("run", "-d", "-q", *ports, *self.micropod.options, image, *words).strip()
        self.boxes.append(box)
        return time.monotonic() - before

    def pss(self, boxes=None):
        """Of all host processes of the sandboxes: pages that several have are counted by their share."""
        return sum(status(pid, "smaps_rollup", "Pss") for box in boxes or self.boxes for pid in self.pids(box).values())

    def close(self):
        if self.boxes:
            self.micropod.run("rm", "-f", *self.boxes)
        self.boxes = []

    def grow(self, most):
        """Rows of (number alive, seconds of the last start, bytes of each since the row before)."""
        rows, before = [], 0
        try:
            number = 1
            while number <= most:
                taken = [self.start(self.micropod.image, "sleep", "100000") for _ in range(number - len(self.boxes))]
                # A guest gives back what its start has freed; that is not immediate.
                time.sleep(2)
                total = self.pss()
                rows.append({"alive": number, "start": sorted(taken)[len(taken) // 2],
                             "memory": (total - before) / len(taken), "total": total})
                before, number = total, number * 2
        finally:
            self.close()
        return rows

    def idle(self):
        """RSS of the parts of one that does nothing."""
        try:
            self.start(self.micropod.image, "sleep", "100000")
            pids = self.pids(self.boxes[0])
            sizes = {key: status(pids[pid], "status", "VmRSS") for key, pid in (("shim", "ShimPid"), ("vmm", "VMMPid"), ("net", "NetPid"))}
            return {**sizes, "agent": int(re.search(r'"AgentRSS": (\d+)', self.micropod.output("inspect", self.boxes[0]))[1])}
        finally:
            self.close()

    def nginx(self, image, rounds):
        """Seconds to the first HTTP answer, and bytes of the first sandbox alone less what nginx itself uses in the guest."""
        times = []
        for _ in range(rounds + 1):
            port = free_port()
            before = time.monotonic()
            try:
                self.start(f"oci:{image}:latest", publish=port)
                self.first_answer(port)
                times.append(time.monotonic() - before)
                if len(times) == rounds + 1:
                    row = json.loads(self.micropod.output("stats", "--no-stream", "--format", "json", self.boxes[0]).splitlines()[0])
                    overhead = self.pss() - size(row["MemUsage"].split(" / ")[0])
            finally:
                self.close()
        return sorted(times[1:])[rounds // 2], overhead

    @staticmethod
    def first_answer(port):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", port), 5) as sock:
                    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    if sock.recv(64).startswith(b"HTTP/1."):
                        return
            except OSError:
                pass
            time.sleep(0.002)
        raise RuntimeError("nginx does not answer")

    def throughput(self, seconds, workers):
        """Starts a second, several at once."""
        end, counts = time.monotonic() + seconds, [0] * workers

        def work(index):
            while time.monotonic() < end:
                self.micropod.start()
                counts[index] += 1

        threads = [threading.Thread(target=work, args=(index,)) for index in range(workers)]
        before = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.monotonic() - before)


UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def size(text):
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]+)", text).groups()
    return float(number) * UNITS[unit]


def agent_binary(build):
    return (pathlib.Path(build) / "guest/agent").stat().st_size


def rpc(build):
    """The last line of bench-rpc."""
    done = subprocess.run(["/usr/bin/python3", pathlib.Path(__file__).with_name("rpc.py"), pathlib.Path(build) / "bench/hello-micropod",
                           "--seconds", "2", "--rounds", "3"], capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
