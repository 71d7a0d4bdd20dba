# SPDX-License-Identifier: Apache-2.0
"""micropod-agent-tls: dials a server with TLS, trusts what came with its token and nothing else, and looks names up by itself."""
import hashlib
import os
import socket
import struct
import subprocess
import threading
import time

import pytest
from conftest import BUILD, Micropod
from servers import Remote, Server, free_port

AGENT = BUILD / "agents/micropod-agent-tls"
MIB = 1 << 20

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="pid and mount namespaces of unshare need root"),
              pytest.mark.skipif(not AGENT.exists(), reason="the agent with TLS was not built (make agents)")]


class Names:
    """A name server: answers A for the names it knows, and NXDOMAIN, or nothing at all."""

    def __init__(self):
        self.known, self.silent, self.asked = {}, False, []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.77", 53))
        self.socket.settimeout(0.2)
        self.over = False
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while not self.over:
            try:
                query, peer = self.socket.recvfrom(2000)
            except TimeoutError:
                continue
            at, labels = 12, []
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            name, kind = ".".join(labels), struct.unpack(">H", query[at + 1:at + 3])[0]
            self.asked.append(name)
            if self.silent:
                continue
            question, address = query[12:at + 5], self.known.get(name)
            answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(address) if address and kind == 1 else b""
            head = query[:2] + struct.pack(">HHHHH", 0x8180 | (0 if address else 3), 1, bool(answer), 0, 0)
            self.socket.sendto(head + question + answer, peer)

    def close(self):
        self.over = True
        self.thread.join()
        self.socket.close()


def certificate(folder, names):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=test",
                    "-addext", f"subjectAltName={names}", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    der = subprocess.run(["openssl", "x509", "-in", folder / "cert.pem", "-outform", "der"], capture_output=True, check=True).stdout
    return folder / "cert.pem", folder / "key.pem", hashlib.sha256(der).hexdigest()


class Setup:
    def __init__(self, folder, micropod):
        self.folder, self.names, self.agents = folder, Names(), []
        self.cert, key, self.pin = certificate(folder, "DNS:server.example,IP:127.0.0.1")
        self.port = free_port()
        self.server = Server(folder, address=f"127.0.0.1:{self.port}", url=f"https://127.0.0.1:{self.port}", extra=["--tls-cert", self.cert, "--tls-key", key])
        self.micropod = Remote(micropod, self.server, self.server.token("--user", "tests"))
        self.micropod.env["MICROPOD_SERVER_PIN"] = self.pin
        (folder / "resolv.conf").write_text("nameserver 127.0.0.77\n")
        (folder / "hosts").write_text("127.0.0.1 localhost\n127.0.0.1 known.here server.example.hosts\n")

    def agent(self, name, url, binary=AGENT, words=("sleep", "100000"), **env):
        """Started with files of the system's that are the tests'."""
        script = f"mount --bind {self.folder}/resolv.conf /etc/resolv.conf && mount --bind {self.folder}/hosts /etc/hosts && exec \"$@\""
        env = {**os.environ, "AGENT_SERVER_URL": url, "AGENT_TOKEN": self.server.token("--agent", name), **env}
        agent = subprocess.Popen(["unshare", "-mpf", "--mount-proc", "--kill-child", "sh", "-c", script, "sh", binary, "start", *words],
                                 stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
        self.agents.append(agent)
        return agent

    def joined(self, name, seconds=30):
        deadline = time.monotonic() + seconds
        while name not in self.micropod.ok("ps"):
            assert time.monotonic() < deadline, self.server.log.read_text()
            time.sleep(0.1)

    def close(self):
        for agent in self.agents:
            agent.kill()
            agent.communicate()
        self.server.kill()
        self.names.close()


@pytest.fixture
def setup(tmp_path, micropod: Micropod):
    setup = Setup(tmp_path, micropod)
    yield setup
    setup.close()


def pid_of(agent):
    (pid,) = open(f"/proc/{agent.pid}/task/{agent.pid}/children").read().split()
    return int(pid)


def test_by_pin_and_by_authority(setup):
    m = setup.micropod
    agent = setup.agent("pinned", f"https://127.0.0.1:{setup.port}", AGENT_SERVER_PIN=setup.pin)
    setup.agent("trusting", f"https://127.0.0.1:{setup.port}", AGENT_SERVER_CA=setup.cert.read_text())
    for name in ("pinned", "trusting"):
        setup.joined(name)
        assert m.ok("exec", name, "sh", "-c", "env | grep -c ^AGENT_; true") == "0\n"
    with open(f"/proc/{pid_of(agent)}/environ", "rb") as file:
        assert b"AGENT_" not in file.read()
    data = os.urandom(8 * MIB)
    assert m("exec", "-i", "pinned", "cat", input=data).stdout == data
    # The server goes and comes: a session of its own each time.
    setup.server.kill()
    setup.server.start()
    setup.joined("pinned", 40)
    assert m.ok("exec", "pinned", "echo", "again") == "again\n"


def test_whom_it_does_not_trust(setup, tmp_path):
    url = f"https://127.0.0.1:{setup.port}"
    other = tmp_path / "other"
    other.mkdir()
    stranger, _, _ = certificate(other, "IP:127.0.0.1")
    setup.agent("aa", url, AGENT_SERVER_PIN="0" * 64)
    setup.agent("bb", url, AGENT_SERVER_CA=stranger.read_text())
    setup.agent("cc", f"https://localhost:{setup.port}", AGENT_SERVER_CA=setup.cert.read_text())
    time.sleep(3)
    assert setup.micropod.ok("ps", "-q") == ""
    assert "joined" not in setup.server.log.read_text()
    # A token that a stranger has not seen is as good as before.
    setup.agent("aa", url, AGENT_SERVER_PIN=setup.pin)
    setup.joined("aa")


def test_names(setup):
    """By the hosts file, by the name server; one that is not known yet, one that moves, a server that does not answer."""
    m, trust = setup.micropod, {"AGENT_SERVER_PIN": setup.pin}
    setup.agent("from-hosts", f"https://known.here:{setup.port}", **trust)
    setup.joined("from-hosts")
    assert "known.here" not in setup.names.asked
    agent = setup.agent("from-dns", f"https://server.example:{setup.port}", AGENT_SERVER_CA=setup.cert.read_text())
    deadline = time.monotonic() + 20
    while setup.names.asked.count("server.example") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    setup.names.known["server.example"] = "127.0.0.1"
    setup.joined("from-dns")
    assert m.ok("exec", "from-dns", "echo", "found") == "found\n"
    setup.names.silent = True
    setup.server.kill()
    setup.server.start()
    time.sleep(3)
    with open(f"/proc/{pid_of(agent)}/stat") as file:
        assert sum(int(n) for n in file.read().rpartition(")")[2].split()[11:13]) < 100
    setup.names.silent = False
    setup.joined("from-dns", 60)


def test_a_name_in_plain(setup, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    server = Server(plain)
    setup.server, old = server, setup.server
    setup.names.known["plain.example"] = "127.0.0.1"
    url = f"http://plain.example:{server.address.rpartition(':')[2]}"
    try:
        refused = setup.agent("xx", url)
        assert "in plain" in refused.communicate(timeout=20)[1] and refused.returncode == 125
        setup.agent("yy", url, AGENT_INSECURE_PLAINTEXT="1")
        m = Remote(setup.micropod.host, server, server.token("--user", "tests"))
        deadline = time.monotonic() + 20
        while "yy" not in m.ok("ps"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        server.kill()
        setup.server = old


@pytest.mark.parametrize("url,env,message", [
    ("https://127.0.0.1:1", {}, "needs AGENT_SERVER_PIN or AGENT_SERVER_CA"),
    ("https://127.0.0.1:1", {"AGENT_SERVER_PIN": "00"}, "is no pin"),
    ("https://127.0.0.1:1", {"AGENT_SERVER_CA": "nonsense"}, "no certificates in PEM"),
    ("http://127.0.0.1:1", {"AGENT_SERVER_PIN": "0" * 64}, "AGENT_SERVER_PIN is for https://"),
    ("unix:/nosuch", {"AGENT_SERVER_CA": "x"}, "AGENT_SERVER_CA is for https://"),
])
def test_what_does_not_fit(setup, url, env, message):
    agent = setup.agent("zz", url, **env)
    said = agent.communicate(timeout=20)[1]
    assert agent.returncode == 125 and message in said and len(said.splitlines()) == 1, said


def test_the_other_agent_says_what_it_lacks(setup):
    agent = setup.agent("zz", f"https://127.0.0.1:{setup.port}", binary=BUILD / "guest/agent", AGENT_SERVER_PIN=setup.pin)
    assert "needs TLS, which this agent was built without" in agent.communicate(timeout=20)[1]


def test_its_size(setup):
    """Measured 2.8 MB of file and 2.8 MB resident; the other one has 0.7 of each."""
    assert AGENT.stat().st_size < 3.5 * MIB
    agent = setup.agent("small", f"https://127.0.0.1:{setup.port}", AGENT_SERVER_PIN=setup.pin)
    setup.joined("small")
    assert setup.micropod.ok("exec", "small", "echo", "x") == "x\n"
    with open(f"/proc/{pid_of(agent)}/status") as file:
        (rss,) = [int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS:")]
    assert rss < 4 * MIB
