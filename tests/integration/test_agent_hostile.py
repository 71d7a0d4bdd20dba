# SPDX-License-Identifier: Apache-2.0
"""What a hostile container or image can try against the agent, and what must not change under it."""
import json
import os
import shutil
import threading
import time
from pathlib import Path

import grpc
import pytest

from agent_fixture import AGENT, LONG, Agent, generate, is_static, new_folder, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers on this host need root")
SHOWN = "cat /proc/self/status; echo ==; cat /proc/self/limits; echo ==; cat /proc/self/cgroup; echo ==; cat /proc/self/mountinfo"
# What differs between any two processes: who they are, and what they have used.
OWN_LINES = ("Name:", "Pid:", "Tgid:", "Ngid:", "PPid:", "NStgid:", "NSpid:", "NSpgid:", "NSsid:", "State:", "Vm", "Rss", "Hugetlb",
             "Threads:", "voluntary_ctxt", "nonvoluntary_ctxt", "Cpus_allowed", "Mems_allowed", "SigQ:", "FDSize:", "x86_",
             "SigPnd:", "ShdPnd:", "TracerPid:", "Kthread:", "untag_mask:")


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    folder = new_folder()
    a = Agent(folder, *generate(tmp_path_factory.mktemp("stubs")))
    yield a
    assert a.stop() == 0
    shutil.rmtree(folder)


def capabilities(name):
    return next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))


def comparable(text):
    return [line for line in text.splitlines() if not line.startswith(OWN_LINES)]


@pytest.mark.parametrize("fields", [
    {}, {"user": b"anna"}, {"privileged": True}, {"no_new_privileges": True}, {"no_capabilities": True},
    {"capabilities": ["CAP_NET_RAW", "CAP_SYS_ADMIN"]}, {"user": b"1234:crew"}, {"seccomp_unconfined": True}],
    ids=lambda f: "-".join(f) or "default")
def test_exec_and_first_process_agree(agent, fields):
    if fields.get("privileged") and int(capabilities("CapEff"), 16) != int(capabilities("CapBnd"), 16) | 1 << 24:
        pytest.skip("needs every capability")
    if "user" in fields:
        fields = {**fields, "user": agent.pb.User(name=fields["user"])}
    box, r = agent.create("sh", "-c", SHOWN + "; sleep 1000", **fields)
    assert r.status == "RUNNING", r
    privileged = {"privileged": True} if fields.get("privileged") else {}
    out = agent.exec(box, "sh", "-c", SHOWN, **privileged).out.decode()
    wait_until(lambda: len(agent.logs(box)) and b"".join(e.data for e in agent.logs(box)).count(b"==") == 3)
    first = b"".join(e.data for e in agent.logs(box)).decode()
    assert comparable(out) == comparable(first)
    agent.delete(box)


def test_agent_binary_cannot_be_reached(agent):
    """CVE-2019-5736: a container that gets hold of /proc/PID/exe of an exec on its way in must not find the agent's file."""
    before = AGENT.read_bytes()
    assert os.readlink(f"/proc/{agent.process.pid}/exe").startswith("/memfd:")
    box = agent.sleeper()
    # Watches for processes that are not its own program yet, opens what it can and writes to it.
    hunter = """
        while :; do for p in /proc/[0-9]*; do
            l=$(readlink $p/exe) || { [ -e $p/stat ] && echo "hidden"; continue; }
            case $l in /bin/busybox) ;; *) echo "seen $l"; ( echo pwned > $p/exe ) 2>/dev/null && echo "WRITTEN $l";; esac
        done; done"""
    pb = agent.pb
    exec_id = agent.stub.CreateProcess(pb.CreateProcessRequest(
        container_id=box, process=agent.spec("sh", "-c", hunter, output_policy=pb.OUTPUT_POLICY_DROP))).exec_id
    agent.stub.StartProcess(pb.StartProcessRequest(container_id=box, exec_id=exec_id))
    # The exploit proper: the program executed is a script whose interpreter is /proc/self/exe.
    script = Path(agent.root, "bin/trap")
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    for _ in range(200 if LONG else 40):
        assert agent.exec(box, "true").exit.code == 0
    try:
        agent.exec(box, "/bin/trap")
    except grpc.RpcError as e:
        assert e.code() == grpc.StatusCode.FAILED_PRECONDITION
    out = b"".join(e.output.data for e in agent.stub.Attach(pb.AttachRequest(
        container_id=box, exec_id=exec_id, no_follow=True)))
    assert b"WRITTEN" not in out
    assert AGENT.read_bytes() == before
    with open(f"/proc/{agent.process.pid}/exe", "rb") as f:
        assert f.read() == before
    agent.delete(box)


def test_no_descriptor_of_the_agent_leads_out(agent):
    """CVE-2024-21626: a working folder below /proc/self/fd/N."""
    box = agent.sleeper()
    for n in range(0, 40):
        with pytest.raises(grpc.RpcError) as e:
            agent.exec(box, "cat", "../../../etc/hostname", cwd=b"/proc/self/fd/%d" % n)
        assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    link = Path(agent.root, "tmp/out")
    for n in range(3, 12):
        link.unlink(missing_ok=True)
        link.symlink_to(f"/proc/self/fd/{n}")
        with pytest.raises(grpc.RpcError):
            agent.exec(box, "pwd", cwd=b"/tmp/out")
    r = agent.exec(box, "sh", "-c", "ls -l /proc/self/fd | wc -l; ls /proc/$$/fd; true")
    assert r.out.split()[1:] == [b"0", b"1", b"2"]
    agent.delete(box)
    for n in range(3, 12):
        box, r = agent.create("sh", "-c", "cat ../../../../etc/shadow", cwd=b"/proc/self/fd/%d" % n)
        if r.status == "RUNNING":
            agent.wait(box)
            assert b"root:" not in b"".join(e.data for e in agent.logs(box))
            agent.delete(box)


def test_fifo_as_passwd_stops_nothing(agent):
    box = agent.sleeper()
    passwd = Path(agent.root, "etc/passwd")
    saved = passwd.read_bytes()
    passwd.unlink()
    os.mkfifo(passwd)
    try:
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as e:
            agent.exec(box, "true", user=agent.pb.User(name=b"anna"))
        assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION and time.monotonic() - began < 5
        with pytest.raises(grpc.RpcError):
            agent.create("true", user=agent.pb.User(name=b"anna"))
        agent.stub.Info(agent.pb.InfoRequest(), timeout=2)
    finally:
        passwd.unlink()
        passwd.write_bytes(saved)
    agent.delete(box)


def test_passwd_that_leads_out_is_not_followed(agent, tmp_path):
    (tmp_path / "passwd").write_text("evil:x:4242:4242::/:/bin/sh\n")
    passwd = Path(agent.root, "etc/passwd")
    saved = passwd.read_bytes()
    passwd.unlink()
    passwd.symlink_to(tmp_path / "passwd")
    try:
        with pytest.raises(grpc.RpcError) as e:
            agent.create("true", user=agent.pb.User(name=b"evil"))
        assert e.value.code() == grpc.StatusCode.NOT_FOUND
    finally:
        passwd.unlink()
        passwd.write_bytes(saved)


def test_false_terminal_is_refused(agent):
    box = agent.sleeper()
    assert agent.exec(box, "sh", "-c", "rm -f /dev/ptmx && mkfifo /dev/ptmx").exit.code == 0
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as e:
        agent.exec(box, "true", tty=True)
    assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION and time.monotonic() - began < 10
    assert agent.exec(box, "echo", "fine").out == b"fine\n"
    agent.delete(box)


def test_container_processes_cannot_trace_an_exec_on_its_way(agent):
    box = agent.sleeper()
    r = agent.exec(box, "sh", "-c", "for i in 1 2 3; do cat /proc/[0-9]*/environ 2>/dev/null; done | tr '\\0' '\\n'",
                   timeout=30)
    assert b"MICROPOD" not in r.out
    agent.delete(box)


@pytest.mark.skipif(not is_static(), reason="only the static agent's memory is its own")
def test_orphans_leave_memory_flat(agent):
    """In a container that shares the agent's pid namespace every orphan becomes the agent's own child."""
    spec = {"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {
        "args": ["sleep", "100000"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}], "linux": {"namespaces": [{"type": "mount"}]}}
    pb, box = agent.pb, "shared-pids"
    r = agent.stub.CreateContainer(pb.CreateContainerRequest(container_id=box, oci_spec=json.dumps(spec).encode(),
                                                             rootfs_path=str(agent.root)), timeout=60)
    assert r.status == "RUNNING", r
    count = 100000 if LONG else 10000
    script = ("i=0; while [ $i -lt %d ]; do j=0; while [ $j -lt 100 ]; do (true &); j=$((j+1)); done; wait; i=$((i+1)); done"
              % (count // 100))
    agent.exec(box, "sh", "-c", "i=0; while [ $i -lt 500 ]; do (true &); i=$((i+1)); done")
    before = agent.rss_kib()
    assert agent.exec(box, "sh", "-c", script, timeout=600).exit.code == 0
    assert agent.rss_kib() <= before + 64
    def children():
        return Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text().split()
    wait_until(lambda: len(children()) == len(agent.stub.ListContainers(pb.ListContainersRequest()).containers))
    agent.delete(box)


@pytest.mark.skipif(not is_static(), reason="only the static agent's memory is its own")
def test_memory_after_many_execs(agent):
    box = agent.sleeper()
    count = 1000 if LONG else 300
    # Past the number of finished processes that are kept.
    for _ in range(count):
        assert agent.exec(box, "true").exit.code == 0
    middle = agent.rss_kib()
    for _ in range(count // 2):
        assert agent.exec(box, "true").exit.code == 0
    last = agent.rss_kib()
    print(f"RSS after {count} execs {middle} KiB, after {count * 3 // 2} {last} KiB")
    assert last <= middle + 64, (middle, last)
    assert last < 3 * 1024
    agent.delete(box)


def test_two_hundred_at_once(agent):
    box = agent.sleeper()
    codes = []
    def one(i):
        codes.append(agent.exec(box, "sh", "-c", f"exit {i % 256}", timeout=120).exit.code - i % 256)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(200 if LONG else 60)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert set(codes) == {0} and len(codes) == len(threads)
    agent.delete(box)
