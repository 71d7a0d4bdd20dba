# SPDX-License-Identifier: Apache-2.0
"""The agent's API, as a client sees it: `micropod-agent serve` with runc on this host, as root."""
import os
import random
import re
import signal
import socket
import threading
import time
import uuid
from pathlib import Path

import grpc
import pytest

from agent_fixture import Agent, collect, generate, is_static, new_folder, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers on this host need root")


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="module")
def agent(api):
    folder = new_folder()
    a = Agent(folder, *api)
    yield a
    assert a.stop() == 0
    left = [str(p) for p in (folder / "state").rglob("*") if p.is_file()]
    assert left == []
    assert not list(Path("/sys/fs/cgroup").glob(f"*/micropod-agent-{a.process.pid}"))
    import shutil
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def box(agent):
    """A container to run things in."""
    return agent.sleeper()


def fails(code, call, *args, **kwargs):
    with pytest.raises(grpc.RpcError) as e:
        result = call(*args, **kwargs)
        if hasattr(result, "__iter__") and not hasattr(result, "DESCRIPTOR"):
            list(result)
    assert e.value.code() == code, e.value
    return e.value


def failure_of(pb, error):
    """The Failure in grpc-status-details-bin (google.rpc.Status, read by hand: its package is not there)."""
    data = dict(error.trailing_metadata())["grpc-status-details-bin"]
    at = data.index(b"type.googleapis.com/micropod.agent.v1.Failure") + 45
    assert data[at] == 0x12
    length, at, shift = 0, at + 1, 0
    while True:
        length |= (data[at] & 0x7f) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            break
    return pb.Failure.FromString(data[at:at + length])


# The first contract

def old(agent, method, request, response):
    return agent.channel.unary_unary("/api.Agent/" + method, request_serializer=type(request).SerializeToString,
                                     response_deserializer=response.FromString)(request, timeout=60)


def test_first_contract_starts_a_process(agent):
    pb = agent.pb
    r = old(agent, "CreateContainer", pb.CreateContainerRequest(
        container_id="first", process_args=["sleep", "1000"], rootfs_path=str(agent.root)), pb.CreateContainerResponse)
    assert (r.container_id, r.status, r.error_message) == ("first", "RUNNING", "")
    wait_until(lambda: Path(f"/proc/{r.pid}/cmdline").read_bytes() == b"sleep\x001000\x00")
    agent.delete("first")
    assert not Path(f"/proc/{r.pid}").exists()


def test_wrong_requests_have_their_own_status(agent, box):
    pb, C = agent.pb, grpc.StatusCode
    def create(**fields):
        return agent.stub.CreateContainer(pb.CreateContainerRequest(**fields), timeout=60)
    good = {"container_id": "x1", "process_args": ["true"], "rootfs_path": str(agent.root)}
    fails(C.INVALID_ARGUMENT, create, **{**good, "process_args": []})
    fails(C.INVALID_ARGUMENT, create, **{**good, "process_args": [""]})
    for bad in ("", "../x", "..", "a/b", "-x", "x" * 129, "a b"):
        fails(C.INVALID_ARGUMENT, create, **{**good, "container_id": bad})
    e = fails(C.ALREADY_EXISTS, create, **{**good, "container_id": box})
    f = failure_of(pb, e)
    assert f.kind == pb.Failure.CONFLICT and f.object == box and box in f.message
    fails(C.NOT_FOUND, create, **{**good, "rootfs_path": "/nowhere"})
    fails(C.INVALID_ARGUMENT, create, **{**good, "rootfs_path": ""})
    fails(C.INVALID_ARGUMENT, create, **{**good, "rootfs_path": "relative"})
    fails(C.INVALID_ARGUMENT, create, **{**good, "stop_signal": "SIGNONE"})
    fails(C.INVALID_ARGUMENT, create, **{**good, "capabilities": ["CAP_NONE"]})
    fails(C.INVALID_ARGUMENT, create, **{**good, "process_args": [], "args": [b"a", b"b\0c"]})
    fails(C.NOT_FOUND, create, **{**good, "user": pb.User(name=b"nobody-here")})
    assert not [c for c in agent.stub.ListContainers(pb.ListContainersRequest()).containers if c.container_id == "x1"]
    assert agent.exec(box, "true").exit.code == 0


def test_command_that_does_not_exist_is_failed(agent):
    for command in ("nothing-of-that-name", "/bin/nothing"):
        container_id, r = agent.create(command)
        assert r.status == "FAILED" and r.pid == 0
        assert command in r.error_message and r.failure.kind == agent.pb.Failure.SPAWN
        assert r.failure.errno_value == 2
        # Nothing is left: the id is free.
        assert agent.create("true", container_id=container_id)[1].status == "RUNNING"
        agent.delete(container_id)
    _, r = agent.create("/etc/passwd")
    assert r.status == "FAILED" and r.failure.errno_value == 13


# What a runtime's start cannot tell, for it returns a moment before the program is executed.
@pytest.mark.parametrize("words", [(), (b"\xff",)], ids=["runtime", "exec-blob"])
def test_command_that_cannot_be_executed_is_failed(agent, words):
    if words and not is_static():
        pytest.skip("only a static agent starts in a root without libraries")
    for name, text, numbers in (("garbage", "no program", (8,)), ("lost", "#!/bin/no-such-interpreter\n", (8, 2))):
        Path(agent.root, "tmp", name).write_text(text)
        Path(agent.root, "tmp", name).chmod(0o755)
        container_id, r = agent.create(f"/tmp/{name}", *words)
        assert r.status == "FAILED" and r.pid == 0 and f"/tmp/{name}" in r.error_message
        assert r.failure.kind == agent.pb.Failure.SPAWN and r.failure.errno_value in numbers
        assert agent.create("false", container_id=container_id)[1].status == "RUNNING"
        assert agent.wait(container_id).code == 1
        agent.delete(container_id)


def test_exec_as_a_server_stream_with_a_flat_message(agent, box):
    pb = agent.pb
    call = agent.channel.unary_stream("/api.Agent/ExecInContainer", request_serializer=pb.ExecRequest.SerializeToString,
                                      response_deserializer=pb.ExecEvent.FromString)
    r = collect(pb, call(pb.ExecRequest(container_id=box, process_args=["sh", "-c", "sleep 0.3; echo done; exit 4"]),
                         timeout=30))
    assert (r.out, r.exit.code) == (b"done\n", 4)


def test_logs_are_entries(agent):
    pb = agent.pb
    container_id, _ = agent.create("sh", "-c", "echo one; echo two >&2; sleep 0.1; echo three; exit 3")
    assert agent.wait(container_id).code == 3
    entries = agent.logs(container_id)
    assert b"".join(e.data for e in entries if e.stream == pb.STREAM_STDOUT) == b"one\nthree\n"
    assert b"".join(e.data for e in entries if e.stream == pb.STREAM_STDERR) == b"two\n"
    assert all(abs(e.time_ns / 1e9 - time.time()) < 60 for e in entries)
    third = [e for e in entries if b"three" in e.data][0]
    assert [e.data for e in agent.logs(container_id, since_ns=third.time_ns)] == [b"three\n"]
    assert b"three" not in b"".join(e.data for e in agent.logs(container_id, until_ns=third.time_ns - 1))
    assert b"".join(e.data for e in agent.logs(container_id, tail=1)) == b"three\n"
    assert b"".join(e.data for e in agent.logs(container_id, tail=100)).count(b"\n") == 3
    assert agent.logs(container_id, tail=0, tail_set=True) == []
    stamped = b"".join(e.data for e in agent.logs(container_id, timestamps=True))
    for line in stamped.splitlines():
        stamp, word = line.split(b" ")
        assert time.strptime(stamp[:19].decode(), "%Y-%m-%dT%H:%M:%S") and stamp.endswith(b"Z") and len(stamp) == 30
        assert word in (b"one", b"two", b"three")
    agent.delete(container_id)


def test_logs_follow_to_the_end(agent):
    container_id, _ = agent.create("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
    entries = agent.logs(container_id, follow=True)
    assert b"".join(e.data for e in entries) == b"1\n2\n3\n"
    agent.delete(container_id)


def test_logs_that_overflow_say_what_is_gone(agent):
    container_id, _ = agent.create("sh", "-c", "head -c 3000000 /dev/zero")
    agent.wait(container_id)
    entries = agent.logs(container_id)
    assert getattr(entries[0].gap, "from") == 0 and entries[0].gap.to == entries[0].offset == 3000000 - (1 << 20)
    assert sum(len(e.data) for e in entries) == 1 << 20
    agent.delete(container_id)


# Processes

def test_exec_carries_output_and_exit(agent, box):
    r = agent.exec(box, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (r.out, r.err, r.exit.code, r.exit.signal) == (b"out\n", b"err\n", 7, 0)
    assert r.pid > 1 and r.exit.exited_ns >= r.exit.started_ns > 0
    r = agent.exec(box, "sh", "-c", "kill -9 $$")
    assert (r.exit.code, r.exit.signal) == (137, 9)


def test_pid_is_real(agent, box):
    pb = agent.pb
    stop = threading.Event()
    def requests():
        yield pb.ExecRequest(start=pb.ExecStart(container_id=box, process=agent.spec("cat", open_stdin=True)))
        stop.wait(20)
    events = agent.stub.ExecInContainer(requests(), timeout=30)
    pid = next(events).started.pid
    wait_until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes() == b"cat\0")
    stop.set()  # half-close ends stdin: cat ends by itself
    assert [e.exit.code for e in events if e.WhichOneof("kind") == "exit"] == [0]


def test_ten_megabytes_both_ways(agent, box):
    data = random.Random(1).randbytes(10 << 20)
    r = agent.exec(box, "cat", stdin=data, timeout=120)
    assert r.exit.code == 0 and r.gaps == []
    assert r.out == data


def test_bytes_of_argv_and_env_are_exact(agent, box):
    every = bytes(range(1, 256))
    r = agent.exec(box, "printf", b"%s", every)
    assert r.out == every
    r = agent.exec(box, "sh", "-c", "printf %s \"$X\"", env=[b"X=" + every.replace(b"\n", b"")])
    assert r.out == every.replace(b"\n", b"")


# The runtime executes a copy of the agent, which becomes the program (oci/execblob.h).
@pytest.mark.skipif(not is_static(), reason="only a static agent starts in a root without libraries")
def test_bytes_of_the_first_process_are_exact(agent):
    every = bytes(range(1, 256))
    container_id, response = agent.create("printf", b"%s", every)
    assert response.status == "RUNNING", response
    agent.wait(container_id)
    assert b"".join(e.data for e in agent.logs(container_id)) == every
    agent.delete(container_id)


def test_exec_environment_user_and_folder(agent):
    pb = agent.pb
    box = agent.sleeper(env=[b"A=1", b"B=2"], cwd=b"/made/here", user=pb.User(name=b"anna"))
    r = agent.exec(box, "sh", "-c", "id -u; id -G; pwd; echo $A$B$HOME")
    assert r.out == b"1000\n1000 2000\n/made/here\n12/home/anna\n"
    r = agent.exec(box, "sh", "-c", "id; echo $A-$B-$HOME; pwd", env=[b"A=x", b"B"], cwd=b"/tmp", user=pb.User(name=b"0:crew"))
    assert r.out == b"uid=0(root) gid=2000(crew) groups=2000(crew)\nx--/root\n/tmp\n"
    # /dev/stdout can be opened by the user whose it is
    assert agent.exec(box, "sh", "-c", "echo x > /dev/stdout").out == b"x\n"
    agent.delete(box)


def test_exec_failures_say_step_and_errno(agent, box):
    pb = agent.pb
    for args, fields, number, step in (
            (["nothing"], {}, 2, "execute"), (["/etc/passwd"], {}, 13, "execute"), (["/etc"], {}, 13, "execute"),
            (["true"], {"cwd": b"/nowhere"}, 2, "change to"), (["true"], {"user": pb.User(name=b"who")}, 2, "find the user")):
        e = fails(grpc.StatusCode.FAILED_PRECONDITION, agent.exec, box, *args, **fields)
        f = failure_of(pb, e)
        assert (f.kind, f.errno_value, f.step) == (pb.Failure.SPAWN, number, step)
        assert f.message == e.details()
    Path(agent.root, "tmp/garbage").write_text("no program")
    Path(agent.root, "tmp/garbage").chmod(0o755)
    assert failure_of(pb, fails(grpc.StatusCode.FAILED_PRECONDITION, agent.exec, box, "/tmp/garbage")).errno_value == 8
    fails(grpc.StatusCode.INVALID_ARGUMENT, agent.exec, box)
    fails(grpc.StatusCode.NOT_FOUND, agent.exec, "no-such", "true")


def test_client_chosen_id_runs_once(agent, box):
    pb = agent.pb
    mark = Path(agent.root, "tmp/once")
    mark.write_text("")
    args = ("sh", "-c", "echo ran >> /tmp/once; cat")
    first = agent.exec(box, *args, stdin=b"hello", exec_id="once")
    again = agent.exec(box, *args, stdin=b"hello", exec_id="once")
    assert first.out == again.out == b"hello" and first.pid == again.pid
    assert mark.read_text() == "ran\n"
    fails(grpc.StatusCode.ALREADY_EXISTS, agent.exec, box, "true", exec_id="once")
    request = pb.CreateProcessRequest(container_id=box, exec_id="twice", process=agent.spec("true"))
    assert agent.stub.CreateProcess(request).exec_id == agent.stub.CreateProcess(request).exec_id == "twice"
    start = pb.StartProcessRequest(container_id=box, exec_id="twice")
    assert agent.stub.StartProcess(start).pid == agent.stub.StartProcess(start).pid
    assert agent.wait(box, "twice").code == 0


def test_process_as_an_object(agent, box):
    pb = agent.pb
    exec_id = agent.stub.CreateProcess(pb.CreateProcessRequest(
        container_id=box, process=agent.spec("sh", "-c", "cat; echo end; exit 5", open_stdin=True,
                                             labels={"a": "b"}))).exec_id
    def listed():
        return [p for p in agent.stub.ListProcesses(pb.ListProcessesRequest(container_id=box)).processes
                if p.exec_id == exec_id]
    assert listed()[0].state == "created" and dict(listed()[0].labels) == {"a": "b"}
    pid = agent.stub.StartProcess(pb.StartProcessRequest(container_id=box, exec_id=exec_id)).pid
    assert listed()[0].state == "running" and listed()[0].pid == pid
    def send(*messages):
        return agent.stub.SendInput(iter(messages), timeout=20).taken
    assert send(pb.SendInputRequest(container_id=box, exec_id=exec_id, data=b"12345")) == 5
    # a chunk that is sent again counts once; one beyond what was taken is refused
    assert send(pb.SendInputRequest(container_id=box, exec_id=exec_id, data=b"34567", offset=2, offset_set=True)) == 7
    fails(grpc.StatusCode.FAILED_PRECONDITION, send,
          pb.SendInputRequest(container_id=box, exec_id=exec_id, data=b"x", offset=9, offset_set=True))
    fails(grpc.StatusCode.FAILED_PRECONDITION, agent.stub.DeleteProcess,
          pb.DeleteProcessRequest(container_id=box, exec_id=exec_id))
    agent.stub.CloseInput(pb.CloseInputRequest(container_id=box, exec_id=exec_id))
    fails(grpc.StatusCode.FAILED_PRECONDITION, send, pb.SendInputRequest(container_id=box, exec_id=exec_id, data=b"x"))
    assert agent.wait(box, exec_id).code == 5
    def attach(**fields):
        return collect(pb, agent.stub.Attach(pb.AttachRequest(container_id=box, exec_id=exec_id, **fields), timeout=20))
    assert attach().out == b"1234567end\n" and attach().exit.code == 5
    assert attach(stdout_offset=7).out == b"end\n"
    assert attach(from_end=True).out == b""
    assert attach(no_follow=True).exit is None
    assert listed()[0].state == "exited" and listed()[0].stdin_taken == 7 and listed()[0].stdout_end == 11
    agent.stub.DeleteProcess(pb.DeleteProcessRequest(container_id=box, exec_id=exec_id))
    assert listed() == []
    fails(grpc.StatusCode.NOT_FOUND, agent.wait, box, exec_id)


def test_deadline_ends_the_call_not_the_process(agent, box):
    pb = agent.pb
    fails(grpc.StatusCode.DEADLINE_EXCEEDED, agent.exec, box, "sh", "-c", "sleep 1; echo late; exit 6", exec_id="late",
          timeout=0.3)
    assert agent.wait(box, "late").code == 6
    r = collect(pb, agent.stub.Attach(pb.AttachRequest(container_id=box, exec_id="late"), timeout=10))
    assert (r.out, r.exit.code) == (b"late\n", 6)


def test_kill_after_kills_the_whole_tree(agent, box):
    script = "(setsid sh -c '(sleep 3333 &) ; sleep 3333' &) ; sleep 3333"
    began = time.monotonic()
    r = agent.exec(box, "sh", "-c", script, kill_after_ns=500_000_000)
    assert (r.exit.code, r.exit.signal) == (137, 9) and 0.4 < time.monotonic() - began < 10
    wait_until(lambda: b"3333" not in agent.exec(box, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep '[s]leep'").out)


def test_background_child_does_not_hold_the_exit(agent, box):
    began = time.monotonic()
    r = agent.exec(box, "sh", "-c", "sleep 7 & echo x; exit 2")
    assert (r.out, r.exit.code) == (b"x\n", 2) and time.monotonic() - began < 5


def test_block_stops_the_process_and_loses_nothing(agent, box):
    pb = agent.pb
    exec_id = agent.stub.CreateProcess(pb.CreateProcessRequest(
        container_id=box, process=agent.spec("sh", "-c", "head -c 8000000 /dev/zero; echo end"))).exec_id
    agent.stub.StartProcess(pb.StartProcessRequest(container_id=box, exec_id=exec_id))
    def end():
        return [p for p in agent.stub.ListProcesses(pb.ListProcessesRequest(container_id=box)).processes
                if p.exec_id == exec_id][0]
    wait_until(lambda: end().stdout_end == 1 << 20)
    time.sleep(0.2)
    assert end().stdout_end == 1 << 20 and end().state == "running"
    r = collect(pb, agent.stub.Attach(pb.AttachRequest(container_id=box, exec_id=exec_id), timeout=30))
    assert len(r.out) == 8000004 and r.out.endswith(b"end\n") and r.gaps == [] and r.exit.code == 0


def test_drop_never_stops_and_says_the_gap(agent, box):
    pb = agent.pb
    exec_id = agent.stub.CreateProcess(pb.CreateProcessRequest(container_id=box, process=agent.spec(
        "sh", "-c", "head -c 8000000 /dev/zero; echo end", output_policy=pb.OUTPUT_POLICY_DROP))).exec_id
    agent.stub.StartProcess(pb.StartProcessRequest(container_id=box, exec_id=exec_id))
    assert agent.wait(box, exec_id).code == 0
    r = collect(pb, agent.stub.Attach(pb.AttachRequest(container_id=box, exec_id=exec_id), timeout=30))
    assert r.gaps == [(pb.STREAM_STDOUT, 0, 8000004 - (1 << 20))] and len(r.out) == 1 << 20


@pytest.mark.skipif(not is_static(), reason="only the static agent's memory is its own")
def test_slow_reader_does_not_grow_the_agent(agent, box):
    pb = agent.pb
    before = agent.rss_kib()
    events = agent.stub.ExecInContainer(iter([pb.ExecRequest(start=pb.ExecStart(
        container_id=box, process=agent.spec("head", "-c", "60000000", "/dev/zero")))]), timeout=60)
    next(events)
    time.sleep(1)
    assert agent.rss_kib() < before + 8 * 1024
    assert len(collect(pb, events).out) == 60000000


def test_many_readers(agent, box):
    pb = agent.pb
    container_id, _ = agent.create("sh", "-c", "read x; seq 20000", open_stdin=True,
                                   output_policy=pb.OUTPUT_POLICY_BLOCK)
    results = []
    def read():
        results.append(collect(pb, agent.stub.Attach(pb.AttachRequest(container_id=container_id), timeout=30)))
    threads = [threading.Thread(target=read) for _ in range(5)]
    [t.start() for t in threads]
    agent.stub.SendInput(iter([pb.SendInputRequest(container_id=container_id, data=b"go\n")]))
    [t.join() for t in threads]
    want = b"".join(b"%d\n" % i for i in range(1, 20001))
    assert [r.out for r in results] == [want] * 5
    agent.delete(container_id)


def test_reader_limit(agent, box):
    """LIMIT_ATTACH_READERS"""
    pb = agent.pb
    calls = [agent.stub.Attach(pb.AttachRequest(container_id=box)) for _ in range(16)]
    wait_until(lambda: fails(grpc.StatusCode.RESOURCE_EXHAUSTED, agent.stub.Attach,
                             pb.AttachRequest(container_id=box), timeout=2))
    [c.cancel() for c in calls]


# Terminals

def test_terminal(agent, box):
    pb = agent.pb
    def requests():
        yield pb.ExecRequest(start=pb.ExecStart(container_id=box, process=agent.spec(
            "sh", "-c", "tty; stty size; trap 'stty size; exit 9' WINCH; while :; do sleep 0.1; done", tty=True,
            window=pb.WindowSize(rows=11, columns=22))))
        time.sleep(0.7)
        yield pb.ExecRequest(resize=pb.WindowSize(rows=33, columns=44))
        time.sleep(2)
    r = collect(pb, agent.stub.ExecInContainer(requests(), timeout=30))
    assert r.out.startswith(b"/dev/pts/") and b"\r\n11 22\r\n33 44\r\n" in r.out and r.exit.code == 9


def test_terminal_of_the_first_process(agent):
    pb = agent.pb
    container_id, response = agent.create("sh", "-c", "stty size; read x; echo got $x; exit 8", tty=True, open_stdin=True,
                                          window=pb.WindowSize(rows=7, columns=77))
    assert response.status == "RUNNING", response
    # A terminal echoes at once, also before what still runs has written.
    wait_until(lambda: b"7 77\r\n" in b"".join(e.data for e in agent.logs(container_id)))
    agent.stub.SendInput(iter([pb.SendInputRequest(container_id=container_id, data=b"word\n")]))
    assert agent.wait(container_id).code == 8
    assert b"7 77\r\nword\r\ngot word\r\n" in b"".join(e.data for e in agent.logs(container_id))
    agent.delete(container_id)


def test_half_close_on_a_terminal_ends_input(agent, box):
    r = agent.exec(box, "sh", "-c", "cat; exit 3", stdin=b"line\n", tty=True)
    assert r.exit.code == 3 and r.out.count(b"line") == 2


def test_signals(agent, box):
    pb = agent.pb
    exec_id = agent.stub.CreateProcess(pb.CreateProcessRequest(container_id=box, process=agent.spec(
        "sh", "-c", "trap 'exit 21' USR1; echo ready; while :; do sleep 0.05; done"))).exec_id
    agent.stub.StartProcess(pb.StartProcessRequest(container_id=box, exec_id=exec_id))
    wait_until(lambda: collect(pb, agent.stub.Attach(pb.AttachRequest(
        container_id=box, exec_id=exec_id, no_follow=True))).out == b"ready\n")
    agent.stub.Signal(pb.SignalRequest(container_id=box, exec_id=exec_id, signal=signal.SIGUSR1))
    assert agent.wait(box, exec_id).code == 21
    fails(grpc.StatusCode.FAILED_PRECONDITION, agent.stub.Signal,
          pb.SignalRequest(container_id=box, exec_id=exec_id, signal=9))
    fails(grpc.StatusCode.INVALID_ARGUMENT, agent.stub.Signal, pb.SignalRequest(container_id=box, signal=99))


# Containers

def test_create_only_and_start(agent):
    pb = agent.pb
    container_id, r = agent.create("sh", "-c", "echo started; exit 2", create_only=True)
    assert r.status == "CREATED" and r.pid > 1
    listed = [c for c in agent.stub.ListContainers(pb.ListContainersRequest()).containers
              if c.container_id == container_id][0]
    assert listed.state == "created" and listed.pid == r.pid
    fails(grpc.StatusCode.FAILED_PRECONDITION, agent.exec, container_id, "true")
    assert agent.stub.StartContainer(pb.StartContainerRequest(container_id=container_id)).pid == r.pid
    assert agent.wait(container_id).code == 2
    fails(grpc.StatusCode.FAILED_PRECONDITION, agent.stub.StartContainer, pb.StartContainerRequest(container_id=container_id))
    agent.delete(container_id)


def stop(agent, container_id, **fields):
    events = list(agent.stub.StopContainer(agent.pb.StopContainerRequest(container_id=container_id, **fields), timeout=30))
    return [e.stage for e in events], events[-1].exit


def test_stop(agent):
    ready = "echo ready; while :; do sleep 0.05; done"
    def start(script, **fields):
        container_id, _ = agent.create("sh", "-c", script, **fields)
        wait_until(lambda: agent.logs(container_id))
        return container_id
    container_id = start("trap 'exit 5' TERM; " + ready)
    stages, how = stop(agent, container_id, grace_ns=10_000_000_000)
    assert stages == ["signalled", "stopped"] and how.code == 5
    assert stop(agent, container_id)[0] == ["stopped"]
    agent.delete(container_id)
    container_id = start("trap '' TERM; " + ready)
    stages, how = stop(agent, container_id, grace_ns=300_000_000)
    assert stages == ["signalled", "killed", "stopped"] and (how.code, how.signal) == (137, 9)
    agent.delete(container_id)
    container_id = start("trap 'exit 6' USR2; " + ready, stop_signal="SIGUSR2")
    assert stop(agent, container_id, grace_ns=10_000_000_000)[1].code == 6
    agent.delete(container_id)
    container_id = start(ready)
    assert stop(agent, container_id, grace_ns=0)[0] == ["killed", "stopped"]
    agent.delete(container_id)


def test_delete(agent):
    pb = agent.pb
    box = agent.sleeper()
    call = agent.stub.Wait.future(pb.WaitRequest(container_id=box))
    time.sleep(0.1)
    fails(grpc.StatusCode.FAILED_PRECONDITION, agent.stub.DeleteContainer, pb.DeleteContainerRequest(container_id=box))
    agent.delete(box)
    assert call.result(timeout=5).exit.code == 137
    fails(grpc.StatusCode.NOT_FOUND, agent.delete, box)
    assert not (agent.folder / "state/containers" / box).exists()


def test_stats_and_info(agent, box):
    pb = agent.pb
    s = agent.stub.Stats(pb.StatsRequest(container_id=box))
    assert s.pids >= 1 and s.agent_rss_bytes > 0 and s.time_ns > 0
    whole = agent.stub.Stats(pb.StatsRequest())
    assert whole.memory_limit_bytes > whole.memory_bytes > 0 and whole.cpu_usage_ns > 0
    info = agent.stub.Info(pb.InfoRequest())
    assert info.kernel == os.uname().release and info.runtime == "runc" and not info.pid1
    assert info.hostname == socket.gethostname() and abs(info.realtime_ns / 1e9 - time.time()) < 5
    fails(grpc.StatusCode.FAILED_PRECONDITION, agent.stub.ConfigureNetwork, pb.ConfigureNetworkRequest(hostname="x"))
    fails(grpc.StatusCode.INVALID_ARGUMENT, agent.stub.ListenVsock, pb.ListenVsockRequest(port=1, key=b"short"))


def test_names_in_the_container(agent):
    box = agent.sleeper(hostname="given", dns_servers=["192.0.2.1"], dns_search=["example.org"],
                        extra_hosts=["other:192.0.2.7"])
    r = agent.exec(box, "sh", "-c", "hostname; cat /etc/hostname /etc/resolv.conf; grep -E 'other|given' /etc/hosts")
    assert r.out.startswith(b"given\ngiven\n") and b"nameserver 192.0.2.1\n" in r.out and b"example.org" in r.out
    assert b"192.0.2.7\tother\n" in r.out and re.search(rb"^[0-9.]+\tgiven$", r.out, re.M)
    agent.delete(box)


@pytest.mark.skipif(not is_static(), reason="only a static agent starts in a root without libraries")
def test_init_reaps(agent):
    script = "(sleep 0.2 &); cat /proc/1/cmdline; echo; sleep 0.5; cat /proc/[0-9]*/status | grep -c zombie; exit 9"
    container_id, r = agent.create("sh", "-c", script, init=True)
    assert r.status == "RUNNING", r
    assert agent.wait(container_id).code == 9
    said = b"".join(e.data for e in agent.logs(container_id))
    assert b"/dev/.micropod-init\0reap" in said and said.endswith(b"\n0\n")
    agent.delete(container_id)
    container_id, r = agent.create("sh", "-c", "trap 'exit 8' TERM; echo ready; while :; do sleep 0.05; done", init=True)
    wait_until(lambda: agent.logs(container_id))
    assert stop(agent, container_id, grace_ns=10_000_000_000)[1].code == 8
    agent.delete(container_id)


def test_full_spec(agent):
    import json
    spec = {"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "hostname": "whole",
            "process": {"args": ["sh", "-c", "hostname; id -u; sleep 1000"], "cwd": "/tmp", "env": ["PATH=/bin", "A=b"],
                        "user": {"uid": 1000, "gid": 1000}, "noNewPrivileges": True,
                        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": t} for t in ("pid", "mount", "uts", "ipc")]}}
    pb = agent.pb
    r = agent.stub.CreateContainer(pb.CreateContainerRequest(container_id="whole", oci_spec=json.dumps(spec).encode(),
                                                             rootfs_path=str(agent.root)), timeout=60)
    assert r.status == "RUNNING", r
    wait_until(lambda: b"".join(e.data for e in agent.logs("whole")) == b"whole\n1000\n")
    out = agent.exec("whole", "sh", "-c", "id -u; pwd; echo $A; ulimit -n; grep NoNewPrivs /proc/self/status").out
    assert out == b"1000\n/tmp\nb\n100\nNoNewPrivs:\t1\n"
    agent.delete("whole")
    fails(grpc.StatusCode.INVALID_ARGUMENT, agent.stub.CreateContainer,
          pb.CreateContainerRequest(container_id="broken", oci_spec=b"{", rootfs_path=str(agent.root)))
