# SPDX-License-Identifier: Apache-2.0
"""A host in a network of its own, from which connections can be made and not taken; packets that get lost; and proxies in between."""
import os
import signal
import socket
import subprocess
import time

import pytest

from engine import run as command
from servers import Remote, Runner, Server, free_port
from test_run import until
from test_server import certificate, hosts  # noqa: F401

LONG = os.environ.get("MICROPOD_TEST_LONG")
SILENCE = 30  # seconds after which a stream without a sign of life is dead (tunnel/link.h)
PROXY_TIME = 20  # of the proxies here: shorter than streams are idle


class Network:
    """Two ends of a cable: here, and in a namespace that takes no connections."""
    made = 0

    def __init__(self):
        Network.made += 1
        self.name = f"host-{os.getpid()}-{Network.made}"
        self.cable = f"mp{os.getpid()}.{Network.made}"
        self.here, there = f"10.214.{Network.made}.1", f"10.214.{Network.made}.2"
        for words in (["netns", "add", self.name], ["link", "add", self.cable, "type", "veth", "peer", "name", "up0", "netns", self.name],
                      ["addr", "add", f"{self.here}/30", "dev", self.cable], ["link", "set", self.cable, "up"],
                      ["-n", self.name, "addr", "add", f"{there}/30", "dev", "up0"], ["-n", self.name, "link", "set", "up0", "up"],
                      ["-n", self.name, "link", "set", "lo", "up"]):
            done = command("ip", *words)
            assert done.returncode == 0, done
        self.prefix = ["nsenter", f"--net=/run/netns/{self.name}"]
        self.nft("add table inet t; add chain inet t in { type filter hook input priority 0; policy drop; }; "
                 "add rule inet t in ct state established,related accept; add rule inet t in iif lo accept; "
                 "add chain inet t out { type filter hook output priority 0; policy accept; }")

    def nft(self, rules):
        done = command(*self.prefix, "nft", rules)
        assert done.returncode == 0, done

    def drop(self):
        self.nft("insert rule inet t in iif up0 drop; insert rule inet t out oif up0 drop")

    def mend(self):
        self.nft("flush chain inet t out; flush chain inet t in; add rule inet t in ct state established,related accept; add rule inet t in iif lo accept")

    def close(self):
        command("ip", "netns", "del", self.name)


@pytest.fixture
def network():
    network = Network()
    yield network
    network.close()


@pytest.fixture
def setup(tmp_path, hosts, network):  # noqa: F811
    server = Server(tmp_path, address=f"{network.here}:{free_port()}", extra=["--insecure-plaintext"])
    runner = Runner(server, tmp_path, "far", hosts[0].root, prefix=network.prefix, env=hosts[0].env, extra=["--insecure-plaintext"])
    remote = Remote(hosts[0], server, server.token("--user", "tests"))
    remote.env["MICROPOD_INSECURE_PLAINTEXT"] = "1"
    yield remote, server, runner, network
    for one in (runner, server):
        if one.process.poll() is None:
            one.kill()
    hosts[0].empty()


def test_everything_over_outgoing_connections(setup, tmp_path):
    m, server, runner, network = setup
    # Nothing can be dialled there.
    with pytest.raises(OSError):
        socket.create_connection((network.here[:-1] + "2", 22), timeout=2)
    done = m("run", "-i", "--name", "box", m.busybox, "sh", "-c", "cat; echo err >&2; exit 5", input=b"in")
    assert (done.returncode, done.stdout, done.stderr) == (5, b"in", b"err\n")
    m.ok("rm", "box")
    m.ok("run", "-d", "--name", "box", m.busybox, "sh", "-c", "echo here; nc -ll -p 7 -e cat")
    data = os.urandom(3 << 20)
    assert m("exec", "-i", "box", "cat", input=data).stdout == data
    (tmp_path / "file").write_bytes(data)
    m.ok("cp", tmp_path / "file", "box:/file")
    m.ok("cp", "box:/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    child = m.popen("port-forward", "0:box:7", stdout=subprocess.PIPE)
    port = int(child.stdout.readline().decode().split(" -> ")[0].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        s.sendall(data[:100000])
        s.shutdown(socket.SHUT_WR)
        assert s.makefile("rb").read() == data[:100000]
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=20)
    assert "far" in m.ok("ps") and m.ok("logs", "box") == "here\n" and "box" in m.ok("stats", "--no-stream")
    m.ok("stop", "-t", "1", "box")


def test_packets_are_dropped_for_a_while(setup):
    """Not refused: nobody is told. Both ends give the session up by themselves, and it is made anew."""
    m, server, runner, network = setup
    script = "i=0; while [ $i -lt 600 ]; do echo line $i; i=$((i+1)); sleep 0.1; done"
    m.ok("run", "-d", "--name", "box", m.busybox, "sh", "-c", script)
    child = m.popen("exec", "box", "sleep", "1000", stderr=subprocess.PIPE)
    until(lambda: "sleep 1000" in m.ok("exec", "box", "ps"))
    network.drop()
    began = time.monotonic()
    # A call that was on its way ends, with an error and no exit code of the command's.
    assert child.wait(timeout=4 * SILENCE) == 125
    child.stderr.close()
    assert time.monotonic() - began < 3 * SILENCE
    until(lambda: "is gone" in server.log.read_text(), 3 * SILENCE)
    if LONG:
        time.sleep(max(0, 60 - (time.monotonic() - began)))
    network.mend()
    until(lambda: m("exec", "box", "echo", "back").stdout == b"back\n", 60)
    assert "sleep 1000" in m.ok("exec", "box", "ps"), "what runs lives on"
    lines = m.ok("logs", "box").splitlines()
    assert lines == [f"line {i}" for i in range(len(lines))] and len(lines) > 200


def test_a_short_loss_is_not_noticed(setup):
    m, server, runner, network = setup
    m.ok("run", "-d", "--name", "box", m.busybox, "sleep", "1000")
    child = m.popen("exec", "box", "sh", "-c", "i=0; while [ $i -lt 80 ]; do echo $i; i=$((i+1)); sleep 0.1; done", stdout=subprocess.PIPE)
    time.sleep(1)
    network.drop()
    time.sleep(5)
    network.mend()
    assert child.communicate(timeout=60)[0].decode().split() == [str(i) for i in range(80)] and child.returncode == 0
    assert "is gone" not in server.log.read_text()


# Proxies

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;
        http2_max_concurrent_streams 1024; client_max_body_size 0; client_body_timeout {time}s;
        location / {{ grpc_pass grpc://{address}; grpc_read_timeout {time}s; grpc_send_timeout {time}s; }}
    }}
}}
"""
HAPROXY = """
global
    maxconn 512
    tune.bufsize 131072
defaults
    mode http
    timeout connect 5s
    timeout client {time}s
    timeout server {time}s
frontend in
    bind 127.0.0.1:{port} ssl crt {folder}/both.pem alpn h2
    default_backend out
backend out
    server one {address} proto h2
"""


@pytest.fixture(params=["nginx", "haproxy"])
def proxy(request, tmp_path, certificate):  # noqa: F811
    cert, key, pin = certificate
    server = Server(tmp_path)
    port = free_port()
    config = tmp_path / "proxy.conf"
    (tmp_path / "both.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    text = NGINX if request.param == "nginx" else HAPROXY
    config.write_text(text.format(folder=tmp_path, port=port, cert=cert, key=key, address=server.address, time=PROXY_TIME))
    words = ["nginx", "-c", config, "-e", tmp_path / "nginx.log"] if request.param == "nginx" else ["haproxy", "-db", "-f", config]
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens():
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    until(listens)
    yield server, f"https://localhost:{port}", pin
    child.terminate()
    child.wait(timeout=20)
    server.kill()


def test_a_proxy_in_between(proxy, tmp_path, hosts):  # noqa: F811
    """TLS ends there, and its times are shorter than streams are idle: the sign of life is what keeps them."""
    server, url, pin = proxy
    runner = Runner(server, tmp_path, "far", hosts[0].root, env=hosts[0].env, url=url, extra=["--pin", pin])
    m = Remote(hosts[0], server, server.token("--user", "tests"))
    m.env.update(MICROPOD_SERVER=url, MICROPOD_SERVER_PIN=pin)
    try:
        m.ok("run", "-d", "--name", "box", m.busybox, "sleep", "1000")
        data = os.urandom(3 << 20)
        assert m("exec", "-i", "box", "cat", input=data).stdout == data
        time.sleep(90 if LONG else 2 * PROXY_TIME)
        assert m.ok("exec", "box", "echo", "after a while") == "after a while\n"
        assert runner.log.read_text().count("runner info joined") == 1
    finally:
        runner.kill()
        hosts[0].empty()
