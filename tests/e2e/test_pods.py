# SPDX-License-Identifier: Apache-2.0
"""Pods: the containers of several sandboxes in one VM."""
import json
import os
import pathlib
import signal
import socket

import pytest

from test_run import until


@pytest.fixture
def pod(micropod):
    micropod.ok("pod", "create", "-p", "127.0.0.1:0:8080", "shared")
    yield "shared"
    micropod("pod", "rm", "-f", "shared")


def in_pod(micropod, name, script, *words):
    micropod.ok("run", "-d", "--pod", "shared", "--name", name, *words, micropod.busybox, "sh", "-c", script)


def vmm_of(micropod, box):
    return micropod.inspect(box)["Micropod"]["VMMPid"]


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def members(micropod):
    return {one["Name"]: one["State"] for one in json.loads(micropod.ok("pod", "inspect", "shared"))[0]["Containers"]}


def test_what_they_share_and_what_not(micropod, pod):
    in_pod(micropod, "web", "mkdir /w; echo hello > /w/index.html; hostname > /w/name; exec httpd -f -p 8080 -h /w")
    out = micropod.ok("run", "--rm", "--pod", pod, "-m", "64m", "--pids-limit", "50", micropod.busybox, "sh", "-c", """
        until wget -q -O - http://127.0.0.1:8080/ 2>/dev/null; do sleep 0.1; done
        echo one > /dev/shm/file; ls -d /w 2>/dev/null || echo root of its own
        cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; ps | grep -c httpd; echo $$""")
    lines = out.splitlines()
    assert lines[:4] == ["hello", "root of its own", str(64 << 20), "50"] and lines[-1] == "1"
    assert micropod.ok("exec", "web", "cat", "/dev/shm/file") == "one\n"
    assert micropod.ok("exec", "web", "cat", "/w/name").strip() == micropod.inspect("web")["Id"][:12]
    # What the pod publishes is whoever's in it that listens there.
    port = int(micropod.ok("port", pod, "8080/tcp").rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as c:
        c.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"hello" in c.makefile("rb").read()
    # Its own log, exit and statistics.
    assert micropod("run", "--name", "seven", "--pod", pod, micropod.busybox, "sh", "-c", "echo out; exit 7").returncode == 7
    assert micropod.ok("logs", "seven") == "out\n" and micropod.ok("logs", "web") == ""
    assert micropod.inspect("seven")["State"]["ExitCode"] == 7 and members(micropod) == {"web": "running", "seven": "exited"}
    assert json.loads(micropod.ok("stats", "--no-stream", "--format", "json", "web"))
    # The pod itself is none of the sandboxes.
    assert micropod.ok("ps", "-a", "--format", "{{.Names}}").split() == ["seven", "web"]
    lines = micropod.ok("pod", "ls").splitlines()
    assert lines[0].split() == ["POD", "ID", "NAME", "STATUS", "CREATED", "SANDBOXES"] and lines[1].split()[1] == pod and lines[1].split()[-1] == "2"


def test_coming_and_going(micropod, pod):
    in_pod(micropod, "one", "trap 'exit 3' TERM; echo up; while :; do sleep 0.2; done")
    until(lambda: micropod.ok("logs", "one") == "up\n", 20)
    micropod.ok("exec", "one", "sh", "-c", "echo kept > /file")
    micropod.ok("stop", "one")
    assert micropod.inspect("one")["State"]["ExitCode"] == 3
    # At once again, while its disks are still on their way out.
    micropod.ok("start", "one")
    assert micropod.ok("exec", "one", "cat", "/file") == "kept\n"
    micropod.ok("pause", "one")
    micropod.ok("unpause", "one")
    micropod.ok("kill", "one")
    assert micropod.ok("wait", "one") == "137\n"
    micropod.ok("start", "one")
    assert micropod.ok("exec", "one", "cat", "/file") == "kept\n"
    # With the pod stopped and started.
    micropod.ok("pod", "stop", pod)
    assert members(micropod) == {"one": "exited"} and micropod.inspect("one")["State"]["ExitCode"] == 3
    micropod.ok("pod", "start", pod)
    assert micropod.ok("exec", "one", "cat", "/file") == "kept\n"
    assert micropod.error(micropod("pod", "rm", pod)) == f"pod '{pod}' has 1 sandboxes: remove those first, or give -f"
    micropod.ok("rm", "-f", "one")
    micropod.ok("pod", "stop", pod)
    assert micropod.ok("pod", "rm", pod) == f"{pod}\n"


def test_twelve_and_no_more(micropod, pod):
    """LIMIT_POD_MEMBERS: each has two disks of the pod's slots (LIMIT_VM_SLOTS)."""
    for i in range(12):
        in_pod(micropod, f"box-{i}", "exec sleep 1000")
    assert [micropod.ok("exec", f"box-{i}", "hostname").strip() for i in range(12)] == [micropod.inspect(f"box-{i}")["Id"][:12] for i in range(12)]
    done = micropod("run", "--rm", "--pod", pod, micropod.busybox, "true")
    assert micropod.error(done) == f"pod '{pod}' has 12 sandboxes running, and cannot have more"
    micropod.ok("rm", "-f", "box-3")
    until(lambda: micropod("run", "--rm", "--pod", pod, micropod.busybox, "true").returncode == 0, 60)


def test_a_killed_shim_leaves_nothing_in_the_pod(micropod, pod):
    in_pod(micropod, "one", "exec sleep 1000")
    in_pod(micropod, "two", "while :; do sleep 0.2; done")
    shim = next(int(p.split()[0]) for p in micropod.processes() if micropod.inspect("two")["Id"] in p and "micropod-shim" in p)
    os.kill(shim, signal.SIGKILL)
    until(lambda: micropod.inspect("two")["State"]["Status"] == "dead", 20)
    # Its processes go with it, the others stay.
    micropod.ok("start", "two")
    assert micropod.ok("exec", "one", "sh", "-c", "ls /proc | grep -c '^[0-9]'")
    micropod.ok("exec", "two", "true")
    micropod.ok("exec", "one", "true")


def test_the_pods_end_is_its_members(micropod, pod):
    in_pod(micropod, "one", "exec sleep 1000")
    in_pod(micropod, "two", "exec sleep 1000")
    os.kill(vmm_of(micropod, pod), signal.SIGKILL)
    until(lambda: set(members(micropod).values()) == {"exited"}, 30)
    assert micropod.inspect("one")["State"]["ExitCode"] == 137 and "the pod's VM" in micropod.inspect("one")["State"]["Error"]
    # The next start brings the pod back.
    micropod.ok("start", "one")
    micropod.ok("exec", "one", "true")
    os.kill(parent(vmm_of(micropod, pod)), signal.SIGKILL)
    until(lambda: micropod.inspect("one")["State"]["Status"] == "exited", 30)


def test_a_policy_waits_for_the_pod(micropod, pod):
    in_pod(micropod, "one", "exec sleep 1000", "--restart", "always")
    os.kill(vmm_of(micropod, pod), signal.SIGKILL)
    until(lambda: micropod.inspect("one")["State"]["Status"] == "restarting", 30)
    micropod.ok("pod", "start", pod)
    until(lambda: micropod.inspect("one")["State"]["Status"] == "running", 60)
    micropod.ok("exec", "one", "true")


def test_an_interactive_one(micropod, pod):
    done = micropod("run", "--rm", "-i", "--pod", pod, micropod.busybox, "sh", "-c", "cat; echo err >&2; exit 5", input=b"x" * 200000)
    assert done.returncode == 5 and done.stdout == b"x" * 200000 and done.stderr == b"err\n"


def test_wrong_input(micropod, pod):
    for words, error in ((("--pod", "nosuch"), "no such sandbox: nosuch"),
                         (("--pod", pod, "-p", "80:80"), "option '--publish' does not go with '--pod': its network is the pod's (micropod pod create), "
                                                         "its root a disk of its own"),
                         (("--driver", "docker", "--pod", pod), "option '--pod' is for VMs, not for '--driver docker'")):
        assert micropod.error(micropod("run", *words, micropod.busybox)) == error
    micropod.ok("create", "--name", "box", micropod.busybox, "true")
    for words, error in ((("run", "--pod", "box", micropod.busybox), "'box' is no pod (micropod pod create makes one)"),
                         (("pod", "inspect", "box"), "'box' is no pod (micropod pod create makes one)"),
                         (("pod", "rm", "nosuch"), "no such pod: nosuch"),
                         (("rm", pod), f"'{pod}' is a pod: micropod pod rm removes it"),
                         (("pod", "create", "--name", "a1", "b1"), "a pod has one name: 'a1' or 'b1'")):
        assert micropod.error(micropod(*words)) == error
