# SPDX-License-Identifier: Apache-2.0
"""The VM driver with real QEMU: boot, greeting, ends of all kinds, confinement, wrong input."""
import hashlib
import os
import signal
import socket
import subprocess
import time

import pytest
from vmtools import BUILD, TOOLS, USER, Vm, gone, open_folder, prepare_guest

pytestmark = pytest.mark.skipif(not os.path.exists("/usr/bin/qemu-system-x86_64"), reason="QEMU is not installed")
ROOT = os.geteuid() == 0
as_root_too = pytest.mark.parametrize("user", [False, True] if ROOT else [True], ids=["root", "user"] if ROOT else ["user"])


@pytest.fixture(scope="session")
def guest():
    with open_folder() as folder:
        yield prepare_guest(folder)


@pytest.fixture
def private(request):
    """A folder that only its owner can enter, as a home often is: the ordinary user's if the test runs as that."""
    with open_folder() as folder:
        home = folder / "home"
        home.mkdir(0o700)
        params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
        if ROOT and params.get("user", True):
            os.chown(home, USER, USER)
        yield home


def sparse(path, size=1 << 40):
    """An empty disk, owned as its folder."""
    with open(path, "wb") as f:
        f.truncate(size)
    os.chown(path, path.parent.stat().st_uid, path.parent.stat().st_gid)
    return path


@as_root_too
def test_boots_and_answers(guest, private, user):
    image, scratch = sparse(private / "image"), sparse(private / "scratch")
    with Vm(*guest, "--disk", f"{image}:image:ro", "--disk", f"{scratch}:scratch", "--memory", "1g", "--cpus", "2",
            user=user) as vm:
        pid = vm.pid()
        vm.greeted()
        assert vm.ask("disks") == "vda=image:ro vdb=scratch:rw"
        info = dict(word.split("=") for word in vm.ask("info").split())
        assert info["cpus"] == "2"
        assert 900 < int(info["memory"]) <= 1024
        assert vm.ask("write /dev/vdb 1") == "written"
        vm.send("poweroff")
        assert vm.wait("exited") == "exited clean guest powered off"
        assert gone(pid)
    assert scratch.stat().st_blocks * 512 >= 1 << 20


def test_unconfined_boots(guest):
    with Vm(*guest, "--unconfined") as vm:
        vm.greeted()
        assert vm.ask("echo hello") == "hello"


@pytest.mark.parametrize("command,why", [
    ("reboot", "unclean guest rebooted"),
    ("panic", "unclean guest panicked: sysrq triggered crash"),
    ("die", "unclean guest panicked: Attempted to kill init! exitcode=0x00000900"),
])
def test_says_how_it_ended(guest, command, why):
    with Vm(*guest, "--cmdline", "sysrq_always_enabled") as vm:
        vm.greeted()
        vm.send(command)
        assert vm.wait("exited", timeout=20) == f"exited {why}"


def test_killed_from_outside(guest):
    with Vm(*guest) as vm:
        pid = vm.pid()
        vm.greeted()
        os.kill(pid, signal.SIGKILL)
        assert vm.wait("exited") == "exited unclean QEMU was killed by signal 9 (Killed)"


def test_killed_by_us_while_booting(guest):
    with Vm(*guest) as vm:
        vm.pid()
        vm.send("!kill")
        assert "ended by micropod" in vm.wait("error")
        assert vm.wait("exited") == "exited unclean the VM was ended by micropod"


@as_root_too
def test_dies_with_its_parent(guest, user):
    with Vm(*guest, user=user) as vm:
        pid = vm.pid()
        vm.process.kill()
        assert gone(pid)


def test_free_ends_it(guest):
    with Vm(*guest) as vm:
        pid = vm.pid()
        vm.send("!free")
        assert vm.process.wait(10) == 0
        assert gone(pid, 0)


def test_reconnects_in_the_middle_of_anything(guest):
    with Vm(*guest) as vm:
        vm.greeted()
        for round in range(20):
            vm.send(f"spew {round * 7777}")
            vm.send("!reconnect")
            vm.greeted()
            assert vm.ask(f"echo round {round}") == f"round {round}"


def test_agent_that_never_answers(guest):
    with Vm(*guest, "--cmdline", "vmtest.mute", "--deadline", "4s") as vm:
        vm.pid()
        assert vm.wait("error") == "error the agent did not answer the greeting on its serial port in time"
        vm.send("!join")
        assert "did not answer" in vm.wait("error")


@pytest.mark.parametrize("cpus", [1, 2])
def test_clocks_run_at_the_right_speed(guest, cpus):
    with Vm(*guest, "--cpus", cpus) as vm:
        vm.greeted()

        def both():
            before = time.monotonic()
            guest_times = [float(word) for word in vm.ask("clock").split()]
            after = time.monotonic()
            return (before + after) / 2, time.time() - (after - before) / 2, *guest_times

        host, host_real, mono, real = both()
        assert abs(real - host_real) < 2
        # The guest's own timer, too: a sleep of 10 s in it takes 10 s here.
        assert vm.ask("sleep 10000") == "slept"
        host2, _, mono2, real2 = both()
        assert abs((mono2 - mono) / (host2 - host) - 1) < 0.01
        assert abs((real2 - real) / (host2 - host) - 1) < 0.01
        assert 10 <= host2 - host < 10.5


@pytest.mark.skipif(not ROOT, reason="mounting a small file system needs root")
def test_full_host_disk_is_an_error_not_a_stop(guest, tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", tmp_path], check=True)
    try:
        scratch = sparse(tmp_path / "scratch")
        with Vm(*guest, "--disk", f"{scratch}:scratch") as vm:
            vm.greeted()
            assert "error" in vm.ask("write /dev/vda 16").lower()
            assert [line for line in vm.lines.all if line.startswith("notice")] == \
                ["notice the host's disk is full: writes fail in the guest (scratch)"]
            assert vm.ask("echo alive") == "alive"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_arguments_are_the_same_for_every_sandbox(guest, tmp_path):
    seen = set()
    for name in ("a", "b, with a comma"):
        disk = sparse(tmp_path / name)
        with Vm(*guest, "--disk", f"{disk}:image:ro") as vm:
            with open(f"/proc/{vm.pid()}/cmdline", "rb") as f:
                line = f.read().replace(b"\0", b" ")
            seen.add(b" ".join(word for word in line.split() if not word.startswith(b"tsc_early_khz=")))
            vm.greeted()
    assert len(seen) == 1
    assert str(tmp_path).encode() not in seen.pop()


# ---- wrong input ----

def error_of(*args, **kwargs):
    with Vm(*args, **kwargs) as vm:
        return vm.wait("error", "exited")


def test_missing_files_are_named(guest, tmp_path):
    kernel, initramfs = guest
    assert error_of("/nonexistent/kernel", initramfs) == \
        "error cannot open the kernel '/nonexistent/kernel': No such file or directory"
    assert "initramfs '/nonexistent'" in error_of(kernel, "/nonexistent")
    assert "disk '/nonexistent'" in error_of(kernel, initramfs, "--disk", "/nonexistent:image:ro")
    assert "cannot use the VMM '/nonexistent'" in error_of(kernel, initramfs, "--vmm", "/nonexistent")
    assert "64 MiB" in error_of(kernel, initramfs, "--memory", "1m")


def test_unreadable_kernel(guest, private):
    kernel = private.parent / "kernel"
    kernel.write_bytes(b"x")
    kernel.chmod(0)
    assert "Permission denied" in error_of(kernel, guest[1], user=True)


@pytest.mark.skipif(not ROOT, reason="needs root and another user")
def test_root_does_not_pass_by_permissions(guest, private):
    disk = sparse(private / "disk")
    line = error_of(*guest, "--disk", f"{disk}:image:ro")
    assert f"user 0 may not use '{disk}'" in line and "owner or mode" in line


def test_qemu_missing(guest):
    env = {"PATH": "/nonexistent"}
    with Vm(*guest, env=env) as vm:
        assert "sudo apt-get install qemu-system-x86" in vm.wait("error")


def test_kernel_that_is_none(guest, tmp_path):
    junk = tmp_path / "junk"
    junk.write_bytes(os.urandom(100000))
    with Vm(junk, guest[1], "--deadline", "20s") as vm:
        line = vm.wait("exited", "error", timeout=30)
        # QEMU says so itself, or nothing ever answers.
        assert "the VM ended before the agent answered: QEMU ended with status 1" in line or "did not answer" in line


# ---- confinement ----

@as_root_too
def test_nothing_can_be_reached_from_within(guest, private, user):
    image, scratch, secret = (sparse(private / name) for name in ("image", "scratch", "secret"))
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0micropod-probe-{os.getpid()}")
        abstract.listen()
        words = [f"tcp={tcp.getsockname()[1]}", f"abstract=micropod-probe-{os.getpid()}"]
        words += [f"read={path}" for path in (secret, "/root/.bashrc", "/home", "/tmp", "/etc/shadow", "/etc/hostname",
                                              "/var/log", "/run", "/bin/sh", "/usr/bin/env", image)]
        words += ["write=/disk/0", "write=/kernel", "write=/usr/lib/os-release", "write=/dev/mem"]
        # What it must reach, so that the test can tell a wall from a broken probe.
        words += ["read=/disk/0", "write=/disk/1", "read=/kernel"]
        line = error_of(*guest, "--vmm", TOOLS / "confine-probe", "--cmdline", " ".join(words), "--disk",
                        f"{image}:image:ro", "--disk", f"{scratch}:scratch", user=user)
        assert line.startswith("error the VM")
    with Vm(*guest, "--vmm", TOOLS / "confine-probe", "--cmdline", " ".join(words), "--disk", f"{image}:image:ro",
            "--disk", f"{scratch}:scratch", user=user) as vm:
        assert vm.wait("exited") == \
            "exited unclean QEMU ended with status 3: allowed: read:/disk/0 write:/disk/1 read:/kernel."


def test_probe_can_fail(guest, private):
    """The same probe unconfined reaches plenty: the test above is able to fail."""
    with Vm(*guest, "--unconfined", "--vmm", TOOLS / "confine-probe") as vm:
        line = vm.wait("exited")
    for what in ("read:/etc/passwd", "pid:", "ppid:"):
        assert what in line


def test_no_user_namespaces_is_said(guest):
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"'
    with Vm(*guest, wrap=["unshare", "--user", "--map-root-user", "sh", "-c", script]) as vm:
        line = vm.wait("error", "greeted")
    assert line.startswith("error cannot start") or line.startswith("error cannot confine")
    assert "forbids user namespaces" in line and "sysctl" in line


@as_root_too
def test_qemu_has_no_rights(guest, user):
    with Vm(*guest, user=user) as vm:
        pid = vm.pid()
        vm.greeted()
        with open(f"/proc/{pid}/status") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[name], 16) == 0, name
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        for name in ("user", "mnt", "pid", "ipc", "net", "uts"):
            assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
        assert os.listdir(f"/proc/{pid}/root/disk" if os.path.exists(f"/proc/{pid}/root/disk") else f"/proc/{pid}/root/dev")
        assert vm.ask("echo still here") == "still here"


SMALL = BUILD / "guest/kernel/vmlinuz"


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


class Saved:
    """A saved VM with two slots, and its disks."""

    def __init__(self, guest, kernel, folder, user):
        self.guest = (SMALL if kernel == "small" else guest[0], guest[1])
        self.folder, self.user, self.ram, self.state = folder, user, folder / "ram", folder / "state"
        sparse(folder / "image")
        sparse(self.ram, 256 << 20)
        with self.vm("scratch", "--shared-ram", self.ram) as vm:
            vm.greeted()
            vm.send(f"!save {self.state}")
            assert vm.wait("saved", "error") == "saved"

    def vm(self, scratch, *args):
        return Vm(*self.guest, "--slots", "2", "--cmdline", "vmtest.late", "--memory", "256m",
                  "--disk", f"{self.folder / 'image'}:image:ro", "--disk", f"{sparse(self.folder / scratch)}:scratch",
                  *args, user=self.user)

    def go_on(self, scratch="scratch"):
        return self.vm(scratch, "--own-ram", self.ram, "--state", self.state)


@pytest.fixture(params=["cloud", "small"] if SMALL.exists() else ["cloud"])
def saved(request, guest, private):
    return Saved(guest, request.param, private, ROOT)


def disks_are(vm, *expected, timeout=20):
    """The guest needs a moment to see what comes, and names them as it sees them. Returns serial -> device."""
    deadline = time.monotonic() + timeout
    while True:
        found = {disk: name for name, _, disk in (word.partition("=") for word in vm.ask("disks").split())}
        if set(found) == {"image:ro", "scratch:rw", *expected}:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_disks_come_and_go_in_a_vm_that_went_on(saved, private):
    """On its own copy of the memory: the file that others start from too stays as it is."""
    before, more, other = digest(saved.ram), sparse(private / "more"), sparse(private / "other")
    with saved.go_on() as vm, saved.go_on("another") as neighbour:
        vm.greeted()
        neighbour.greeted()
        disks_are(vm)
        vm.send(f"!plug {more}:more")
        assert vm.wait("plugged", "error") == "plugged"
        vm.send(f"!plug {other}:other:ro")
        assert vm.wait("plugged", "error") == "plugged"
        found = disks_are(vm, "more:rw", "other:ro")
        assert vm.ask(f"write /dev/{found['more:rw']} 1") == "written"
        disks_are(neighbour)
        vm.send("!unplug more 30s")
        assert vm.wait("unplugged", "error") == "unplugged"
        disks_are(vm, "other:ro")
        # Its slot is free again.
        vm.send(f"!plug {more}:again")
        assert vm.wait("plugged", "error") == "plugged"
        disks_are(vm, "again:rw", "other:ro")
        assert vm.ask("echo hello") == "hello"
    assert more.stat().st_blocks * 512 >= 1 << 20 and other.stat().st_blocks == 0
    assert digest(saved.ram) == before


def test_plugging_that_fails_is_told_and_undone(saved, private):
    disks = [sparse(private / f"disk{i}") for i in range(3)]

    def error(line, part):
        vm.send(line)
        said = vm.wait("plugged", "unplugged", "error", timeout=30)
        assert said.startswith("error ") and part in said, said
    with saved.go_on() as vm:
        vm.greeted()
        error(f"!plug {private / 'nowhere'}:x", "No such file or directory")
        error("!unplug x", "no disk 'x' has been plugged into the VM")
        error(f"!plug {disks[0]}:{'x' * 21}", "has more than 20 bytes")
        for i in range(2):
            vm.send(f"!plug {disks[i]}:d{i}")
            assert vm.wait("plugged", "error") == "plugged"
        error(f"!plug {disks[1]}:d1", "the VM has 'd1' already")
        error(f"!plug {disks[2]}:d2", "no port free for 'd2' (of 2)")
        disks_are(vm, "d0:rw", "d1:rw")
        # A guest takes five seconds. It lets go all the same, and the slot is free then.
        error("!unplug d0 1s", "the guest did not let go of the disk 'd0' in time")
        disks_are(vm, "d1:rw")
        deadline = time.monotonic() + 10
        vm.send(f"!plug {disks[2]}:d2")
        while (said := vm.wait("plugged", "error")) != "plugged":
            assert time.monotonic() < deadline, said
            vm.send(f"!plug {disks[2]}:d2")
        vm.send("!unplug d1 30s")
        vm.send("!kill")
        # By what it was waiting for: QEMU's answer, or the guest.
        assert vm.wait("unplugged", "error").startswith(("error the VM ended: ", "error the connection to QEMU has ended"))


def test_a_vm_without_slots_takes_no_disk(guest, private):
    with Vm(*guest) as vm:
        vm.greeted()
        vm.send(f"!plug {sparse(private / 'more')}:more")
        assert vm.wait("plugged", "error") == "error the VM was made without slots for further devices"
        vm.send("!unplug more")
        assert vm.wait("unplugged", "error") == "error the VM was made without slots for further devices"
