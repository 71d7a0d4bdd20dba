# SPDX-License-Identifier: Apache-2.0
"""micropod server and runner: who may, where things are, and what happens when one of them dies. The sandboxes are containers of a
Docker Engine, which start in a moment; test_server_same.py has VMs."""
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import grpc
import pytest

from conftest import BUILD, TOP, Micropod
from engine import run as command
from servers import PROGRAM, Remote, Runner, Server, free_port
from test_run import until

sys.path.append(str(TOP / "tests/integration"))
from agent_fixture import collect, generate  # noqa: E402
from test_agent_clients import node_modules  # noqa: E402


@pytest.fixture(scope="module")
def hosts(engine):
    """Two roots of sandboxes, as two hosts would have."""
    folder = tempfile.mkdtemp(prefix="micropod-e2e-")
    both = [Micropod(f"{folder}/{name}", root=make_folder(f"{folder}/{name}") / "root", engine=engine) for name in ("alpha", "beta")]
    yield both
    for one in both:
        one.close()
    shutil.rmtree(folder)


def make_folder(path):
    path = pathlib.Path(path)
    path.mkdir()
    return path


class Setup:
    def __init__(self, folder, hosts):
        self.folder, self.hosts = folder, hosts
        self.server = Server(folder)
        self.runners = [Runner(self.server, folder, name, host.root, env=host.env) for name, host in zip(("alpha", "beta"), hosts)]
        self.token = self.server.token("--user", "tests")
        self.micropod = Remote(hosts[0], self.server, self.token)

    def close(self):
        for one in [*self.runners, self.server]:
            if one.process.poll() is None:
                one.kill()

    def audit(self):
        with contextlib.closing(sqlite3.connect(self.server.data / "server.db")) as db:
            return db.execute("SELECT who, what, host, sandbox, result FROM audit ORDER BY time_ns").fetchall()


@pytest.fixture
def setup(tmp_path, hosts):
    setup = Setup(tmp_path, hosts)
    yield setup
    setup.close()
    for host in hosts:
        host.empty()


# Who may


def test_tokens(setup):
    m, server = setup.micropod, setup.server
    assert m.ok("ps", "-q") == ""
    for token in ("", "x", "0" * 64, setup.token[:-1], setup.token + "0", server.token("--host", "other"), server.token("--agent", "one")):
        done = m("ps", env={"MICROPOD_TOKEN": token, "MICROPOD_TOKEN_FILE": ""})
        assert done.returncode == 125 and any(word in done.stderr.decode() for word in ("wants a token", "is missing, wrong", "is not for this")), done
    (setup.folder / "file").write_text(setup.token + "\n")
    assert m.ok("ps", "-q", env={"MICROPOD_TOKEN": "", "MICROPOD_TOKEN_FILE": str(setup.folder / "file")}) == ""
    # One for one sandbox alone.
    box = m.ok("run", "-d", "--name", "box", m.busybox, "sleep", "1000").strip()
    other = m.ok("run", "-d", "--name", "other", m.busybox, "sleep", "1000").strip()
    with client(setup, server.token("--sandbox", box)) as stub:
        assert stub.exec(box, "echo", "mine").out == b"mine\n"
        for sandbox in (other, "box", ""):
            with pytest.raises(grpc.RpcError) as error:
                stub.exec(sandbox, "true")
            assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED
    # Revoked: at once for calls, soon for those that have joined.
    listing = server.tokens("ls").stdout
    assert setup.token not in listing and len(listing.splitlines()) == 7
    assert server.tokens("rm", server.token_id("tests")).returncode == 0
    assert "was revoked" in m.error(m("ps"))
    assert "no such token" in server.tokens("rm", server.token_id("tests")).stderr
    assert "no such token" in server.tokens("rm", "nosuch").stderr
    m.env["MICROPOD_TOKEN"] = server.token("--user", "again")
    assert server.tokens("rm", server.token_id("beta")).returncode == 0
    until(lambda: names(setup) == ["alpha"])
    time.sleep(1)
    assert names(setup) == ["alpha"], "it does not come back"
    assert server.tokens("create").returncode == 125 and server.tokens("create", "--user", "-x").returncode == 125


def names(setup):
    with urllib.request.urlopen(f"http://{setup.server.metrics}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return [line.split('"')[1] for line in text.splitlines() if line.startswith("micropod_host_memory_free_bytes")]


class Stub:
    def __init__(self, channel, pb, stubs, token):
        self.pb, self.stub, self.token = pb, stubs.AgentStub(channel), token

    def metadata(self, sandbox, *more):
        return (("authorization", f"Bearer {self.token}"), ("micropod-sandbox", sandbox), *more)

    def exec(self, sandbox, *words, timeout=30):
        spec = self.pb.ProcessSpec(args=[word.encode() for word in words])
        first = self.pb.ExecRequest(start=self.pb.ExecStart(container_id="main", process=spec))
        return collect(self.pb, self.stub.ExecInContainer(iter([first]), timeout=timeout, metadata=self.metadata(sandbox)))


API = {}


@contextlib.contextmanager
def client(setup, token):
    if not API:
        API["folder"] = tempfile.TemporaryDirectory()
        API["modules"] = generate(pathlib.Path(API["folder"].name))
    with grpc.insecure_channel(setup.server.address) as channel:
        yield Stub(channel, *API["modules"], token)


def test_programs_name_a_sandbox_and_nothing_else(setup):
    m = setup.micropod
    box = m.ok("run", "-d", "--name", "box", m.busybox, "sleep", "1000").strip()
    with client(setup, setup.token) as stub:
        for word in (box, "box", box[:12]):
            done = stub.exec(word, "sh", "-c", "echo out; echo err >&2; exit 4")
            assert (done.out, done.err, done.exit.code) == (b"out\n", b"err\n", 4)
        for word, code in (("nosuch", grpc.StatusCode.NOT_FOUND), ("x" * 300, grpc.StatusCode.INVALID_ARGUMENT)):
            with pytest.raises(grpc.RpcError) as error:
                stub.exec(word, "true")
            assert error.value.code() == code
        with pytest.raises(grpc.RpcError) as error:
            stub.stub.Info(stub.pb.InfoRequest(), timeout=20, metadata=(("authorization", f"Bearer {setup.token}"),))
        assert "metadata 'micropod-sandbox' is missing" in error.value.details()
        with pytest.raises(grpc.RpcError) as error:
            stub.stub.Info(stub.pb.InfoRequest(), timeout=20, metadata=stub.metadata("box", ("micropod-host", "nosuch")))
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE and "host 'nosuch' is not here" in error.value.details()


def test_audit_and_logs(setup):
    m = setup.micropod
    box = m.ok("run", "-d", "--name", "box", m.busybox, "sleep", "1000").strip()
    m.ok("exec", "box", "true")
    m("ps", env={"MICROPOD_TOKEN": "0" * 64})
    rows = setup.audit()
    assert ("tests", "/micropod.agent.v1.Agent/ExecInContainer", "alpha", box, "OK") in rows or \
        ("tests", "/micropod.agent.v1.Agent/ExecInContainer", "beta", box, "OK") in rows
    assert ("?", "/micropod.server.v1.Server/List", "", "", "UNAUTHENTICATED") in rows
    assert ("alpha", "join", "", "", "OK") in rows
    assert sum(row[1].endswith("/Command") for row in rows) >= 2
    # Each line of one command line has its number; no secret stands anywhere.
    log = setup.server.log.read_text()
    (number,) = {line.split(" request=")[1].split()[0] for line in log.splitlines() if "ExecInContainer" in line}
    assert log.count(f"request={number} ") >= 2
    secrets = [setup.token, *(runner.file.read_text().strip() for runner in setup.runners)]
    texts = [log, *(runner.log.read_text() for runner in setup.runners), repr(rows)]
    texts.append((setup.server.data / "server.db").read_bytes().decode(errors="replace"))
    assert all(secret not in text for secret in secrets for text in texts)


# Where


def test_hosts_are_chosen(setup):
    m = setup.micropod
    for name in ("alpha", "beta"):
        m.ok("run", "-d", "--on", name, "--name", f"on-{name}", m.busybox, "sleep", "1000")
    rows = [json.loads(line) for line in m.ok("ps", "--format", "json").splitlines()]
    assert {(row["Names"], row["Host"]) for row in rows} == {("on-alpha", "alpha"), ("on-beta", "beta")}
    assert [len(host.ok("ps", "-q").split()) for host in setup.hosts] == [1, 1]
    assert "host 'nosuch' is not here" in m.error(m("run", "--on", "nosuch", m.busybox, "true"))
    # Anywhere, and a verb for several on several hosts.
    m.ok("create", "--name", "third", m.busybox, "true")
    assert m.ok("restart", "-t", "1", "on-alpha", "on-beta") == "on-alpha\non-beta\n"
    assert m.ok("stop", "-t", "1", "on-beta") == "on-beta\n"
    done = m("rm", "-f", "on-alpha", "nosuch", "on-beta", "third")
    assert done.returncode == 125 and done.stdout == b"on-alpha\non-beta\nthird\n" and b"no such sandbox: nosuch" in done.stderr
    assert m.ok("ps", "-aq") == ""


def test_two_of_one_name(setup):
    m = setup.micropod
    box = m.ok("run", "-d", "--on", "alpha", "--name", "same", m.busybox, "sleep", "1000").strip()
    # Made there, and not started: the engine, which is one for both here, would not have two of a name.
    m.ok("create", "--on", "beta", "--name", "same", m.busybox, "true")
    assert "both have a sandbox 'same': give its id" in m.error(m("exec", "same", "true"))
    assert m.ok("exec", box, "echo", "by id") == "by id\n"


def test_what_is_read_here_and_what_there(setup, tmp_path):
    m = setup.micropod
    (tmp_path / "env").write_text("FILE=from a file\n")
    out = m.ok("run", "--rm", "-e", "HERE", "-e", "GIVEN=1 2", "--env-file", tmp_path / "env", m.busybox, "env", env={"HERE": "from here"})
    assert {"HERE=from here", "GIVEN=1 2", "FILE=from a file"} < set(out.splitlines())
    assert m.ok("template", "ls").startswith("TEMPLATE ")
    assert "is for this host alone" in m.error(m("load"))
    done = m("run", "--network", "container:nosuch", m.busybox, "true")
    assert done.returncode == 125 and b"No such container: nosuch" in done.stderr
    assert m("run", m.busybox, "nosuch").returncode == 127
    assert m.ok("ps", "-aq") == ""


def test_ports_are_forwarded_from_here(setup):
    m = setup.micropod
    m.ok("run", "-d", "--name", "box", "--network", "none", m.busybox, "nc", "-ll", "-p", "7", "-e", "cat")
    until(lambda: m("exec", "box", "sh", "-c", "grep -q ':0007 .* 0A ' /proc/net/tcp /proc/net/tcp6").returncode == 0)
    child = m.popen("port-forward", "0:box:7", stdout=subprocess.PIPE)
    port = int(child.stdout.readline().decode().split(" -> ")[0].rpartition(":")[2])
    import socket
    with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        s.sendall(b"there and back")
        s.shutdown(socket.SHUT_WR)
        assert s.makefile("rb").read() == b"there and back"
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=20)


@pytest.mark.parametrize("language", ["python", "node"])
def test_examples(setup, language):
    m = setup.micropod
    (setup.folder / "user.token").write_text(setup.token + "\n")
    words = ["/usr/bin/python3", TOP / "examples/run.py"] if language == "python" else ["node", TOP / "examples/run.js"]
    env = {**os.environ, "MICROPOD_NODE_MODULES": str(node_modules()) if language == "node" else ""}
    done = subprocess.run([*words, setup.server.address, setup.folder / "user.token", m.busybox], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert "hello from a sandbox" in lines[0] and lines[1:] == ["3 MB there and back", "through a port"]
    assert m.ok("ps", "-aq") == ""
    done = subprocess.run([*words, setup.server.address, setup.folder / "user.token", "nosuch:1"], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 1 and "nosuch" in done.stderr


# Agents without a host


def test_an_agent_by_itself(setup, tmp_path):
    token = setup.server.token("--agent", "lonely")
    env = {**os.environ, "AGENT_SERVER_URL": setup.server.url, "AGENT_TOKEN": token}
    start = ["unshare", "-pf", "--mount-proc", "--kill-child", BUILD / "guest/agent", "start", "sleep", "100000"]
    agent = subprocess.Popen(start, env=env, stdin=subprocess.DEVNULL)
    m = setup.micropod
    try:
        until(lambda: "lonely" in m.ok("ps"))
        assert m.ok("exec", "lonely", "sh", "-c", "echo $$; exit 0").strip().isdigit()
        (tmp_path / "file").write_text("bytes")
        m.ok("cp", tmp_path / "file", f"lonely:{tmp_path}/copy")
        assert (tmp_path / "copy").read_text() == "bytes"
        assert "is an agent without a host" in m.error(m("logs", "lonely"))
        # Its token is used up, and the first stays.
        thief = subprocess.Popen(start, env=env, stdin=subprocess.DEVNULL)
        until(lambda: "was used a second time: refused" in setup.server.log.read_text())
        thief.kill()
        thief.wait()
        assert m.ok("exec", "lonely", "echo", "still here") == "still here\n"
        # With the server away for a while it comes back by what it was told.
        setup.server.kill()
        time.sleep(1)
        setup.server.start()
        until(lambda: m("exec", "lonely", "echo", "back").stdout == b"back\n", 40)
    finally:
        agent.kill()
        agent.wait()
    until(lambda: "lonely" not in m.ok("ps"), 60)


# What dies


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_restarts_finds_everything(setup, sig):
    m = setup.micropod
    boxes = {m.ok("run", "-d", "--on", name, m.busybox, "sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done").strip()
             for name in ("alpha", "beta") for _ in range(2)}
    child = m.popen("exec", boxes.copy().pop(), "sleep", "1000", stderr=subprocess.PIPE)
    time.sleep(0.5)
    assert setup.server.kill(sig) == (-9 if sig == signal.SIGKILL else 0)
    # Never an exit code of the command's.
    assert child.wait(timeout=60) == 125, child.stderr.read()
    child.stderr.close()
    done = m("ps")
    assert done.returncode == 125 and b"the server" in done.stderr
    setup.server.start()
    for runner in setup.runners:
        runner.joined(2)
    until(lambda: set(m.ok("ps", "-q", "--no-trunc").split()) == boxes)
    for box in boxes:
        assert m.ok("exec", box, "echo", "here") == "here\n"
        lines = m.ok("logs", box).split()
        assert lines == [str(i) for i in range(len(lines))]


def test_a_runner_that_restarts_finds_everything(setup):
    m = setup.micropod
    boxes = {m.ok("run", "-d", "--on", "alpha", m.busybox, "sleep", "1000").strip() for _ in range(2)}
    other = m.ok("run", "-d", "--on", "beta", m.busybox, "sleep", "1000").strip()
    setup.runners[0].kill()
    until(lambda: m.ok("ps", "-q", "--no-trunc").split() == [other], 60)
    assert "no such sandbox" in m.error(m("exec", boxes.copy().pop(), "true"))
    setup.runners[0].start()
    assert set(m.ok("ps", "-q", "--no-trunc").split()) == boxes | {other}
    for box in boxes:
        assert m.ok("exec", box, "echo", "here") == "here\n"


def test_a_command_ends_with_its_call(setup):
    m = setup.micropod
    m.ok("run", "-d", "--on", "alpha", "--name", "box", m.busybox, "sleep", "1000")
    child = m.popen("logs", "-f", "box")
    until(lambda: any("logs" in p for p in setup.hosts[0].processes()))
    child.kill()
    child.wait()
    until(lambda: not any("logs" in p for p in setup.hosts[0].processes()))


# TLS


@pytest.fixture
def certificate(tmp_path):
    done = command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=test",
                   "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem")
    assert done.returncode == 0, done
    der = subprocess.run(["openssl", "x509", "-in", tmp_path / "cert.pem", "-outform", "der"], capture_output=True, check=True).stdout
    return tmp_path / "cert.pem", tmp_path / "key.pem", hashlib.sha256(der).hexdigest()


def test_tls(tmp_path, hosts, certificate):
    cert, key, pin = certificate
    port = free_port()
    server = Server(tmp_path, address=f"127.0.0.1:{port}", url=f"https://localhost:{port}", extra=["--tls-cert", cert, "--tls-key", key])
    runner = Runner(server, tmp_path, "alpha", hosts[0].root, env=hosts[0].env, extra=["--pin", pin])
    m = Remote(hosts[0], server, server.token("--user", "tests"))
    trusted = {"MICROPOD_SERVER_CA": str(cert)}
    try:
        assert m.ok("ps", "-q", env=trusted) == "" and m.ok("ps", "-q", env={"MICROPOD_SERVER_PIN": pin}) == ""
        box = m.ok("run", "-d", "--name", "box", m.busybox, "sleep", "1000", env=trusted).strip()
        data = os.urandom(8 << 20)
        assert m("exec", "-i", "box", "cat", input=data, env=trusted).stdout == data
        for env in ({}, {"MICROPOD_SERVER_PIN": "0" * 64}, {"MICROPOD_SERVER_CA": str(cert), "MICROPOD_SERVER": f"https://127.0.0.2:{port}"}):
            done = m("ps", env=env)
            assert done.returncode == 125, done
        assert "Key was rejected" in m.error(m("ps")) and "Key was rejected" in m.error(m("ps", env={"MICROPOD_SERVER_PIN": "0" * 64}))
        assert "is no pin" in m.error(m("ps", env={"MICROPOD_SERVER_PIN": "00"}))
        assert "cannot use the file of authorities" in m.error(m("ps", env={"MICROPOD_SERVER_CA": str(key)}))
        assert m("ps", env={"MICROPOD_SERVER": f"http://127.0.0.1:{port}"}).returncode == 125
        assert m.ok("ps", "-q", env={"MICROPOD_SERVER_CA": str(cert), "MICROPOD_SERVER": f"https://127.0.0.1:{port}"}).strip() == box[:12]
        # Others speak it too, and nothing older is spoken.
        if not API:
            API["folder"] = tempfile.TemporaryDirectory()
            API["modules"] = generate(pathlib.Path(API["folder"].name))
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            assert Stub(channel, *API["modules"], m.env["MICROPOD_TOKEN"]).exec("box", "echo", "over TLS").out == b"over TLS\n"
        for version, code in (("-tls1_3", 0), ("-tls1_2", 1)):
            done = subprocess.run(["openssl", "s_client", version, "-alpn", "h2", "-CAfile", cert, "-connect", f"127.0.0.1:{port}"],
                                  stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
            assert done.returncode == code, done
        server.kill()
        server.start()
        runner.joined(2)
        assert m.ok("exec", "box", "echo", "again", env=trusted) == "again\n"
        m.ok("rm", "-f", "box", env=trusted)
    finally:
        runner.kill()
        server.kill()
        hosts[0].empty()


# Listening


def test_what_it_listens_to(tmp_path):
    def error(*words):
        done = subprocess.run([PROGRAM, "server", "--data", tmp_path / "data", *words], capture_output=True, text=True, timeout=20)
        assert done.returncode == 125, done
        return done.stderr

    assert "tokens would go to '0.0.0.0:1' in plain" in error("--listen", "0.0.0.0:1")
    assert "'nonsense' is no address" in error("--listen", "nonsense")
    assert error() == "micropod: server: give --listen ADDRESS, and --tls-cert and --tls-key or neither (micropod server --help)\n"
    assert "--tls-cert" in subprocess.run([PROGRAM, "server", "--help"], capture_output=True, text=True, timeout=20).stdout
    done = subprocess.run([PROGRAM, "token", "create", "--user", "someone"], capture_output=True, text=True, timeout=20, env={**os.environ, "MICROPOD_DATA": str(tmp_path / "made/here")})
    assert done.returncode == 0 and len(done.stdout) == 65 and (tmp_path / "made/here/server.db").exists()
    done = subprocess.run([PROGRAM, "ps", "--on", "x"], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (125, "micropod: option '--on' needs a server: give --server URL, or choose a context\n")
    assert "'nonsense' is no address" in error("--listen", f"unix:{tmp_path}/sock", "--metrics", "nonsense")
    assert subprocess.run([PROGRAM, "runner"], capture_output=True, text=True, timeout=20).stderr.startswith("micropod: runner: give --server URL")
    assert "--pin SHA256" in subprocess.run([PROGRAM, "runner", "--help"], capture_output=True, text=True, timeout=20).stdout
    (tmp_path / "token").write_text("x")
    done = subprocess.run([PROGRAM, "runner", "--server", "http://192.0.2.1", "--token-file", tmp_path / "token"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 125 and "in plain" in done.stderr
    done = subprocess.run([PROGRAM, "--server", "http://192.0.2.1", "ps"], capture_output=True, text=True, timeout=20, env={**os.environ, "MICROPOD_TOKEN": "x"})
    assert done.returncode == 125 and "in plain" in done.stderr
    (tmp_path / "data2").mkdir(mode=0o700)
    (tmp_path / "data2/server.db").write_text("this is no database, whatever it is called, and long enough to be looked at" * 100)
    done = subprocess.run([PROGRAM, "server", "--data", tmp_path / "data2", "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 125 and "cannot use the database" in done.stderr


def test_an_agent_that_starts_again(setup):
    """With a token for that it enrols at each start, as after a reboot; the newest is it, and revoking ends it."""
    env = {**os.environ, "AGENT_SERVER_URL": setup.server.url, "AGENT_TOKEN": setup.server.token("--agent", "phoenix", "--reusable")}
    start = ["unshare", "-pf", "--mount-proc", "--kill-child", BUILD / "guest/agent", "start", "sleep", "100000"]
    m = setup.micropod
    for word in ("one", "two", "three"):
        agent = subprocess.Popen(start, env={**env, "WHO": word}, stdin=subprocess.DEVNULL)
        try:
            until(lambda: m("exec", "phoenix", "sh", "-c", "tr '\\0' '\\n' </proc/1/environ | grep WHO").stdout.decode().strip() == f"WHO={word}", 40)
            if word == "three":
                setup.server.tokens("rm", setup.server.token_id("phoenix"))
                until(lambda: "phoenix" not in m.ok("ps"), 20)
        finally:
            agent.kill()
            agent.wait()
    assert setup.server.tokens("create", "--user", "x", "--reusable").stderr == "micropod: token: --reusable is for --agent\n"


def test_so_many_bytes_a_second(tmp_path, hosts):
    """For all calls of a sandbox together, both ways; nothing is lost, and nobody else is slowed."""
    server = Server(tmp_path, extra=["--sandbox-rate", "2m"])
    runner = Runner(server, tmp_path, "alpha", hosts[0].root, env=hosts[0].env)
    m = Remote(hosts[0], server, server.token("--user", "tests"))
    data = os.urandom(6 << 20)

    def timed(*words, **kwargs):
        began = time.monotonic()
        done = m(*words, **kwargs)
        return time.monotonic() - began, done

    try:
        for name in ("one", "two"):
            m.ok("run", "-d", "--name", name, m.busybox, "sleep", "1000")
        time.sleep(2)
        # A second's worth may go at once, so 6 MB take 2 s at least; both ways 12 MB.
        taken, done = timed("exec", "one", "head", "-c", str(6 << 20), "/dev/zero")
        assert 1.8 < taken < 6 and done.stdout == bytes(6 << 20), taken
        taken, done = timed("exec", "-i", "one", "cat", input=data)
        assert 4.5 < taken < 12 and done.stdout == data, taken
        # Two at once share it, and others do not notice.
        slow = m.popen("exec", "one", "head", "-c", str(20 << 20), "/dev/zero", stdout=subprocess.DEVNULL)
        time.sleep(1)
        taken, done = timed("exec", "two", "head", "-c", str(1 << 20), "/dev/zero")
        assert taken < 1.5 and len(done.stdout) == 1 << 20, taken
        slow.send_signal(signal.SIGTERM)
        slow.wait(timeout=20)
        # Who comes back finds it as it was.
        taken, _ = timed("exec", "one", "head", "-c", str(4 << 20), "/dev/zero")
        assert taken > 1.8, taken
    finally:
        runner.kill()
        server.kill()
        hosts[0].empty()
    for value in ("fast", "-1", "9999999t"):  # the last is beyond LIMIT_SANDBOX_RATE
        done = subprocess.run([PROGRAM, "server", "--listen", "127.0.0.1:0", "--sandbox-rate", value], capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stderr) == (125, f"micropod: server: option '--sandbox-rate' is '{value}': give bytes, such as 10m, or 0 for no limit\n")


def test_several_addresses(tmp_path, certificate):
    """TLS for those who come by a network; a unix socket beside it for those who are here."""
    cert, key, pin = certificate
    port = free_port()
    server = Server(tmp_path, address=f"unix:{tmp_path}/socket", extra=["--listen", f"127.0.0.1:{port}", "--tls-cert", cert, "--tls-key", key])
    try:
        assert server.process.stdout.readline() == f"listening at 127.0.0.1:{port}\n".encode()
        env = {**server.env, "MICROPOD_TOKEN": server.token("--user", "someone"), "MICROPOD_SERVER_PIN": pin}
        for url in (f"unix://{tmp_path}/socket", f"https://127.0.0.1:{port}"):
            done = subprocess.run([PROGRAM, "--server", url, "ps", "-q"], capture_output=True, text=True, timeout=20, env=env)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        done = subprocess.run([PROGRAM, "--server", f"http://127.0.0.1:{port}", "ps", "-q"], capture_output=True, text=True, timeout=20, env=env)
        assert done.returncode == 125 and done.stderr
    finally:
        server.kill()
    done = subprocess.run([PROGRAM, "server", *["--listen", "127.0.0.1:0"] * 9], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (125, "micropod: server: --listen at most 8 times\n")


def test_metrics_and_health(setup):
    m = setup.micropod
    m.ok("run", "-d", m.busybox, "sleep", "1000")
    base = f"http://{setup.server.metrics}"
    assert urllib.request.urlopen(f"{base}/healthz", timeout=10).read() == b"ok\n"
    text = urllib.request.urlopen(f"{base}/metrics", timeout=10).read().decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values["micropod_hosts"] == "2" and int(values["micropod_calls_total"]) > 2 and int(values["process_resident_memory_bytes"]) > 1 << 20
    for path in ("/nosuch", "/metrics/x"):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{base}{path}", timeout=10)
        assert error.value.code == 404
    assert command("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", f"{base}/metrics").stdout == "405"
    # A client that says nothing holds up nobody.
    import socket
    host, port = setup.server.metrics.split(":")
    with socket.create_connection((host, int(port))):
        assert urllib.request.urlopen(f"{base}/healthz", timeout=10).read() == b"ok\n"


def test_many_at_once(setup):
    m = setup.micropod
    m.ok("run", "-d", "--name", "box", m.busybox, "sleep", "1000")
    with client(setup, setup.token) as stub:
        failed = []

        def work(i):
            try:
                for j in range(10):
                    assert stub.exec("box", "echo", f"{i} {j}").out == f"{i} {j}\n".encode()
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
