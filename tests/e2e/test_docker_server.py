# SPDX-License-Identifier: Apache-2.0
"""Containers whose agent dials a server that was named, with the shim beside it or without; and containers without an agent."""
import os
import signal
import subprocess
import time

import pytest

from conftest import BUILD
from servers import PROGRAM, Server, free_port
from test_docker import kill_shim
from test_run import until

COUNT = "i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done"


@pytest.fixture(scope="module")
def micropod_root(docker_root):
    return docker_root


@pytest.fixture
def address(engine):
    """Of the same engine over TCP: as far away as any other."""
    port = free_port()
    relay = subprocess.Popen(["socat", f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr", f"UNIX-CONNECT:{engine.folder}/docker.sock"])
    yield f"tcp://127.0.0.1:{port}"
    relay.terminate()
    relay.wait()


class Named:
    """A server in the engine's network, and the command line over it."""

    def __init__(self, folder, engine):
        self.enter = ["nsenter", f"--net=/run/netns/{engine.network}"]
        self.server = Server(folder, prefix=self.enter, url="http://localhost:8080", address="127.0.0.1:8080")
        self.file = folder / "agent.token"
        self.file.write_text(self.server.token("--agent", "boxed") + "\n")
        user = self.server.token("--user", "tests")
        self.env = {**self.server.env, "MICROPOD_SERVER": self.server.url, "MICROPOD_TOKEN": user}
        self.options = ["--network", "host", "--agent-server", self.server.url, "--agent-token-file", self.file]

    def __call__(self, *words, **kwargs):
        return subprocess.run([*self.enter, PROGRAM, *words], env=self.env, capture_output=True, timeout=60, **kwargs)


@pytest.fixture
def named(tmp_path, engine):
    named = Named(tmp_path, engine)
    yield named
    named.server.kill()


def test_a_server_besides_the_shim(micropod, named):
    """Both reach it, and neither ends with the other."""
    script = "trap 'exit 7' TERM; " + COUNT
    micropod.ok("run", "-d", "--name", "box", *named.options, micropod.busybox, "sh", "-c", script)
    assert micropod.ok("exec", "box", "echo", "from here") == "from here\n"
    until(lambda: b"boxed" in named("ps").stdout)
    assert named("exec", "boxed", "echo", "over the server").stdout == b"over the server\n"
    data = os.urandom(3 << 20)
    assert named("exec", "-i", "boxed", "cat", input=data).stdout == data
    assert micropod.inspect("box")["Micropod"]["AgentServer"] == named.server.url
    assert micropod("exec", "box", "sh", "-c", "cat /proc/1/environ; env").stdout.count(b"AGENT_") == 0
    named.server.kill()
    assert micropod.ok("exec", "box", "echo", "without it") == "without it\n"
    named.server.start()
    until(lambda: named("exec", "boxed", "echo", "again").stdout == b"again\n", 40)
    kill_shim(micropod, "box")
    assert named("exec", "boxed", "echo", "no shim").stdout == b"no shim\n"
    assert micropod.ok("exec", "box", "echo", "a new one") == "a new one\n"
    micropod.ok("stop", "box")
    assert micropod.ok("wait", "box") == "7\n"
    lines = micropod.ok("logs", "box").split()
    assert lines == [str(i) for i in range(len(lines))] and lines
    until(lambda: b"boxed" not in named("ps").stdout, 60)


def test_a_remote_engine_with_a_server(micropod, named, address, engine):
    env = {"CODEPOD_DOCKER_HOST": address}
    assert "has to be named with --agent-server" in micropod.error(micropod("run", "-d", micropod.busybox, "true", env=env))
    assert "give -d" in micropod.error(micropod("run", *named.options, micropod.busybox, "true", env=env))
    micropod.ok("run", "-d", "--name", "far", *named.options, micropod.busybox, "sh", "-c", COUNT, env=env)
    until(lambda: named("exec", "boxed", "echo", "over the server").stdout == b"over the server\n")
    assert "its agent dials another server" in micropod.error(micropod("exec", "far", "true"))
    until(lambda: len(micropod.ok("logs", "far").split()) > 3)
    micropod.ok("rm", "-f", "far")
    # By a token for that it is there again after a start by the engine alone.
    named.file.write_text(named.server.token("--agent", "lasting", "--reusable") + "\n")
    micropod.ok("run", "-d", "--name", "far", *named.options, micropod.busybox, "sh", "-c", COUNT, env=env)
    for _ in range(2):
        until(lambda: named("exec", "lasting", "echo", "there").stdout == b"there\n", 40)
        engine("restart", "-t", "0", "far")
    until(lambda: named("exec", "lasting", "echo", "there").stdout == b"there\n", 40)
    micropod.ok("rm", "-f", "far")


def test_a_token_that_is_not_there(micropod, named, tmp_path):
    named.file.unlink()
    assert "cannot find the agent's token" in micropod.error(micropod("run", "-d", *named.options, micropod.busybox, "true"))
    error = micropod.error(micropod("run", "-d", "--agent-server", "http://localhost:1", micropod.busybox, "true"))
    assert "need each other" in error
    assert "no agent to be told of" in micropod.error(micropod("run", "-d", "--no-agent", "--agent-path", "/x", micropod.busybox, "true"))
    empty = tmp_path / "empty"
    empty.write_text("")
    error = micropod.error(micropod("run", "-d", "--agent-server", "http://localhost:1", "--agent-token-file", empty, micropod.busybox, "true"))
    assert "AGENT_TOKEN is missing" in error, error


@pytest.mark.skipif(not (BUILD / "agents/micropod-agent-tls").exists(), reason="the agent with TLS was not built (make agents)")
def test_https_takes_the_agent_that_speaks_it(micropod, engine, tmp_path):
    token = tmp_path / "token"
    token.write_text("0" * 64)
    options = ["--agent-server", "https://nowhere.example", "--agent-token-file", token]
    error = micropod.error(micropod("run", "-d", *options, micropod.busybox, "true"))
    assert "needs AGENT_SERVER_PIN or AGENT_SERVER_CA" in error, error
    micropod.ok("run", "-d", "--name", "box", *options, "-e", "AGENT_SERVER_PIN=" + "0" * 64, micropod.busybox, "sleep", "1000")
    assert micropod.ok("exec", "box", "sh", "-c", "test $(stat -c %s /.micropod/agent) -gt 2000000 && echo large") == "large\n"
    assert "AGENT" not in micropod.ok("exec", "box", "env")


# Without an agent


def test_without_an_agent(micropod, engine):
    error = micropod.error(micropod("run", "--no-agent", "x", env={"MICROPOD_DRIVER": "vm"}))
    assert error == "option '--no-agent' needs '--driver docker'"
    assert "give -d" in micropod.error(micropod("run", "--no-agent", micropod.busybox, "true"))
    script = "echo out; echo err >&2; trap 'echo trapped; exit 5' TERM; trap 'echo usr' USR1; while true; do sleep 0.05; done"
    box = micropod.ok("run", "-d", "--no-agent", "--name", "bare", micropod.busybox, "sh", "-c", script).strip()
    assert micropod.inspect("bare")["Micropod"]["NoAgent"] is True
    assert "agent" not in engine.ok("inspect", "bare", "--format", "{{.Config.Entrypoint}} {{.HostConfig.Binds}}")
    until(lambda: micropod.ok("logs", "bare") == "out\nerr\n" or "err" in micropod("logs", "bare").stderr.decode())
    for code, *words in ((125, "exec", "bare", "true"), (1, "cp", "bare:/etc/passwd", "-"), (125, "attach", "bare")):
        assert "has no agent here: it was made with --no-agent" in micropod.error(micropod(*words), code), words
    micropod.ok("kill", "-s", "USR1", "bare")
    until(lambda: "usr" in micropod.ok("logs", "bare"))
    assert box[:12] in micropod.ok("ps", "-q")
    micropod.ok("stop", "bare")
    assert micropod.ok("wait", "bare") == "5\n" and micropod.ok("logs", "bare").endswith("trapped\n")
    # It goes on, and so does its log.
    micropod.ok("start", "bare")
    until(lambda: micropod.ok("logs", "bare").count("out\n") == 2)
    micropod.ok("kill", "bare")
    until(lambda: micropod.inspect("bare")["State"]["Status"] == "exited")
    assert micropod.inspect("bare")["State"]["ExitCode"] == 137
    micropod.ok("rm", "bare")
    assert engine.containers() == []


def test_stop_without_an_agent_kills_in_the_end(micropod):
    micropod.ok("run", "-d", "--no-agent", "--name", "deaf", micropod.busybox, "sh", "-c", "trap '' TERM; while true; do sleep 1; done")
    before = time.monotonic()
    micropod.ok("stop", "-t", "1", "deaf")
    assert 0.9 < time.monotonic() - before < 10
    assert micropod.ok("wait", "deaf") == "137\n"


def test_its_output_is_kept_to_the_byte(micropod):
    """All of it, over shims that die; a terminal's too."""
    micropod.ok("run", "-d", "--no-agent", "--name", "bare", micropod.busybox, "sh", "-c", COUNT)
    for _ in range(3):
        time.sleep(0.5)
        kill_shim(micropod, "bare")
        micropod.ok("logs", "bare")
    micropod.ok("stop", "-t", "0", "bare")
    lines = micropod.ok("logs", "bare").split()
    assert lines == [str(i) for i in range(len(lines))] and len(lines) > 20
    micropod.ok("run", "-d", "--no-agent", "--name", "quick", micropod.busybox, "sh", "-c", "seq 1 20000; exit 3")
    assert micropod.ok("wait", "quick") == "3\n"
    assert micropod.ok("logs", "quick") == "".join(f"{i}\n" for i in range(1, 20001))
    micropod.ok("run", "-d", "-t", "--no-agent", "--name", "tty", micropod.busybox, "sh", "-c", "tty; exit 0")
    assert micropod.ok("wait", "tty") == "0\n" and "/dev/pts/" in micropod.ok("logs", "tty")


def test_an_end_from_outside_and_a_program_that_is_not_there(micropod, engine):
    micropod.ok("run", "-d", "--no-agent", "--name", "bare", micropod.busybox, "sleep", "1000")
    engine.ok("kill", "bare")
    assert micropod.ok("wait", "bare") == "137\n"
    error = micropod.error(micropod("run", "-d", "--no-agent", micropod.busybox, "nosuch"))
    assert "nosuch" in error and "the engine says" in error
    assert len(engine.containers()) == 1


def test_a_lifetime_goes_on_without_a_shim(micropod):
    micropod.ok("run", "-d", "--name", "box", "--lifetime", "6s", micropod.busybox, "sh", "-c", "trap 'exit 9' TERM; " + COUNT)
    first = micropod.inspect("box")["State"]["Deadline"]
    kill_shim(micropod, "box")
    micropod.ok("exec", "box", "true")
    assert micropod.inspect("box")["State"]["Deadline"] == first
    until(lambda: micropod.inspect("box")["State"]["Status"] == "exited")
    state = micropod.inspect("box")["State"]
    assert (state["StoppedBy"], state["ExitCode"]) == ("lifetime", 9)
