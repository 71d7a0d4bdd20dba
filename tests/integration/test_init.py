# SPDX-License-Identifier: Apache-2.0
"""The agent as PID 1 in a real VM: build/tests/tools/init-guest is its init, with a session of lines instead of services."""
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import urllib.parse

import pytest
from vmtools import BUILD, SOURCE, TOOLS, Vm

pytestmark = pytest.mark.skipif(not os.path.exists("/usr/bin/qemu-system-x86_64"), reason="QEMU is not installed")

APPLETS = "sh cat echo printf id od mount ls ps true env wc touch sleep unshare hostname stat md5sum".split()


def sparse(path):
    os.truncate(path, 1 << 40)
    return path


@pytest.fixture(scope="session")
def guest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("init")
    files = folder / "files"
    files.mkdir()
    shutil.copy(TOOLS / "init-guest", files / "agent")
    subprocess.run(["strip", files / "agent"], check=True)
    shutil.copy(BUILD / "guest" / "crun", files / "crun")
    root = BUILD / "test-init"
    subprocess.run([SOURCE / "scripts" / "prepare-guest.sh", "--files", files, root], check=True)
    current = json.loads((root / "guest" / "current.json").read_text())
    current["files"] = files
    current["modules"] = pathlib.Path(current["kernel"]).parent / "modules"
    tree = folder / "tree"
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin" / "busybox")
    for name in APPLETS:
        (tree / "bin" / name).symlink_to("busybox")
    current["image"] = folder / "image"
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=12:34", "-d", tree,
                    current["image"], "64M"], check=True)
    subprocess.run(["/sbin/debugfs", "-w", "-R", "set_inode_field / mode 040751", current["image"]], check=True)
    sparse(current["image"])
    return current


@pytest.fixture
def scratch(tmp_path):
    path = tmp_path / "scratch"
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", path, "256M"], check=True)
    return sparse(path)


class Guest(Vm):
    def __init__(self, guest, scratch, *args, cmdline="", runtime="crun", **kwargs):
        key = "initramfs_runc" if runtime == "runc" else "initramfs"
        if runtime == "runc" and not guest.get(key):
            pytest.skip("runc is not installed")
        super().__init__(guest["kernel"], guest[key], "--disk", f"{guest['image']}:image:ro", "--disk", f"{scratch}:scratch",
                         "--cmdline", f"micropod.runtime={runtime} {cmdline}", *args, **kwargs)

    def ok(self, *words):
        """Asks; the answer as bytes."""
        quoted = [urllib.parse.quote_from_bytes(w if isinstance(w, bytes) else w.encode(), safe="/+:.@") for w in words]
        answer = self.ask(" ".join(quoted), timeout=120)
        assert answer.startswith("ok"), answer
        return urllib.parse.unquote_to_bytes(answer[3:])

    def err(self, *words):
        answer = self.ask(" ".join(words))
        assert answer.startswith("err "), answer
        return answer[4:]

    def run(self, how, *args):
        """Runs args in a container: exit code and output."""
        code, _, out = (self.ok("run", how, *args) + b"  ").split(b" ", 2)
        return int(code), out[:-2] if out.endswith(b"  ") else b""

    def end(self):
        self.send("shutdown")
        return self.wait("exited", timeout=60)


def test_machine(guest, scratch):
    """What a container and the services stand on, one boot."""
    with Guest(guest, scratch, "--cpus", "2") as vm:
        vm.greeted()
        assert vm.ok("cat", "/proc/self/cgroup") == b"0::/agent\n"
        assert vm.ok("readlink", "/proc/self/exe") == b"/memfd:micropod-agent (deleted)"
        assert vm.ok("cat", "/proc/self/oom_score_adj") == b"-1000\n"
        assert int(vm.ok("cat", "/sys/fs/cgroup/agent/memory.min")) == 16 << 20
        assert vm.ok("cat", "/sys/fs/cgroup/agent/cpu.weight") == b"1000\n"
        for controller in b"cpu", b"memory", b"pids", b"io", b"cpuset":
            assert controller in vm.ok("cat", "/sys/fs/cgroup/containers/cgroup.subtree_control").split()
        mounts = {line.split()[1]: line.split()[2] for line in vm.ok("cat", "/proc/self/mounts").decode().splitlines()}
        assert mounts["/"] == "tmpfs" and mounts["/dev"] == "devtmpfs" and mounts["/sys/fs/cgroup"] == "cgroup2"
        assert mounts["/dev/pts"] == "devpts" and mounts["/dev/mqueue"] == "mqueue" and mounts["/dev/shm"] == "tmpfs"
        assert vm.ok("cat", "/proc/sys/kernel/hostname") == b"micropod\n"
        assert vm.ok("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == b"0\n"
        assert vm.ok("cat", "/proc/sys/net/ipv4/ping_group_range").split() == [b"0", b"2147483647"]
        assert b"lo:" in vm.ok("cat", "/proc/net/dev")
        # The agent's file and the loaded modules gave their memory back.
        assert "No such file" in vm.err("cat", "/usr/bin/micropod-agent")
        assert "No such file" in vm.err("cat", "/lib/modules/virtio_blk.ko")
        assert vm.end() == "exited clean guest powered off"


def test_roots(guest, scratch):
    """Overlay on a disk, on a tmpfs, read-only; what stays and what goes."""
    with Guest(guest, scratch) as vm:
        vm.greeted()
        assert vm.err("root", "nosuch", "scratch", "rw") == "there is no disk with the serial number 'nosuch'"
        assert "/containers/c1" not in vm.ok("cat", "/proc/self/mounts").decode()
        vm.ok("root", "image", "scratch", "rw")
        # The merged root is the image's: owner and mode.
        assert vm.run("none", "stat", "-c", "%u:%g %a", "/") == (0, b"12:34 751\n")
        assert vm.run("none", "sh", "-c", "echo kept >/tmp/file; echo x >/bin/new") == (0, b"")
        vm.ok("unroot")
        assert "/containers/c1" not in vm.ok("cat", "/proc/self/mounts").decode()
        vm.ok("root", "image", "scratch", "rw")
        assert vm.run("none", "cat", "/tmp/file") == (0, b"kept\n")
        vm.ok("unroot")
        vm.ok("root", "image", "-", "rw")
        assert vm.run("none", "cat", "/tmp/file")[0] == 1
        assert vm.run("none", "touch", "/tmp/other") == (0, b"")
        vm.ok("unroot")
        vm.ok("root", "image", "-", "ro")
        code, out = vm.run("none", "touch", "/tmp/other")
        assert code == 1 and b"Read-only" in out
        vm.ok("unroot")
        assert vm.end() == "exited clean guest powered off"


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_containers(guest, scratch, runtime):
    """The spec as the runtimes take it: Docker's defaults in force, argv exact to the byte, the filter on."""
    with Guest(guest, scratch, runtime=runtime) as vm:
        vm.greeted()
        vm.ok("root", "image", "scratch", "rw")
        how = "bpf" if runtime == "crun" else "json"
        status = dict(line.split(":", 1) for line in vm.run(how, "cat", "/proc/self/status")[1].decode().splitlines())
        assert status["CapEff"].strip() == status["CapBnd"].strip() == "00000000a80425fb"
        assert status["CapInh"].strip() == status["CapAmb"].strip() == "0000000000000000"
        assert status["Seccomp"].strip() == "2"
        limits = vm.run(how, "cat", "/proc/self/limits")[1].decode()
        assert re.search(r"Max open files +1048576 +1048576", limits)
        assert vm.run(how, "cat", "/proc/self/oom_score_adj") == (0, b"0\n")
        assert vm.run(how, "hostname") == (0, b"c1\n")
        mounts = [line.split() for line in vm.run(how, "cat", "/proc/self/mounts")[1].decode().splitlines()]
        by_target = {m[1]: m for m in mounts}
        for target in ("/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"):
            assert target in by_target
        assert by_target["/sys"][3].startswith("ro") and by_target["/sys/fs/cgroup"][3].startswith("ro")
        assert by_target["/proc/sys"][3].startswith("ro")
        assert vm.run(how, "cat", "/proc/kcore") == (0, b"")
        code, out = vm.run(how, "mount", "-t", "tmpfs", "x", "/tmp")
        assert code != 0 and b"ermission denied" in out or b"not permitted" in out
        code, out = vm.run(how, "unshare", "-U", "true")
        assert code != 0 and b"not permitted" in out
        # 64 KiB in one argument; bytes that are not UTF-8, in arguments and environment.
        assert vm.run(how, "printf", "%s", "x" * 4000) == (0, b"x" * 4000)
        raw = bytes(range(1, 256))
        assert vm.run(how, "printf", "%s|%s", raw, "") == (0, raw + b"|")
        code, out = vm.run(how, "sh", "-c", 'printf %s "$1" | md5sum', "sh", "@65536")
        assert (code, out.split()[0].decode()) == (0, hashlib.md5((raw * 258)[:65536]).hexdigest())
        assert b"RAW=\xff\0" in vm.run(how + "+", "cat", "/proc/self/environ")[1]
        # Nothing of the agent is open in, or visible to, the program.
        assert vm.run(how + "+", "sh", "-c", "ls /proc/self/fd") == (0, b"0\n1\n2\n3\n")  # 3: ls itself reading the folder
        code, out = vm.run(how, b"no-such-\xff")
        assert code == 127 and b"No such file" in out
        assert vm.end() == "exited clean guest powered off"


def test_sessions(guest, scratch):
    """The host begins anew on the same port, as after a session that was cut (zeros, then the greeting)."""
    with Guest(guest, scratch) as vm:
        vm.greeted()
        for _ in range(3):
            vm.process.stdin.write(b"!reconnect\n")
            vm.process.stdin.flush()
            vm.greeted()
            assert vm.ok("cat", "/proc/sys/kernel/hostname") == b"micropod\n"
        assert vm.end() == "exited clean guest powered off"


def test_agent_dies(guest, scratch):
    """A crash of PID 1 is a kernel panic, which ends the VM at once and says so."""
    with Guest(guest, scratch) as vm:
        vm.greeted()
        vm.send("abort")
        assert vm.wait("exited", timeout=60).startswith("exited unclean")
        assert any("Attempted to kill init" in line for line in vm.lines.all)


def test_bad_command_line(guest, scratch):
    with Guest(guest, scratch, runtime="youki") as vm:
        vm.wait("exited", timeout=60)
        assert any("micropod.* key" in line for line in vm.lines.all)


def test_agent_rootfs(guest, scratch, tmp_path):
    """The same from agent-rootfs.ext4: read-only, so that VMs share it."""
    rootfs = tmp_path / "agent-rootfs.ext4"
    subprocess.run([SOURCE / "scripts" / "build-agent-rootfs.sh", "--files", guest["files"], "--modules", guest["modules"],
                    rootfs], check=True)
    sparse(rootfs)
    with Guest(guest, scratch, "--agent-rootfs", rootfs) as vm:
        vm.greeted()
        mounts = {line.split()[1]: line.split() for line in vm.ok("cat", "/proc/self/mounts").decode().splitlines()}
        assert mounts["/"][2] == "ext4" and mounts["/"][3].startswith("ro")
        assert mounts["/run"][2] == mounts["/tmp"][2] == mounts["/containers"][2] == "tmpfs"
        assert vm.ok("readlink", "/proc/self/exe") == b"/memfd:micropod-agent (deleted)"
        vm.ok("root", "image", "scratch", "rw")
        assert vm.run("bpf", "echo", "hi") == (0, b"hi\n")
        assert vm.end() == "exited clean guest powered off"


def test_agent_rootfs_missing(guest, scratch):
    with Guest(guest, scratch, cmdline="micropod.root=gone") as vm:
        vm.wait("exited", timeout=120)
        assert any("there is no disk with the serial number 'gone'" in line for line in vm.lines.all)
