# SPDX-License-Identifier: Apache-2.0
"""What a container may do and have: Docker's options, each seen from the inside."""
import json
import time
from pathlib import Path

import pytest

IMAGE_OPTIONS = ["--label", "a=b", "--label", "empty", "--ulimit", "nofile=100:200", "--ulimit", "core=0", "--cap-add", "net_admin", "--cap-drop", "CHOWN",
                 "--add-host", "foo:192.0.2.4", "--add-host", "six=2001:db8::1", "--dns", "192.0.2.53", "--dns-search", "example.org",
                 "--dns-option", "ndots:2", "--group-add", "55", "--pids-limit", "30", "--cpu-shares", "512", "--shm-size", "10m",
                 "--tmpfs", "/t:size=5m,exec", "--tmpfs", "/t/inner", "--read-only", "--stop-signal", "USR1"]


def every_capability():
    """An engine on a host that is confined itself cannot give away what it has not."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    return int(lines(Path("/proc/self/status").read_text())["CapBnd"], 16) == (2 << last) - 1


def lines(text):
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def test_seen_from_the_inside(micropod):
    """One container with most of them: each start is dear."""
    micropod.ok("run", "-d", "--name", "box", *IMAGE_OPTIONS, micropod.busybox, "sleep", "1000")

    def sh(script):
        return micropod.ok("exec", "box", "sh", "-c", script)

    assert sh("ulimit -n; ulimit -Hn; ulimit -c").split() == ["100", "200", "0"]
    caps = int(lines(sh("cat /proc/1/status"))["CapBnd"], 16)
    assert caps >> 12 & 1 and not caps & 1
    hosts = sh("cat /etc/hosts")
    assert "192.0.2.4\tfoo\n" in hosts and "2001:db8::1\tsix\n" in hosts
    resolv = sh("cat /etc/resolv.conf")
    assert "nameserver 192.0.2.53\n" in resolv and "search example.org\n" in resolv and "options ndots:2\n" in resolv
    assert lines(sh("cat /proc/1/status"))["Groups"].split()[-1] == "55"
    mounts = {line.split()[1]: line.split()[3].split(",") for line in sh("cat /proc/mounts").splitlines()}
    assert "size=10240k" in mounts["/dev/shm"]
    assert "size=5120k" in mounts["/t"] and {"nosuid", "nodev"} <= set(mounts["/t"]) and "noexec" not in mounts["/t"]
    assert "noexec" in mounts["/t/inner"] and "ro" in mounts["/"]
    assert micropod("exec", "box", "touch", "/x").returncode == 1
    assert micropod.ok("exec", "box", "touch", "/t/x", "/t/inner/x") == ""
    if micropod.vm:
        assert sh("cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.weight").split() == ["30", "20"]
    box = micropod.inspect("box")
    host, config = box["HostConfig"], box["Config"]
    assert config["Labels"]["a"] == "b" and config["Labels"]["empty"] == ""
    assert host["CapAdd"] == ["CAP_NET_ADMIN"] and host["CapDrop"] == ["CAP_CHOWN"] and host["ShmSize"] == 10 << 20
    assert host["PidsLimit"] == 30 and host["CpuShares"] == 512 and host["Dns"] == ["192.0.2.53"] and host["GroupAdd"] == ["55"]
    assert host["ReadonlyRootfs"] and host["Ulimits"] == ["nofile=100:200", "core=0"]
    # More than 30 processes are refused, by whatever counts them there.
    assert "an't fork" in micropod("exec", "box", "sh", "-c", "for i in $(seq 40); do sleep 5 & done").stderr.decode()


@pytest.mark.parametrize("options,script,want", [
    (["--privileged"], "grep -c 000001ffffffffff /proc/self/status; grep Seccomp: /proc/self/status", "3\nSeccomp:\t0\n"),
    (["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"], "grep CapBnd /proc/self/status", "CapBnd:\t000001ffffdfffff\n"),
    (["--cap-drop", "ALL"], "grep CapBnd /proc/self/status", "CapBnd:\t0000000000000000\n"),
    (["--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges"], "grep -E 'Seccomp:|NoNew' /proc/self/status",
     "NoNewPrivs:\t1\nSeccomp:\t0\n"),
    (["--cap-add", "SYS_ADMIN"], "mount -t tmpfs none /tmp && echo mounted", "mounted\n"),
    (["--init"], "cat /proc/1/comm | grep -v '^sh$' | wc -l", "1\n"),
    (["--sysctl", "net.core.somaxconn=77", "--sysctl", "kernel.msgmax=9000"], "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax", "77\n9000\n"),
    (["--device", "/dev/null:/dev/other:rw"], "echo x >/dev/other && ls -l /dev/other | cut -c1", "c\n"),
    (["--mac-address", "02:00:00:00:00:17"], "cat /sys/class/net/eth0/address", "02:00:00:00:00:17\n"),
], ids=lambda value: value[0] if isinstance(value, list) else None)
def test_one_at_a_time(micropod, options, script, want):
    if not micropod.vm and ("--privileged" in options or "ALL" in options) and not every_capability():
        pytest.skip("needs every capability")
    assert micropod.ok("run", "--rm", *options, micropod.busybox, "sh", "-c", script) == want


def test_a_profile_of_ones_own(micropod, tmp_path):
    """In Docker's format: conditions on capabilities and architectures, arguments, other errors."""
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [{"names": ["mkdir", "mkdirat", "never_heard_of"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
                     {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                     {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO", "excludes": {"arches": ["amd64", "arm64"]}},
                     {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}]}]}))
    script = "mkdir /tmp/a; chmod 755 / && echo chmod; rmdir /tmp/b; grep Seccomp: /proc/self/status; ip link"
    done = micropod("run", "--rm", "--security-opt", f"seccomp={profile}", micropod.busybox, "sh", "-c", script)
    said = done.stderr.decode()
    assert "No space left" in said and "rmdir: '/tmp/b': No such file" in said and "not permitted" in said
    assert done.stdout == b"chmod\nSeccomp:\t2\n"


def test_a_profile_that_is_too_large(micropod, tmp_path):
    """LIMIT_SECCOMP_PROFILE: 1 MiB."""
    (tmp_path / "profile").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}' + " " * (1 << 20))
    assert "File too large" in micropod.error(micropod("create", "--security-opt", f"seccomp={tmp_path}/profile", micropod.busybox))


def test_ids_and_labels_in_files(micropod, tmp_path):
    (tmp_path / "labels").write_text("# words\nx=1\n\n  y=two words\n")
    micropod.ok("create", "--name", "box", "--cidfile", tmp_path / "id", "--label-file", tmp_path / "labels", "--label", "x=2", micropod.busybox, "true")
    box = micropod.inspect("box")
    assert box["Id"] == (tmp_path / "id").read_text()
    assert box["Config"]["Labels"]["x"] == "2" and box["Config"]["Labels"]["y"] == "two words"
    assert "File exists" in micropod.error(micropod("create", "--cidfile", tmp_path / "id", micropod.busybox))


def test_limits_of_cpus(micropod):
    if not micropod.vm:
        assert micropod.ok("run", "--rm", "--cpuset-cpus", "0", micropod.busybox, "nproc") == "1\n"
        return
    assert micropod.ok("run", "--rm", "--cpus", "2", "--cpuset-cpus", "1", micropod.busybox, "sh", "-c", "nproc; grep Cpus_allowed_list /proc/self/status") \
        == "1\nCpus_allowed_list:\t1\n"
    assert micropod.ok("run", "--rm", "--cpu-quota", "50000", micropod.busybox, "cat", "/sys/fs/cgroup/cpu.max") == "50000 100000\n"
    assert "names CPU 3: the sandbox has 2" in micropod.error(micropod("run", "--cpus", "2", "--cpuset-cpus", "0-3", micropod.busybox))


def test_all_ports(micropod):
    micropod.ok("run", "-d", "--name", "box", "-P", "--expose", "80", "--expose", "53/udp", micropod.busybox, "sleep", "1000")
    assert [line.split(" -> ")[0] for line in sorted(micropod.ok("port", "box").splitlines())] == ["53/udp", "80/tcp"]
    micropod.ok("run", "-d", "--name", "other", "--expose", "80", micropod.busybox, "sleep", "1000")
    assert micropod.ok("port", "other") == ""


# LIMIT_DEVICES and LIMIT_LABEL_BYTES are among them.
WRONG = [(["--ulimit", "nofile=9:1"], "above the hard one"), (["--ulimit", "nothing=1"], "no limit called 'nothing'"),
         (["--cap-add", "FLY"], "no such capability"), (["--add-host", "foo"], "give NAME:ADDRESS"), (["--add-host", "foo:bar"], "give NAME:ADDRESS"),
         (["--dns", "one.one"], "address of a name server"), (["--label", "=x"], "give KEY=VALUE"), (["--sysctl", "x"], "give KEY=VALUE"),
         (["--mac-address", "01:00:00:00:00:01"], "give that of one card"), (["--tmpfs", "x"], "absolute path"), (["--device", "x"], "absolute path"),
         (["--security-opt", "fast"], "no-new-privileges"), (["--security-opt", "seccomp=/nowhere"], "cannot read the seccomp profile"),
         (["--security-opt", "seccomp={}"], "defaultAction"), (["--security-opt", 'seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[1]}'], "rule 1"),
         (["--security-opt", "seccomp={"], "no JSON object"), (["--memory-swap", "1m", "-m", "64m"], "more than '--memory'"),
         (["--expose", "127.0.0.1:80"], "give ports of the container"), (["--expose", "0"], "give ports of the container"),
         (["--memory-swap", "1m"], "needs '--memory'"), (["--pids-limit", "many"], "give a number"), (["--cpuset-cpus", "1-"], "give numbers"),
         (["--cpu-period", "50000"], "needs '--cpu-quota'"), (["--cpu-quota", "5000", "--cpus", "1"], "leave one of them out"),
         (["--security-opt", "no-new-privileges=perhaps"], "give true or false"), (["--label-file", "/nowhere"], "cannot read label file"),
         (["--ulimit", "nofile=1"] * 17, "16 limits in all"), (["--device", "/dev/null"] * 65, "give 64 at most"), (["--label", "x" * 5000], "at most 4096 bytes")]


@pytest.mark.parametrize("options,words", WRONG, ids=[" ".join(options[:2])[:30] for options, _ in WRONG])
def test_wrong_ones(micropod, options, words):
    """Told before anything is made."""
    if not micropod.vm and options[1].startswith("seccomp={"):
        return  # the engine reads the profile, when the container is made
    began = time.monotonic()
    assert words in micropod.error(micropod("create", "--name", "never", *options, micropod.busybox))
    assert time.monotonic() - began < 10 and micropod("inspect", "never").returncode == 125


@pytest.mark.parametrize("options,words", [
    (["--sysctl", "no.such=1"], "cannot set 'no.such'"), (["--sysctl", "net/../../x=1"], "no name of a setting"),
    (["--tmpfs", "/t:colour=blue"], "colour=blue"), (["--device", "/dev/nothing"], "/dev/nothing"),
    (["--device", "/dev/null:/dev/x:abc"], "r, w and m")], ids=lambda value: value[1] if isinstance(value, list) else None)
def test_what_the_guest_refuses(micropod, options, words):
    if micropod.vm:
        assert words in micropod.error(micropod("run", "--rm", *options, micropod.busybox, "true"))


def test_the_other_runtimes_do_the_same(micropod):
    if not micropod.vm:
        return
    script = "mount | grep ' /t '; ulimit -n; cat /proc/sys/net/core/somaxconn; grep CapBnd /proc/self/status"
    words = ["--tmpfs", "/t:size=1m", "--ulimit", "nofile=77", "--sysctl", "net.core.somaxconn=78", "--cap-drop", "ALL"]
    assert micropod.ok("run", "--rm", "--runtime", "runc", "--cap-add", "NET_ADMIN", micropod.busybox, "echo", "fine") == "fine\n"
    assert "takes no compiled filter; crun does" in micropod.error(micropod("run", "--rm", "--runtime", "runc", "--cap-add", "SYS_ADMIN", micropod.busybox, "true"))
    builtin, crun = (micropod.ok("run", "--rm", "--runtime", runtime, *words, micropod.busybox, "sh", "-c", script) for runtime in ("builtin", "crun"))
    assert builtin.splitlines()[1:] == crun.splitlines()[1:] == ["77", "78", "CapBnd:\t0000000000000000"]
    assert all("size=1024k" in text and "noexec" in text for text in (builtin, crun))
