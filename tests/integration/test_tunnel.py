# SPDX-License-Identifier: Apache-2.0
"""`micropod-agent start` that dials a server: the agent in a pid namespace of its own, the server a small program of the tests'
(tools/tunnel-server.c), and grpcio as the client that talks to the agent through both."""
import contextlib
import hashlib
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from agent_fixture import AGENT, BUILD, LONG, collect, generate, wait_until

SPACE = ["unshare", "-pf", "--mount-proc", "--kill-child"]
SERVER = BUILD / "tests/tools/tunnel-server"
TOKEN = "4f9a" * 16

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="pid namespaces of unshare need root")


@pytest.fixture(scope="module")
def api():
    with tempfile.TemporaryDirectory() as folder:
        yield generate(Path(folder))


class Server:
    def __init__(self, folder, tunnel=None, parked=2):
        self.tunnel, self.local, self.parked = tunnel or f"unix:{folder}/tunnel", f"unix:{folder}/local", parked
        self.state = Path(folder) / "state"
        self.lines, self.process = [], None
        self.start()

    def start(self):
        self.process = subprocess.Popen([SERVER, self.tunnel, self.local, TOKEN, str(self.parked), self.state],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "listening\n"
        threading.Thread(target=self.read, args=(self.process.stdout,), daemon=True).start()

    def read(self, stdout):
        for line in stdout:
            self.lines.append(line.strip())

    def count(self, word):
        return sum(line.split()[0] == word for line in self.lines)

    def wait(self, word, count=1):
        wait_until(lambda: self.count(word) >= count, 40)

    def rearm(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Setup:
    """A server, an agent that dials it, and a client."""

    def __init__(self, folder, api, *words, url=None, tunnel=None, parked=2, env=None, **kwargs):
        self.pb, stubs = api
        self.server = Server(folder, tunnel, parked)
        self.env = {**os.environ, "AGENT_SERVER_URL": url or self.server.tunnel, "AGENT_TOKEN": TOKEN, **(env or {})}
        self.agent = subprocess.Popen([*SPACE, AGENT, "start", "--", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, env=self.env, **kwargs)
        self.channel = grpc.insecure_channel(self.server.local, options=[("grpc.max_receive_message_length", 64 << 20)])
        self.stub = stubs.AgentStub(self.channel)

    def inner(self):
        """The agent's pid, seen from here."""
        (pid,) = Path(f"/proc/{self.agent.pid}/task/{self.agent.pid}/children").read_text().split()
        return int(pid)

    def exec(self, *words, timeout=60, **fields):
        spec = self.pb.ProcessSpec(args=[word.encode() for word in words], **fields)
        first = self.pb.ExecRequest(start=self.pb.ExecStart(container_id="main", process=spec))
        return collect(self.pb, self.stub.ExecInContainer(iter([first]), timeout=timeout))

    def close(self):
        self.channel.close()
        for process in (self.agent, self.server.process):
            process.kill()
            process.wait()


@pytest.fixture
def setup(tmp_path, api):
    made = []

    def make(*words, **kwargs):
        made.append(Setup(tmp_path, api, *(words or ("sleep", "100000")), **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_exec_through_the_tunnel(setup):
    s = setup()
    s.server.wait("begun")
    done = s.exec("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (bytes(done.out), bytes(done.err), done.exit.code) == (b"out\n", b"err\n", 7)
    info = s.stub.Info(s.pb.InfoRequest(), timeout=20)
    assert info.runtime == "self"
    done = s.exec("head", "-c", str(8 << 20), "/dev/zero")
    assert len(done.out) == 8 << 20
    assert s.server.lines == ["begun"]


def test_a_time_limit_kills_everything(setup):
    """Where there is no cgroup: new sessions, double forks, whoever starts others meanwhile. What was there before stays."""
    s = setup("sh", "-c", "sleep 5551 & sleep 5552")
    s.server.wait("begun")
    limit = {"kill_after_ns": 700_000_000}

    def running():
        out = set()
        for pid in descendants(s.agent.pid):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                out |= {words[1]} if words[0] == b"sleep" else set()
        return out

    script = "(setsid sleep 5553 &) ; setsid sh -c '(sleep 5554 &) ; sleep 5555' & while true; do (sleep 5556 &) ; sleep 0.05; done"
    done = s.exec("sh", "-c", script, **limit)
    assert done.exit.signal == 9 and done.exit.timed_out, done.exit
    wait_until(lambda: running() == {b"5551", b"5552"}, 10)
    # In front of it nothing else is different: status, signals, output, terminal, what cannot be executed, what is left running.
    for script, code, signal_ in (("exit 7", 7, 0), ("kill -TERM $$", 143, 15), ("kill -KILL $$", 137, 9)):
        done = s.exec("sh", "-c", script, kill_after_ns=60_000_000_000)
        assert (done.exit.code, done.exit.signal, done.exit.timed_out) == (code, signal_, False), done.exit
    done = s.exec("sh", "-c", "echo out; echo err >&2; sleep 5557 >/dev/null 2>&1 &", kill_after_ns=60_000_000_000)
    assert (bytes(done.out), bytes(done.err), done.exit.code) == (b"out\n", b"err\n", 0) and b"5557" in running()
    done = s.exec("sh", "-c", "tty >/dev/null && echo yes", kill_after_ns=60_000_000_000, tty=True)
    assert bytes(done.out).strip() == b"yes" and done.exit.code == 0
    with pytest.raises(grpc.RpcError) as e:
        s.exec("/nothing", kill_after_ns=60_000_000_000)
    assert "cannot execute /nothing" in e.value.details()
    spec = s.pb.ProcessSpec(args=[b"sh", b"-c", b"trap 'echo told; exit 3' USR1; echo ready; while true; do sleep 0.05; done"], kill_after_ns=60_000_000_000)
    requests = queue.SimpleQueue()
    requests.put(s.pb.ExecRequest(start=s.pb.ExecStart(container_id="main", exec_id="told", process=spec)))
    call = s.stub.ExecInContainer(iter(requests.get, None), timeout=60)
    seen = b""
    for event in call:
        seen += event.output.data
        if event.output.data == b"ready\n":
            s.stub.Signal(s.pb.SignalRequest(container_id="main", exec_id="told", signal=signal.SIGUSR1), timeout=20)
        if event.HasField("exit"):
            assert event.exit.code == 3
            requests.put(None)
    assert seen == b"ready\ntold\n"


def descendants(pid):
    """Of a process, as long as they live."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return children + [other for child in children for other in descendants(child)]


def test_exit_and_output_of_a_quick_workload_are_not_lost(setup):
    """It has ended long before anybody asks, and the agent waits for a Shutdown."""
    s = setup("sh", "-c", "echo quick; exit 5")
    s.server.wait("begun")
    time.sleep(1)
    events = collect(s.pb, s.stub.Attach(s.pb.AttachRequest(container_id="main"), timeout=20))
    assert (bytes(events.out), events.exit.code) == (b"quick\n", 5)
    assert s.agent.poll() is None
    s.stub.Shutdown(s.pb.ShutdownRequest(), timeout=20)
    out, err = s.agent.communicate(timeout=20)
    assert (s.agent.returncode, out, err) == (5, b"quick\n", b"")
    s.server.wait("ended")
    assert s.server.lines == ["begun", "ended the agent has left"]


def test_shutdown_stops_the_workload(setup):
    s = setup("sh", "-c", "trap 'echo asked; exit 4' TERM; while :; do sleep 0.05; done")
    s.server.wait("begun")
    s.stub.Shutdown(s.pb.ShutdownRequest(grace_ns=20_000_000_000), timeout=20)
    assert s.agent.communicate(timeout=20) == (b"asked\n", b"") and s.agent.returncode == 4
    s.close()
    s.server.state.unlink()
    s = setup("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    s.server.wait("begun")
    s.stub.Shutdown(s.pb.ShutdownRequest(grace_ns=300_000_000), timeout=20)
    assert s.agent.wait(timeout=20) == 137


def test_without_a_server_it_ends_soon(tmp_path):
    began = time.monotonic()
    done = subprocess.run([*SPACE, AGENT, "start", "--", "sh", "-c", "echo here; exit 9"], capture_output=True, timeout=60,
                          env={**os.environ, "AGENT_SERVER_URL": f"unix://{tmp_path}/nosuch", "AGENT_TOKEN": TOKEN})
    assert (done.returncode, done.stdout, done.stderr) == (9, b"here\n", b"")
    assert 1.5 < time.monotonic() - began < 3.5


def test_secrets_are_nowhere(setup):
    s = setup("sh", "-c", "env; cat /proc/self/environ; sleep 100000", env={"AGENT_INSECURE_PLAINTEXT": "1", "OTHER": "kept"})
    s.server.wait("begun")
    environ = Path(f"/proc/{s.inner()}/environ").read_bytes()
    inside = bytes(s.exec("sh", "-c", "env; cat /proc/self/environ; cat /proc/1/environ; cat /proc/1/cmdline").out)
    workload = b""
    while b"OTHER=kept" not in workload:
        workload += os.read(s.agent.stdout.fileno(), 65536)
    for text in (environ, inside, workload):
        assert TOKEN.encode() not in text and b"AGENT_" not in text and b"OTHER=kept" in text


@pytest.mark.parametrize("env,message", [
    ({"AGENT_SERVER_URL": "http://192.0.2.1:80"}, "would go to 'http://192.0.2.1:80' in plain"),
    ({"AGENT_SERVER_URL": "http://192.0.2.1:80", "AGENT_INSECURE_PLAINTEXT": "yes"}, "in plain"),
    ({"AGENT_SERVER_URL": "https://127.0.0.1"}, "needs TLS"),
    ({"AGENT_SERVER_URL": "nonsense"}, "AGENT_SERVER_URL: 'nonsense' is no server"),
    ({"AGENT_TOKEN": ""}, "AGENT_TOKEN is missing"),
    ({"AGENT_TOKEN": "x" * 65}, "AGENT_TOKEN is too long"),
])
def test_what_does_not_fit_together(env, message):
    done = subprocess.run([*SPACE, AGENT, "start", "--", "echo", "ran"], capture_output=True, timeout=60,
                          env={**os.environ, "AGENT_SERVER_URL": "unix:///nosuch", "AGENT_TOKEN": TOKEN, **env})
    assert done.returncode == 125 and message in done.stderr.decode() and done.stdout == b"", done
    assert len(done.stderr.splitlines()) == 1 and TOKEN.encode() not in done.stderr


def test_over_tcp(setup):
    s = setup(tunnel="tcp:127.0.0.1:18731", url="http://localhost:18731")
    s.server.wait("begun")
    assert s.exec("echo", "hello").out == b"hello\n"


def test_a_server_that_is_killed(setup):
    """The workload and an exec live on; what is called meanwhile ends UNAVAILABLE; output goes on by its offset."""
    s = setup("sh", "-c", "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.1; done; exit 3")
    s.server.wait("begun")
    spec = s.pb.ProcessSpec(args=[b"sh", b"-c", b"sleep 6; echo late; exit 9"])
    s.stub.CreateProcess(s.pb.CreateProcessRequest(container_id="main", exec_id="late", process=spec), timeout=20)
    s.stub.StartProcess(s.pb.StartProcessRequest(container_id="main", exec_id="late"), timeout=20)
    got, outages, how = b"", 0, None
    while how is None:
        try:
            for event in s.stub.Attach(s.pb.AttachRequest(container_id="main", stdout_offset=len(got)), timeout=60):
                if event.HasField("exit"):
                    how = event.exit
                assert event.HasField("exit") or event.output.offset == len(got)
                got += event.output.data
                if outages < 2 and got.count(b"\n") >= (10, 30)[outages] and s.server.process.poll() is None:
                    s.server.kill()
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            if s.server.process.poll() is not None:
                outages += 1
                time.sleep(1)
                s.server.start()
            time.sleep(0.1)
    assert (outages, how.code) == (2, 3)
    assert got.decode() == "".join(f"line {i}\n" for i in range(60))
    late = collect(s.pb, s.stub.Attach(s.pb.AttachRequest(container_id="main", exec_id="late"), timeout=20))
    assert (late.out, late.exit.code) == (b"late\n", 9)


LINES = 7000000  # of seq: 54 MB


def read_through_outages(s, exec_id, acknowledge):
    """All output of an exec that writes seq, read over three servers that are killed while bytes are on their way. What came,
    under the offsets that it came with: (offset, data), and the gaps that were told."""
    pieces, gaps, at, acked, outages, how = [], [], 0, 0, 0, None
    while how is None:
        try:
            request = s.pb.AttachRequest(container_id="main", exec_id=exec_id, stdout_offset=at, acknowledged=acknowledge)
            for event in s.stub.Attach(request, timeout=120):
                if event.HasField("exit"):
                    how = event.exit
                    break
                if event.output.HasField("gap"):
                    gaps.append((getattr(event.output.gap, "from"), event.output.gap.to))
                pieces.append((event.output.offset, event.output.data))
                at = event.output.offset + len(event.output.data)
                if acknowledge and at - acked > 200000:
                    s.stub.Acknowledge(s.pb.AcknowledgeRequest(container_id="main", exec_id=exec_id, stdout_offset=at), timeout=60)
                    acked = at
                if outages < 3 and at > (10 << 20) * (outages + 1) and s.server.process.poll() is None:
                    s.server.kill()
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
            if s.server.process.poll() is not None:
                outages += 1
                time.sleep(0.5)
                s.server.start()
            time.sleep(0.1)
    assert (outages, how.code) == (3, 0)
    return pieces, gaps


def want_seq():
    return subprocess.run(["seq", str(LINES)], capture_output=True, check=True).stdout


def start_seq(s, exec_id, policy):
    spec = s.pb.ProcessSpec(args=[b"seq", str(LINES).encode()], output_policy=policy)
    s.stub.CreateProcess(s.pb.CreateProcessRequest(container_id="main", exec_id=exec_id, process=spec), timeout=20)
    s.stub.StartProcess(s.pb.StartProcessRequest(container_id="main", exec_id=exec_id), timeout=20)


def test_nothing_is_lost_or_doubled_with_block(setup):
    s = setup()
    s.server.wait("begun")
    start_seq(s, "seq", s.pb.OUTPUT_POLICY_BLOCK)
    pieces, gaps = read_through_outages(s, "seq", True)
    assert gaps == [] and b"".join(data for _, data in pieces) == want_seq()
    # What is held is given up with the last word.
    s.stub.Acknowledge(s.pb.AcknowledgeRequest(container_id="main", exec_id="seq", release=True), timeout=20)
    with pytest.raises(grpc.RpcError) as e:
        s.stub.Acknowledge(s.pb.AcknowledgeRequest(container_id="main", exec_id="seq", stdout_offset=1 << 40), timeout=20)
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_gaps_are_exact_with_drop(setup):
    s = setup()
    s.server.wait("begun")
    start_seq(s, "seq", s.pb.OUTPUT_POLICY_DROP)
    pieces, gaps = read_through_outages(s, "seq", False)
    want, at = want_seq(), 0
    gaps = dict(gaps)
    for offset, data in pieces:
        if offset != at:
            assert gaps.pop(at) == offset
        assert data == want[offset:offset + len(data)]
        at = offset + len(data)
    assert at == len(want) and gaps == {}


def test_who_does_not_acknowledge_is_waited_for(setup):
    """A process whose reader is gone for good stands still at a full ring, and goes on when it is let go."""
    s = setup()
    s.server.wait("begun")
    start_seq(s, "seq", s.pb.OUTPUT_POLICY_BLOCK)
    call = s.stub.Attach(s.pb.AttachRequest(container_id="main", exec_id="seq", acknowledged=True), timeout=60)
    got = sum(len(event.output.data) for event, _ in zip(call, range(5)))
    assert got
    call.cancel()

    def end():
        (process,) = [p for p in s.stub.ListProcesses(s.pb.ListProcessesRequest(container_id="main"), timeout=20).processes if p.exec_id == "seq"]
        return process.stdout_begin, process.stdout_end
    wait_until(lambda: end() == (0, 1 << 20), 20)
    whole = collect(s.pb, s.stub.Attach(s.pb.AttachRequest(container_id="main", exec_id="seq", no_follow=True), timeout=20))
    assert want_seq()[:1 << 20] == whole.out
    s.stub.Acknowledge(s.pb.AcknowledgeRequest(container_id="main", exec_id="seq", release=True), timeout=20)
    out = collect(s.pb, s.stub.Attach(s.pb.AttachRequest(container_id="main", exec_id="seq"), timeout=60))
    assert out.exit.code == 0 and out.out == want_seq()


def test_a_server_that_has_forgotten(setup):
    """Neither token nor credential is good there: nothing is let in, the workload goes on, and the agent asks again."""
    s = setup()
    s.server.wait("begun")
    s.server.kill()
    s.server.state.unlink()
    s.server.start()
    time.sleep(1)
    assert s.server.count("begun") == 1 and s.agent.poll() is None
    with pytest.raises(grpc.RpcError):
        s.stub.Info(s.pb.InfoRequest(), timeout=1)


def test_a_used_token_is_refused(setup, tmp_path):
    s = setup()
    s.server.wait("begun")
    thief = subprocess.Popen([*SPACE, AGENT, "start", "sleep", "100000"], env=s.env, stdin=subprocess.DEVNULL)
    try:
        time.sleep(1)
        assert s.server.lines == ["begun"]
        assert s.exec("true").exit.code == 0
        # Who made it may make it good once more.
        s.server.rearm()
        s.server.wait("begun", 2)
        assert s.server.lines == ["begun", "ended the agent has come back", "begun"]
    finally:
        thief.kill()
        thief.wait()


def test_an_agent_that_was_paused(setup):
    s = setup()
    s.server.wait("begun")
    pid = s.inner()
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        # Longer than a heartbeat's deadline: the server gives the session up.
        wait_until(lambda: s.server.count("ended") == 1, 60)
        if LONG:
            time.sleep(max(0, 60 - (time.monotonic() - began)))
    finally:
        os.kill(pid, signal.SIGCONT)
    s.server.wait("begun", 2)
    wait_until(lambda: s.exec("echo", "back").out == b"back\n", 20)


def test_many_calls_at_once(setup):
    s = setup(parked=4)
    s.server.wait("begun")
    s.exec("true")

    def one(i):
        return s.exec("sh", "-c", f"echo {i}; exit {i % 100}")

    with ThreadPoolExecutor(50) as pool:
        for i, done in enumerate(pool.map(one, range(200))):
            assert (done.out, done.exit.code) == (f"{i}\n".encode(), i % 100)
    # A thousand streams that are open together.
    calls = [s.stub.Wait.future(s.pb.WaitRequest(container_id="main"), timeout=60) for _ in range(1000)]
    s.exec("true")
    assert not any(call.done() for call in calls)
    s.stub.Signal(s.pb.SignalRequest(container_id="main", signal=9), timeout=20)
    assert {call.result().exit.code for call in calls} == {137}


def test_a_slow_reader_slows_nobody(setup):
    s = setup()
    s.server.wait("begun")
    spec = s.pb.ProcessSpec(args=[b"sh", b"-c", b"cat /dev/zero"])
    slow = s.stub.ExecInContainer(iter([s.pb.ExecRequest(start=s.pb.ExecStart(container_id="main", process=spec))]), timeout=60)
    next(slow)
    time.sleep(0.5)
    data = hashlib.sha256(b"\0" * (4 << 20)).hexdigest()
    for _ in range(3):
        done = s.exec("head", "-c", str(4 << 20), "/dev/zero", timeout=20)
        assert hashlib.sha256(done.out).hexdigest() == data
    slow.cancel()
