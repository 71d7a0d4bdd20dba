# SPDX-License-Identifier: Apache-2.0
"""Cycles of run, exec and stop in which something dies at a random moment: the command line, the shim, micropod-net or
QEMU by SIGKILL, the guest by a kernel panic, the agent by abort(3). After each, what micropod says is compared with
/proc, everybody who waited has an answer, and rm -f leaves nothing. MICROPOD_TEST_SEED repeats a run's choices (the
host's timing it cannot repeat)."""
import json
import os
import pathlib
import queue
import random
import subprocess
import sys
import threading
import time

import pytest

from conftest import BOOT, BUILD, TOP, Micropod

LONG = os.environ.get("MICROPOD_TEST_LONG")
CYCLES = 200 if LONG else 20
WORKERS = 2
SCRIPT = "trap 'exit 9' TERM; echo begun; while :; do sleep 0.2; done"

# What happens when, and to whom. The short run has each once.
PLAN = [("start", "cli"), ("start", "shim"), ("start", "net"), ("start", "qemu"),
        ("running", "cli"), ("running", "shim"), ("running", "net"), ("running", "qemu"), ("running", "panic"), ("running", "agent"),
        ("exec", "cli"), ("exec", "shim"), ("exec", "qemu"), ("exec", "agent"),
        ("stop", "cli"), ("stop", "shim"), ("stop", "net"), ("stop", "qemu"), ("remove", "cli"), ("stop", None)]

# The agent of this guest dies when a call's metadata asks it to.
ABORT = """
import sys, grpc
with grpc.insecure_channel("unix:" + sys.argv[1]) as channel:
    info = channel.unary_unary("/micropod.agent.v1.Agent/Info", request_serializer=bytes, response_deserializer=bytes)
    try:
        info(b"", metadata=[("micropod-fault", "abort")], timeout=20)
    except grpc.RpcError:
        sys.exit(0)
sys.exit("the agent lives")
"""


@pytest.fixture(scope="session")
def faulty_guest(tmp_path_factory):
    """The prepared guest with an agent that dies on request."""
    files, root = BUILD / "test-faults/files", BUILD / "test-faults/root"
    subprocess.run([TOP / "scripts/build-agent.sh", "--arch", "x86_64", "--test-faults", "--build-dir", BUILD / "test-faults/obj", files], check=True)
    crun = files / "crun"
    if not crun.exists():
        crun.symlink_to(BUILD / "guest/crun")
    subprocess.run([TOP / "scripts/prepare-guest.sh", "--files", files, root], check=True)
    return root


@pytest.fixture(scope="module")
def micropod_root(faulty_guest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("micropod-chaos")
    micropod = Micropod(folder, guest=faulty_guest)
    yield micropod
    micropod.close()


def began_at(pid):
    """Its start time, None for one that is gone or a zombie."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def children(pid):
    """comm -> pid"""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            name, rest = (folder / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if int(parent) == pid and state != "Z":
            found[name] = int(folder.name)
    return found


class Cycle:
    def __init__(self, micropod, number, rng, when, who):
        self.m, self.rng, self.when, self.who = micropod, rng, when, who
        self.name = f"cycle{number}"
        self.tasks = []  # (what, child)
        self.known = set()  # (pid, begin) of all processes of the sandbox
        self.struck = False
        self.story = [f"{self.name}: {when} {who}"]

    def tell(self, *words):
        self.story.append(f"  {time.monotonic() % 1000:.2f} " + " ".join(str(word) for word in words))

    # Who is who

    def box(self):
        try:
            return os.readlink(self.m.root / "names" / self.name)
        except OSError:
            return None

    def shim(self):
        box = self.box()
        if not box:
            return None
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()
                if f"--id={box}".encode() in command.split(b"\0") and (folder / "comm").read_text() == "micropod-shim\n":
                    found.append((int(began_at(folder.name)), int(folder.name)))
            except (OSError, TypeError):
                continue
        # Between fork and execve its children look the same.
        return min(found)[1] if found else None

    def pid(self, who):
        shim = self.shim()
        names = children(shim) if shim else {}
        self.known |= {(pid, began_at(pid)) for pid in (shim, *names.values()) if pid}
        if who == "shim" or not shim:
            return shim
        return names.get("micropod-net") if who == "net" else next((pid for name, pid in names.items() if name.startswith("qemu")), None)

    # Steps

    def spawn(self, *words, **kwargs):
        child = self.m.popen(*words, stdin=kwargs.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.tasks.append((words[0], child))
        self.tell("begun", *words[:1], child.pid)
        return child

    def strike(self, victim=None):
        """Kills it. A process that is not there yet is waited for, as long as somebody may still make it."""
        if self.who == "cli":
            self.tell("kill -9 cli", victim.pid, "ended" if victim.poll() is not None else "")
            victim.kill()
        elif self.who in ("shim", "net", "qemu"):
            deadline = time.monotonic() + BOOT
            while not (pid := self.pid(self.who)) and victim.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            if self.when == "start":
                time.sleep(self.rng.choice((0, self.rng.uniform(0, 4))))
            if pid and pid == self.pid(self.who):
                os.kill(pid, 9)
                self.struck = True
                self.tell("kill -9", self.who, pid)
        elif self.who == "panic":
            self.spawn("exec", "--privileged", self.name, "sh", "-c",
                       "mkdir -p /mnt; mount -t proc proc /mnt && echo c > /mnt/sysrq-trigger; sleep 60")
            self.struck = True
        elif self.who == "agent":
            shim = self.pid("shim")
            done = subprocess.run([sys.executable, "-c", ABORT, self.m.leaks.run / self.box()[:12] / "shim.sock"],
                                  capture_output=True, timeout=60)
            self.tell("abort", shim, done.returncode, done.stderr[-200:])
            assert done.returncode == 0, done
            self.struck = True

    def begin(self):
        """A sandbox that runs, or (when == start) one that something happened to on the way."""
        detached = self.rng.random() < 0.5
        words = ["run", *(["-d"] if detached else []), "--name", self.name, self.m.busybox, "sh", "-c", SCRIPT]
        child = self.spawn(*words)
        if self.when == "start":
            if self.who == "cli":
                time.sleep(self.rng.uniform(0, 6))
            self.strike(child)
        elif detached:
            assert child.wait(BOOT) == 0, child.communicate()
        else:
            assert child.stdout.readline() == b"begun\n", child.communicate()
        return child

    def act(self):
        child = self.begin()
        if self.when == "running":
            waiter = self.spawn("wait", self.name)
            running = self.spawn("exec", self.name, "sleep", "1000")
            time.sleep(self.rng.uniform(0, 1))
            self.strike(self.rng.choice((child, waiter, running)))
        elif self.when == "exec":
            running = self.spawn("exec", "-i", self.name, "cat", stdin=subprocess.PIPE)
            time.sleep(self.rng.uniform(0, 1))
            self.strike(running)
        elif self.when == "stop":
            stopper = self.spawn("stop", "-t", "5", self.name)
            time.sleep(self.rng.uniform(0, 2))
            self.strike(stopper)
        elif self.when == "remove":
            remover = self.spawn("rm", "-f", self.name)
            time.sleep(self.rng.uniform(0, 0.2))
            self.strike(remover)

    # Checks

    def row(self):
        done = self.m("ps", "-a", "--no-trunc", "--format", "json")
        assert done.returncode == 0, done
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return next((row for row in rows if row["Names"] == self.name), None)

    def check_ps(self):
        """ps and /proc say the same. A shim sees its VM's end a moment later; its own end is seen at once."""
        deadline = time.monotonic() + 20
        while True:
            shim, qemu = self.pid("shim"), self.pid("qemu")
            row = self.row()
            state = row["State"] if row else None
            same = shim == self.pid("shim") and qemu == self.pid("qemu")
            if same and not shim:
                assert state in (None, "created", "exited", "dead"), (state, shim)
                assert state != "dead" or row["Status"] == "Dead"
                return state
            if same and shim and state in ("starting", "stopping", "running", "exited") and (qemu or state != "running"):
                return state
            assert time.monotonic() < deadline, (row, shim, qemu)

    def check_task(self, what, child, deadline):
        try:
            out, err = child.communicate(timeout=max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{what} does not end") from None
        code, said = child.returncode, err.decode()
        self.tell(what, "ended with", code, repr(out[-80:]), repr(said[-300:]))
        if code == -9:
            assert self.who == "cli"
            return
        if self.who == "cli" and not said and code == 0:
            return
        assert code in {"run": (0, 9, 125, 137), "exec": (0, 125, 137, 143), "wait": (0, 125), "stop": (0, 125), "rm": (0,)}[what], code
        lines = [line for line in said.splitlines() if not line.startswith(("The guest's console ended with:", "  | "))]
        assert len(lines) <= 1 and all(line.startswith("micropod: ") for line in lines), said
        assert code != 125 or lines, "125 without a reason"
        if what == "wait" and code == 0:
            assert out in (b"9\n", b"137\n", b"125\n", b"143\n"), out

    def check_tasks(self, deadline):
        while self.tasks:
            self.check_task(*self.tasks[0], deadline)
            self.tasks.pop(0)

    def finish(self):
        state = self.check_ps()
        self.tell("ps says", state)
        # What was struck ends by itself, and everybody who waits for it; else rm -f is what ends it.
        deadline = time.monotonic() + BOOT
        if self.struck or not self.who:
            self.check_tasks(deadline)
        elif state == "running" and self.when in ("running", "exec"):
            done = self.m("exec", self.name, "echo", "up")
            assert done.stdout == b"up\n", done
        done = self.m("rm", "-f", self.name)
        assert done.returncode == 0, done
        self.check_tasks(deadline + BOOT)

    def run(self):
        box = None
        try:
            self.act()
            box = self.box()
            self.finish()
            # A command line that was killed may have left one that begins to start just now.
            if self.box():
                assert self.m("rm", "-f", self.name).returncode == 0
            assert self.row() is None
            deadline = time.monotonic() + 20
            while box and (left := self.left(box)):
                assert time.monotonic() < deadline, left
                time.sleep(0.1)
        finally:
            for _, child in self.tasks:
                child.kill()
                child.wait()

    def shims_last(self):
        """Of whoever is still there: what a failure needs to be understood."""
        return [f"  {path}: {line}" for path in (self.m.root / "sandboxes").glob("*/shim.log") for line in path.read_text(errors="replace").splitlines()[-15:]]

    def left(self, box):
        found = [f"process {pid}" for pid, began in self.known if began and began_at(pid) == began]
        if self.when != "remove":
            found += [str(path) for path in (self.m.root / "sandboxes").glob(f"*{box}*")]
        return found + [str(path) for path in self.m.leaks.run.glob(f"{box[:12]}*")]


def work(micropod, jobs, failures):
    while not failures:
        try:
            number, seed, when, who = jobs.get_nowait()
        except queue.Empty:
            return
        cycle = Cycle(micropod, number, random.Random(seed), when, who)
        try:
            cycle.run()
        except Exception as error:  # shown with the cycle's story by the test itself
            failures.append("\n".join([*cycle.story, *cycle.shims_last(), f"  {type(error).__name__}: {error}"]))
            print(failures[-1])
        else:
            print("\n".join(cycle.story))


def test_cycles(micropod):
    seed = int(os.environ.get("MICROPOD_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"MICROPOD_TEST_SEED={seed}")
    rng = random.Random(seed)
    plan = [*PLAN, *(rng.choice(PLAN) for _ in range(CYCLES - len(PLAN)))]
    rng.shuffle(plan)
    jobs, failures = queue.Queue(), []
    for number, (when, who) in enumerate(plan):
        jobs.put((number, rng.randrange(1 << 32), when, who))
    workers = [threading.Thread(target=work, args=(micropod, jobs, failures)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, f"seed {seed}:\n" + "\n".join(failures)
