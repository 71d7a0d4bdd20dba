# SPDX-License-Identifier: Apache-2.0
"""Mixed verbs from several processes at once, for a time, on one root: every one has to succeed, nothing may be left, and what
lives through all of it may not grow. `make soak` runs it for half an hour; test_soak.py for a moment.

usage: soak.py SECONDS [WORKERS]"""
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from conftest import Micropod

WORKERS = 4
VERB_TIME = 180  # seconds: several emulated guests share two processors


class Worker(threading.Thread):
    """Does one thing after the other, with sandboxes of its own. A failure ends it, and is kept."""

    def __init__(self, micropod, number, until, seed):
        super().__init__(daemon=True)
        self.micropod, self.number, self.until = micropod, number, until
        self.random = random.Random(seed)
        self.counts, self.failure, self.n = {}, None, 0

    def name(self):
        self.n += 1
        return f"soak-{self.number}-{self.n}"

    def ok(self, *words, **kwargs):
        return self.micropod.ok(*words, timeout=VERB_TIME, **kwargs)

    def run(self):
        deeds = [getattr(self, name) for name in dir(self) if name.startswith("do_")]
        while time.monotonic() < self.until and not self.failure:
            deed = self.random.choice(deeds)
            try:
                deed()
            except Exception as error:  # told by who started us
                self.failure = f"{deed.__name__}: {type(error).__name__}: {error}"[:600]
            self.counts[deed.__name__[3:]] = self.counts.get(deed.__name__[3:], 0) + 1

    def long(self, *words):
        name = self.name()
        self.ok("run", "-d", "--name", name, *words, self.micropod.busybox, "sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 1; done")
        return name

    # The deeds

    def do_run(self):
        text = str(self.random.random())
        way = self.random.choice([[], ["--init"], ["--network", "none"], ["--read-only"], ["--rootfs", "virtiofs"], ["-t"]])
        vsock = self.random.random() < 0.2
        assert self.ok("run", "--rm", *way, self.micropod.busybox, "echo", text, env={"MICROPOD_ENABLE_VSOCK": str(vsock).lower()}).strip() == text

    def do_exit_codes(self):
        code = self.random.randrange(1, 120)
        assert self.micropod("run", "--rm", self.micropod.busybox, "sh", "-c", f"exit {code}", timeout=VERB_TIME).returncode == code

    def do_much_output(self):
        out = self.ok("run", "--rm", self.micropod.busybox, "sh", "-c", "yes 0123456789abcdef | head -n 40000")
        assert len(out) == 40000 * 17

    def do_exec_and_stop(self):
        box = self.long()
        for i in range(self.random.randrange(1, 6)):
            assert self.ok("exec", box, "echo", str(i)) == f"{i}\n"
        self.ok("stop", box)
        assert self.micropod.inspect(box)["State"]["ExitCode"] == 7
        assert self.ok("logs", box) == "up\n"
        self.ok("rm", box)

    def do_restart_and_rename(self):
        box, other = self.long(), self.name()
        self.ok("restart", box)
        self.ok("rename", box, other)
        self.ok("pause", other)
        self.ok("unpause", other)
        self.ok("update", "-m", "256m", other)
        self.ok("kill", other)
        self.ok("wait", other)
        self.ok("rm", "-f", other)

    def do_copy(self):
        box = self.long()
        data = os.urandom(self.random.randrange(1, 500000))
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder)
            (path / "in").write_bytes(data)
            self.ok("cp", f"{path}/in", f"{box}:/tmp/there")
            assert self.ok("exec", box, "md5sum", "/tmp/there").split()[0] == hashlib.md5(data).hexdigest()
            if self.random.random() < 0.3:
                self.ok("stop", "-t", "0", box)
            self.ok("cp", f"{box}:/tmp/there", f"{path}/out")
            assert (path / "out").read_bytes() == data
        self.ok("rm", "-f", box)

    def do_volume(self):
        volume, text = self.name(), str(self.random.random())
        self.ok("volume", "create", volume)
        self.ok("run", "--rm", "-v", f"{volume}:/v", self.micropod.busybox, "sh", "-c", f"echo {text} > /v/file")
        assert self.ok("run", "--rm", "-v", f"{volume}:/v:ro", self.micropod.busybox, "cat", "/v/file").strip() == text
        self.ok("volume", "rm", volume)
        self.ok("run", "--rm", "-v", "/v", self.micropod.busybox, "touch", "/v/file")

    def do_pod(self):
        """Members come and go, one is killed; the rest does not notice."""
        pod, boxes = self.name(), [self.name() for _ in range(3)]
        self.ok("pod", "create", pod)
        for box in boxes:
            self.ok("run", "-d", "--pod", pod, "--name", box, self.micropod.busybox, "sleep", "1000")
        assert self.ok("run", "--rm", "--pod", pod, self.micropod.busybox, "hostname")
        self.ok("rm", "-f", boxes[0])
        self.ok("kill", boxes[1])
        assert self.ok("exec", boxes[2], "echo", "there") == "there\n"
        self.ok("pod", "rm", "-f", pod)

    def do_bridge(self):
        if os.geteuid() != 0:
            return
        network, box, text = self.name(), self.name(), str(self.random.random())
        self.ok("network", "create", "-d", "bridge", network)
        self.ok("run", "-d", "--name", box, "--network", network, self.micropod.busybox, "sh", "-c",
                f"echo {text} > /tmp/index.html; exec httpd -f -h /tmp")
        assert self.ok("run", "--rm", "--network", network, self.micropod.busybox, "sh", "-c",
                       f"for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://{box}/ && exit 0; sleep 1; done; exit 1").strip() == text
        self.ok("rm", "-f", box)
        self.ok("network", "rm", network)

    def do_network(self):
        network = self.name()
        self.ok("network", "create", network)
        box = self.name()
        self.ok("run", "-d", "--name", box, "--network", network, self.micropod.busybox, "sh", "-c",
                "while :; do sleep 1000 | nc -l -p 7 > /dev/null; done")
        self.ok("run", "--rm", "--network", network, self.micropod.busybox, "sh", "-c",
                f"for i in 1 2 3 4 5 6 7 8 9; do nc -w 2 {box} 7 < /dev/null && exit 0; sleep 1; done; exit 1")
        self.ok("rm", "-f", box)
        self.ok("network", "rm", network)

    def do_commit(self):
        box, image, text = self.name(), self.name(), str(self.random.random())
        self.ok("run", "--name", box, self.micropod.busybox, "sh", "-c", f"echo {text} > /new")
        assert self.ok("diff", box) == "A /new\n"
        self.ok("commit", box, image)
        assert self.ok("run", "--rm", image, "cat", "/new").strip() == text
        self.ok("rm", box)
        self.ok("rmi", image)

    def do_killed_client(self):
        name = self.name()
        client = self.micropod.popen("run", "--rm", "--name", name, self.micropod.busybox, "sleep", "1000", stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(self.random.random() * 2)
        client.kill()
        client.wait()
        self.micropod("rm", "-f", name, timeout=VERB_TIME)

    def do_killed_process(self):
        box = self.long()
        vmm = self.micropod.inspect(box)["Micropod"]["VMMPid"]
        os.kill(self.random.choice([vmm, parent(vmm), self.micropod.inspect(box)["Micropod"]["NetPid"]]), signal.SIGKILL)
        deadline = time.monotonic() + 30
        while self.micropod.inspect(box)["State"]["Status"] == "running" and time.monotonic() < deadline:
            time.sleep(0.05)
        self.ok("rm", "-f", box)

    def do_look(self):
        self.ok("ps", "-a")
        self.ok("stats", "--no-stream")
        self.ok("images")
        self.ok("system", "df")
        self.ok("network", "ls")
        self.ok("volume", "ls")


def parent(pid):
    """The shim, of its VMM."""
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def memory(pid):
    """Private bytes of a process."""
    return sum(int(line.split()[1]) * 1024 for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
               if line.startswith(("Private_Clean", "Private_Dirty")))


class Watched:
    """A sandbox that lives through it all, used all the time."""

    def __init__(self, micropod):
        self.micropod = micropod
        micropod.ok("run", "-d", "--name", "watched", micropod.busybox, "sleep", "100000", timeout=VERB_TIME)
        box = micropod.inspect("watched")
        self.pids = {"shim": parent(box["Micropod"]["VMMPid"]), "net": box["Micropod"]["NetPid"], "vmm": box["Micropod"]["VMMPid"]}
        self.samples = []

    def sample(self):
        for i in range(3):
            assert self.micropod.ok("exec", "watched", "echo", "x" * 1000, timeout=VERB_TIME).strip() == "x" * 1000
        found = {name: memory(pid) for name, pid in self.pids.items()}
        found["agent"] = self.micropod.inspect("watched")["Micropod"]["AgentRSS"]
        found["open"] = len(os.listdir(f"/proc/{self.pids['shim']}/fd"))
        self.samples.append(found)

    def growth(self):
        """{part: (median of the second quarter, of the last)}"""
        def middle(part, values):
            return sorted(sample[part] for sample in values)[len(values) // 2]
        quarter = max(1, len(self.samples) // 4)
        return {part: (middle(part, self.samples[quarter:2 * quarter] or self.samples), middle(part, self.samples[-quarter:]))
                for part in self.samples[0]}


def soak(micropod, seconds, workers=WORKERS, seed=None):
    seed = seed if seed is not None else random.randrange(1 << 30)
    until = time.monotonic() + seconds
    watched = Watched(micropod)
    threads = [Worker(micropod, i, until, seed + i) for i in range(workers)]
    for thread in threads:
        thread.start()
    while time.monotonic() < until and not any(thread.failure for thread in threads):
        watched.sample()
        time.sleep(min(5, max(0, until - time.monotonic())))
    for thread in threads:
        thread.join(timeout=VERB_TIME * 10)
    watched.sample()
    counts = {}
    for thread in threads:
        for name, n in thread.counts.items():
            counts[name] = counts.get(name, 0) + n
    return {"seed": seed, "counts": counts, "failures": [thread.failure for thread in threads if thread.failure] +
            [f"worker {thread.number} hangs" for thread in threads if thread.is_alive()], "growth": watched.growth()}


# What a part may grow by and still be called flat: its own caches fill for a while.
ALLOWED = {"shim": 1 << 20, "net": 1 << 20, "agent": 512 << 10, "vmm": 24 << 20, "open": 4}


def grown(result):
    return [f"{part} grew from {before} to {after}" for part, (before, after) in result["growth"].items() if after - before > ALLOWED[part]]


def main():
    seconds = int(sys.argv[1])
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else WORKERS
    folder = tempfile.mkdtemp(prefix="micropod-soak-")
    micropod = Micropod(folder)
    result = soak(micropod, seconds, workers)
    print(json.dumps(result, indent=1))
    for line in result["failures"] + grown(result):
        print(f"soak: {line}", file=sys.stderr)
    micropod.settle()
    left = micropod.leaks.count()
    micropod.close()
    shutil.rmtree(folder)
    total = sum(result["counts"].values())
    print(f"soak: {total} deeds in {seconds} s by {workers} processes at once, {len(result['failures'])} failed, left: {left or 'nothing'}")
    return bool(result["failures"] or grown(result) or left)


if __name__ == "__main__":
    sys.exit(main())
