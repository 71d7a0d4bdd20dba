# SPDX-License-Identifier: Apache-2.0
"""Templates: made once, never damaged, never shared by accident; what goes on from one is a machine of its own."""
import calendar
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import grpc
import pytest
from conftest import BUILD, TOP, Micropod
from test_faults import small_root  # noqa: F401 (a fixture)
from test_run import until

sys.path.insert(0, str(TOP / "tests/integration"))
from agent_fixture import generate  # noqa: E402

LONG = bool(os.environ.get("MICROPOD_TEST_LONG"))
STARTS = 500 if LONG else 50
MIB = 1 << 20


class Own(Micropod):
    """A root whose templates are its own."""

    def __init__(self, folder):
        super().__init__(folder)
        (self.root / "templates").unlink()

    @property
    def folder_of(self):
        """The one template's folder, once it is there."""
        found = [path for path in (self.root / "templates").glob("[0-9a-f]*") if len(path.name) == 32]
        assert len(found) == 1, found
        return found[0]

    def build(self):
        return self.ok("template", "build").strip()

    def started_from(self, box):
        """The template in the shim's log of this start, or None."""
        log = (self.root / "sandboxes" / self.inspect(box)["Id"] / "shim.log").read_text()
        hit = re.search(r"shim info template ([0-9a-f]{12})$", log, re.M)
        return hit and hit[1]

    def builders(self):
        return [line for line in self.processes() if "make-template" in line]


@pytest.fixture(scope="module")
def own_root():
    folder = tempfile.mkdtemp(prefix="micropod-e2e-")
    micropod = Own(folder)
    yield micropod
    micropod.close()
    shutil.rmtree(folder)


@pytest.fixture
def own(own_root):
    """With a template that is whole."""
    own_root.build()
    yield own_root


@pytest.fixture
def bare(own_root):
    """Without a template."""
    shutil.rmtree(own_root.root / "templates", ignore_errors=True)
    yield own_root
    until(lambda: not own_root.builders(), 60)


def start(micropod, *words):
    done = micropod("run", "-d", "--name", "box", *words, micropod.busybox, "sleep", "1000")
    assert done.returncode == 0, done
    return done.stderr.decode()


def digest(path):
    return subprocess.run(["sha256sum"], stdin=open(path, "rb"), capture_output=True, check=True).stdout


# Making


def test_first_run_boots_and_makes_it(bare):
    assert start(bare) == "" and bare.started_from("box") is None
    until(lambda: bare.ok("template", "ls", "-q") != "", 60)
    bare.ok("rm", "-f", "box")
    start(bare)
    assert bare.started_from("box") == bare.ok("template", "ls", "-q").strip()


def test_ten_at_once_make_one(bare):
    before = time.monotonic()
    runs = [bare.popen("run", "--rm", bare.busybox, "echo", "hi", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) for _ in range(10)]
    assert [run.communicate(timeout=120)[0] for run in runs] == [b"hi\n"] * 10
    until(lambda: not bare.builders(), 60)
    log = (bare.root / "templates/build.log").read_text().splitlines()
    assert len([line for line in log if "is ready" in line]) == 1, log
    assert len(bare.ok("template", "ls", "-q").split()) == 1
    assert time.monotonic() - before < 120


def test_killed_build_leaves_nothing(bare):
    child = bare.popen("template", "build", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: bare.builders(), 30)
    # At once, and once while the VM is there.
    for wait in (0, 0.7):
        time.sleep(wait)
        for line in bare.builders():
            os.kill(int(line.split()[0]), signal.SIGKILL)
        child.wait(30)
        until(lambda: not bare.builders() and not any("qemu" in line for line in bare.processes()), 30)
        assert bare.ok("template", "ls", "-q") == ""
        child = bare.popen("template", "build", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: bare.builders(), 30)
    assert child.wait(60) == 0
    assert [path.name[:5] for path in (bare.root / "templates").iterdir() if path.name[0] == "."] == []
    start(bare)
    assert bare.started_from("box")


def test_failed_build_is_told_once(small_root):
    """There is no room for one: VMs boot, and one line says why, once."""
    micropod = small_root
    (micropod.root / "templates").unlink()
    said = []
    for _ in range(3):
        done = micropod("run", "--rm", micropod.busybox, "true")
        assert done.returncode == 0, done
        said.append(done.stderr.decode())
        until(lambda: not any("make-template" in line for line in micropod.processes()), 60)
    assert said[0] == said[2] == "" and said[1].count("\n") == 1, said
    assert "no template could be made, so VMs boot" in said[1] and "make room" in said[1], said
    assert "make room" in micropod.error(micropod("template", "build"))


# Damage


def damaged(own, harm, word):
    folder = own.folder_of
    harm(folder)
    said = start(own)
    assert "is damaged and was removed" in said and word in said and said.count("\n") == 1, said
    assert own.started_from("box") is None
    until(lambda: own.ok("template", "ls", "-q") != "" and not own.builders(), 60)
    own.ok("rm", "-f", "box")
    assert start(own) == "" and own.started_from("box")


def test_truncated_memory(own):
    def harm(folder):
        (folder / "ram").chmod(0o600)
        os.truncate(folder / "ram", 512 * MIB)
    damaged(own, harm, "another size")


def test_flipped_bit_in_the_memory(own):
    def harm(folder):
        (folder / "ram").chmod(0o600)
        with open(folder / "ram", "r+b") as file:
            file.seek(20 * MIB)
            byte = file.read(1)
            file.seek(20 * MIB)
            file.write(bytes([byte[0] ^ 1]))
    damaged(own, harm, "written to or replaced")


def test_flipped_bit_that_nobody_saw(own):
    """Found by the hash on the first use after the host's start, and by doctor."""
    folder = own.folder_of
    record = json.loads((folder / "template.json").read_text())
    (folder / "ram").chmod(0o600)
    with open(folder / "ram", "r+b") as file:
        file.seek(20 * MIB + 5)
        byte = file.read(1)
        file.seek(20 * MIB + 5)
        file.write(bytes([byte[0] ^ 1]))
    record["ram_changed_ns"] = os.stat(folder / "ram").st_ctime_ns
    (folder / "template.json").write_text(json.dumps(record))
    (folder / "verified").write_text("another boot")
    said = start(own)
    assert "its memory has changed" in said, said


def test_flipped_bit_in_the_state(own):
    def harm(folder):
        (folder / "state").chmod(0o600)
        data = bytearray((folder / "state").read_bytes())
        data[len(data) // 2] ^= 0x10
        (folder / "state").write_bytes(data)
    damaged(own, harm, "its state has changed")


def test_another_version(own):
    def harm(folder):
        record = json.loads((folder / "template.json").read_text())
        record["format"] += 1
        (folder / "template.json").write_text(json.dumps(record))
    damaged(own, harm, "template.json")


def test_replaced_by_a_copy(own):
    def harm(folder):
        shutil.copyfile(folder / "ram", folder / "other")
        os.rename(folder / "other", folder / "ram")
    damaged(own, harm, "written to or replaced")


def test_one_that_does_not_go_on(own):
    """Its state is what it was written down to be, and QEMU cannot read it."""
    folder = own.folder_of
    own.ok("template", "rm", folder.name)
    own.build()
    folder = own.folder_of
    state = bytearray((folder / "state").read_bytes())
    state[0:4] = b"nope"
    (folder / "state").chmod(0o600)
    (folder / "state").write_bytes(state)
    record = json.loads((folder / "template.json").read_text())
    record["state_hash"] = state_hash(bytes(state))
    (folder / "template.json").write_text(json.dumps(record))
    said = start(own)
    assert "did not start and was removed" in said and said.count("\n") == 1, said
    assert own.started_from("box") is None or own.inspect("box")["State"]["Running"]
    until(lambda: not own.builders(), 60)


def state_hash(data):
    """XXH3-128, as sandbox/template.c has it."""
    tool = BUILD / "tests/tools/xxh3"
    return subprocess.run([tool], input=data, capture_output=True, check=True).stdout.decode().strip()


def test_doctor_looks_at_every_byte(own):
    assert "ok" in next(line for line in own("doctor").stdout.decode().splitlines() if " templates " in line[:20])
    folder = own.folder_of
    (folder / "state").chmod(0o600)
    with open(folder / "state", "r+b") as file:
        file.write(b"x")
    line = next(line for line in own("doctor").stdout.decode().splitlines() if " templates " in line[:20])
    assert line.startswith("warn") and "damaged and was removed" in line
    assert own.ok("template", "ls", "-q") == ""


def test_rm_while_it_runs(own):
    start(own)
    key = own.ok("template", "ls", "-q").strip()
    assert own.ok("template", "rm", key) == key + "\n"
    assert own.ok("exec", "box", "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null; md5sum /bin/busybox | wc -l") == "1\n"
    assert own.error(own("template", "rm", key)) == f"no such template: {key}"


def test_oldest_use_goes_first(own):
    own.ok("template", "build", "--no-network")
    keys = own.ok("template", "ls", "-q").split()
    assert len(keys) == 2
    start(own)  # the other one is used last now
    own.ok("rm", "-f", "box")
    used = own.ok("template", "ls", "-q").split()[0]
    size = sum(os.stat(path).st_blocks * 512 for path in (own.root / "templates").rglob("ram"))
    own.ok("template", "build", "--runtime", "runc", "--template-limit", str(int(size * 1.2)))
    left = own.ok("template", "ls", "-q").split()
    assert used in left and len(left) == 2, left
    own.ok("template", "rm", *left)


# A machine of its own


def test_twenty_at_once_are_all_different(micropod):
    facts = {
        "bytes": "head -c 16 /dev/urandom | md5sum",
        "uuid": "cat /proc/sys/kernel/random/uuid",
        "boot id": "cat /proc/sys/kernel/random/boot_id",
        "mac": "cat /sys/class/net/eth0/address",
        "hostname": "hostname",
    }
    script = "; ".join(facts.values()) + "; touch /now; stat -c %y /now"
    began = time.time()
    runs = [micropod.popen("run", "--rm", micropod.busybox, "sh", "-c", script, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            for _ in range(20)]
    answers = [run.communicate(timeout=120)[0].decode().splitlines() for run in runs]
    ended = time.time()
    assert all(len(answer) == 6 for answer in answers), answers
    for number, name in enumerate(["bytes", "uuid", "boot id", "mac", "hostname"]):
        assert len({answer[number] for answer in answers}) == 20, name
    clocks = [answer[5] for answer in answers]
    seconds = [calendar.timegm(time.strptime(clock.split(".")[0], "%Y-%m-%d %H:%M:%S")) for clock in clocks]
    assert len(set(clocks)) == 20 and all(began - 2 < one < ended + 2 for one in seconds), clocks


def test_machine_id(micropod):
    """It lies in the guest's own file system, which a second container is shown."""
    with tempfile.TemporaryDirectory() as folder:
        pb, stubs = generate(pathlib.Path(folder))
        start(micropod)
        one = micropod.inspect("box")["Id"]
        with grpc.insecure_channel(f"unix:{micropod.leaks.run}/{one[:12]}/shim.sock") as channel:
            stub = stubs.AgentStub(channel)
            made = stub.CreateContainer(pb.CreateContainerRequest(
                container_id="look", disks=pb.RootDisks(image_serial="image", read_only=True), args=[b"cat", b"/tmp/machine-id"],
                mounts=[pb.Mount(source=b"/run", destination=b"/tmp", type="bind")]), timeout=60)
            assert made.status == "RUNNING", made
            lines = b"".join(entry.data for entry in stub.GetContainerLogs(
                pb.GetContainerLogsRequest(container_id="look", follow=True), timeout=60))
            assert lines.decode() == one + "\n"


# No guest can change it


def pidfd_getfd(pid, number):
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    fd = libc.syscall(438, pidfd, number, 0)
    os.close(pidfd)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return fd


def qmp(micropod, box, command, **arguments):
    """Says something to a sandbox' QEMU beside its shim, which drops the answer."""
    shim = micropod.inspect(box)["Micropod"]["ShimPid"]
    vmm = micropod.inspect(box)["Micropod"]["VMMPid"]
    # QEMU's end of QMP is its descriptor 3; ours is the socket it is joined to: found by trying.
    inode = os.readlink(f"/proc/{vmm}/fd/3")
    for name in os.listdir(f"/proc/{shim}/fd"):
        if not os.readlink(f"/proc/{shim}/fd/{name}").startswith("socket:"):
            continue
        peer = peer_of(shim, int(name))
        if peer and f"socket:[{peer}]" == inode:
            with socket.socket(fileno=pidfd_getfd(shim, int(name))) as sock:
                sock.send(json.dumps({"execute": command, "arguments": arguments, "id": 1 << 40}).encode() + b"\n")
            return
    raise AssertionError("no QMP socket found")


def peer_of(pid, number):
    """The inode of a unix socket's other end, from ss."""
    inode = os.readlink(f"/proc/{pid}/fd/{number}")[8:-1]
    for line in subprocess.run(["ss", "-xH"], capture_output=True, text=True, check=True).stdout.splitlines():
        words = line.split()
        if len(words) >= 8 and words[5] == inode:
            return words[7]
    return None


def test_balloon_changes_nobody_else(own):
    if os.geteuid() != 0:
        pytest.skip("taking the shim's QMP socket needs root")
    folder = own.folder_of
    before = digest(folder / "ram")
    fill = "head -c 30000000 /dev/urandom > /dev/shm/data; md5sum < /dev/shm/data"
    start(own)
    own.ok("run", "-d", "--name", "neighbour", own.busybox, "sleep", "1000")
    told = own.ok("exec", "neighbour", "sh", "-c", fill)
    # QEMU has the file for reading only.
    vmm = own.inspect("box")["Micropod"]["VMMPid"]
    flags = int(next(line.split()[1] for line in pathlib.Path(f"/proc/{vmm}/fdinfo/200").read_text().splitlines()
                     if line.startswith("flags:")), 8)
    assert flags & os.O_ACCMODE == os.O_RDONLY
    qmp(own, "box", "balloon", value=200 * MIB)
    until(lambda: int(next(line.split()[1] for line in own.ok("exec", "box", "cat", "/proc/meminfo").splitlines()
                           if line.startswith("MemFree"))) < 150 << 10, 30)
    # The page cache of the guest, thrown away page by page, too.
    own.ok("exec", "box", "sh", "-c", "head -c 20000000 /dev/zero > /dev/shm/z; rm /dev/shm/z; sleep 3")
    assert digest(folder / "ram") == before
    assert own.ok("exec", "neighbour", "md5sum", "/dev/shm/data").split()[0] == told.split()[0]
    assert own.ok("run", "--rm", own.busybox, "echo", "later") == "later\n"
    assert own.ok("exec", "box", "echo", "still here") == "still here\n"


def test_memory_goes_back_after_a_spike(micropod):
    start(micropod, "-m", "700m")

    def private():
        vmm = micropod.inspect("box")["Micropod"]["VMMPid"]
        text = pathlib.Path(f"/proc/{vmm}/smaps_rollup").read_text()
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")) >> 10

    idle = private()
    # It reads into a buffer of 400 MiB, and waits for a reader.
    spike = micropod.popen("exec", "box", "sh", "-c", "dd if=/dev/zero bs=400M count=1 2>/dev/null | sleep 1000")
    until(lambda: private() > idle + 390, 60)
    micropod.ok("exec", "box", "killall", "dd", "sleep")
    spike.wait(30)
    until(lambda: private() < idle + 80, 30)


# Sizes and disks


def test_any_size_starts_as_quickly(micropod):
    def seconds(*words):
        times = []
        for _ in range(5):
            before = time.monotonic()
            micropod.ok("run", "--rm", *words, micropod.busybox, "true")
            times.append(time.monotonic() - before)
        return statistics.median(times)

    keys = micropod.ok("template", "ls", "-q").split()
    usual = seconds()
    assert seconds("-m", "300m") < usual * 1.5
    assert seconds("-m", "64m", "--cpus", "0.5") < usual * 1.5
    assert sorted(micropod.ok("template", "ls", "-q").split()) == sorted(keys)


def test_full_writable_layer(micropod):
    start(micropod, "--storage-opt", "size=64m")
    done = micropod("exec", "box", "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=100 2>&1; echo $?; rm /big; echo fine > /small; cat /small")
    assert b"No space left on device" in done.stdout and done.stdout.endswith(b"1\nfine\n"), done
    disk = micropod.root / "sandboxes" / micropod.inspect("box")["Id"] / "scratch.img"
    assert disk.stat().st_size == 1 << 40 and disk.stat().st_blocks * 512 < 80 * MIB


# Many


def test_many_starts(micropod):
    """No growth in files or processes, none slower than the first ones for more than a moment."""
    times = []
    files = None
    for number in range(STARTS):
        before = time.monotonic()
        micropod.ok("run", "--rm", micropod.busybox, "true")
        times.append(time.monotonic() - before)
        if number == 5:
            files = sorted(str(path) for path in micropod.leaks.files())
    assert sorted(str(path) for path in micropod.leaks.files()) == files
    usual = statistics.median(times[:20])
    slow = [value > 2 * usual for value in times]
    assert not any(all(slow[i:i + 4]) for i in range(len(slow))), times
    assert statistics.median(times[-20:]) < 1.3 * usual, times


def test_killed_while_going_on(micropod):
    """kill -9 at any moment of a start leaves what rm removes; the template stays whole."""
    keys = micropod.ok("template", "ls", "-q")
    for wait in (0.02, 0.05, 0.08, 0.12, 0.2, 0.3):
        child = micropod.popen("run", "--name", "box", micropod.busybox, "true", stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(wait)
        for line in micropod.processes():
            if "micropod-shim" in line or "qemu" in line:
                try:
                    os.kill(int(line.split()[0]), signal.SIGKILL)
                except ProcessLookupError:
                    pass
        child.wait(60)
        micropod("rm", "-f", "box")
        micropod.ok("prune", "-f")
    assert micropod.ok("template", "ls", "-q") == keys
    assert micropod.ok("run", "--rm", micropod.busybox, "echo", "fine") == "fine\n"


def test_killed_vmm_is_not_the_templates_fault(micropod):
    """QEMU killed from outside at any moment of its loading ends the start; nothing boots in its place."""
    keys = micropod.ok("template", "ls", "-q")
    for wait in (0, 0, 0.002, 0.005, 0.01, 0.02, 0.04, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3):
        child = micropod.popen("run", "--name", "box", micropod.busybox, "sleep", "1000", stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 30
        while not (found := [int(line.split()[0]) for line in micropod.processes() if " qemu " in line]):
            assert time.monotonic() < deadline and child.poll() is None
        time.sleep(wait)
        os.kill(found[0], signal.SIGKILL)
        said = child.communicate(timeout=30)[1]
        assert child.returncode in (125, 137) and b"killed by signal 9" in said, said
        assert micropod.ok("template", "ls", "-q") == keys
        micropod.ok("rm", "-f", "box")
