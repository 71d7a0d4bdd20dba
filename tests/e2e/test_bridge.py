# SPDX-License-Identifier: Apache-2.0
"""Networks on a bridge of the host's: what root may have."""
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from ordinary import ordinary  # noqa: F401 (a fixture)
from test_networks import SERVE, fetch

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a bridge needs root")


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.1)
    return value


def run(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def links():
    return {line.split()[0].split("@")[0] for line in run("ip", "-br", "link").splitlines() if line.startswith("mp")}


def tables():
    return {line.split()[2] for line in run("nft", "list", "tables").splitlines() if line.startswith("table ip micropod")}


@pytest.fixture
def bridge(micropod):
    before = links()
    micropod.ok("network", "create", "-d", "bridge", "br")
    (made,) = links() - before
    yield made
    micropod.empty()
    micropod("network", "rm", "br")
    assert links() == before and not tables()


def address_of(micropod, box):
    return micropod.inspect(box)["NetworkSettings"]["IPAddress"]


def serve(micropod, name, *words):
    micropod.ok("run", "-d", "--name", name, "--network", "br", *words, micropod.busybox, "sh", "-c", SERVE)
    return address_of(micropod, name)


def get(address, port=8080):
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=5) as conn:
        conn.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return conn.makefile("rb").read().split(b"\r\n\r\n", 1)[1].decode().strip()
    return None


def test_members_host_and_names(micropod, bridge):
    address = serve(micropod, "web", "--hostname", "host-web", "-p", "127.0.0.1:0:8080")
    assert until(lambda: get(address) == "host-web")  # the host itself is on it
    assert get("127.0.0.1", int(micropod.ok("port", "web", "8080/tcp").rsplit(":", 1)[1])) == "host-web"
    assert fetch(micropod, "web", "--network", "br") == "host-web" and fetch(micropod, address, "--network", "br") == "host-web"
    assert "NXDOMAIN" in micropod("run", "--rm", micropod.busybox, "nslookup", "web").stdout.decode()
    shown = micropod.ok("network", "inspect", "--format", "{{.Driver}}", "br")
    assert shown == "bridge\n" and "bridge" in micropod.ok("network", "ls") and f"mp{int.from_bytes(socket.inet_aton(address)):08x}" in links()
    done = micropod("network", "rm", "br")
    assert micropod.error(done) == "network 'br' is used by sandbox 'web': remove that first" and bridge in links()


@pytest.fixture
def elsewhere():
    """A machine that this host has a way to: another network namespace. Says from where it was called."""
    name = f"micropod-test-{os.getpid()}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", "mptest0", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "address", "add", "192.168.231.1/24", "dev", "mptest0")
        run("ip", "link", "set", "mptest0", "up")
        run("ip", "-n", name, "address", "add", "192.168.231.2/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        server = subprocess.Popen(["ip", "netns", "exec", name, "python3", "-c", """
import socket
s = socket.create_server(("192.168.231.2", 7000))
print("ready", flush=True)
while True:
    conn, peer = s.accept()
    conn.sendall(peer[0].encode() + b"\\n")
    conn.close()
"""], stdout=subprocess.PIPE)
        assert server.stdout.readline() == b"ready\n"
        yield "192.168.231.2", 7000
        server.kill()
        server.wait()
        server.stdout.close()
    finally:
        run("ip", "netns", "del", name)


def calls(micropod, where, *words):
    script = f"timeout 5 nc {where[0]} {where[1]}; true"
    return micropod.ok("run", "--rm", *words, micropod.busybox, "sh", "-c", script)


def test_the_world_sees_the_host(micropod, bridge, elsewhere):
    assert calls(micropod, elsewhere, "--network", "br") == "192.168.231.1\n"
    micropod.ok("network", "create", "-d", "bridge", "--internal", "inside")
    try:
        assert calls(micropod, elsewhere, "--network", "inside") == ""
    finally:
        micropod.ok("network", "rm", "inside")


@pytest.mark.parametrize("who", ["ShimPid", "NetPid", "VMMPid"])
def test_nothing_is_left_of_who_is_killed(micropod, bridge, who):
    serve(micropod, "web")
    assert len(links()) == 2 and len(tables()) == 1
    os.kill(micropod.inspect("web")["Micropod"][who], signal.SIGKILL)
    assert until(lambda: links() == {bridge} and not tables())
    assert until(lambda: micropod.inspect("web")["State"]["Status"] in ("dead", "exited"))


def test_after_a_boot_of_the_host(micropod, bridge):
    """The bridge is gone then, and comes back with the first start."""
    address = serve(micropod, "web", "--hostname", "host-web")
    micropod.ok("stop", "-t", "0", "web")
    run("ip", "link", "del", bridge)
    micropod.ok("start", "web")
    assert bridge in links() and until(lambda: get(address) == "host-web")


def test_a_guest_is_only_itself(micropod, bridge):
    """Neither under another's hardware address nor from another's address does it say anything."""
    address = serve(micropod, "web", "--hostname", "host-web")
    other = ".".join(address.split(".")[:3]) + ".77"
    get_it = f"timeout 3 wget -q -O - http://{address}:8080/; [ $? = 0 ] || echo no"
    script = f"""
        {get_it}
        ip address add {other}/24 dev eth0; ip route replace {address} dev eth0 src {other}
        {get_it}
        ip route del {address}; ip address del {other}/24 dev eth0
        {get_it}
        ip link set eth0 address 02:00:00:00:00:77
        {get_it}"""
    out = micropod.ok("run", "--rm", "--network", "br", "--cap-add", "NET_ADMIN", micropod.busybox, "sh", "-c", script)
    assert out == "host-web\nno\nhost-web\nno\n"


def test_wrong_input(micropod, bridge, elsewhere):
    subnet = run("ip", "-4", "-br", "address", "show", bridge).split()[2]
    done = micropod("network", "create", "-d", "bridge", "--subnet", "192.168.231.0/25", "other")
    assert micropod.error(done) == "subnet 192.168.231.0/25 is another network's of this host: choose another"
    done = micropod("run", "--rm", "--network", "br", "--host-access", micropod.busybox, "true")
    assert micropod.error(done) == "option '--host-access' does not go with network 'br': on a bridge the gateway is the host itself"
    last = ".".join(subnet.split(".")[:3]) + ".253"
    assert "which no sandbox on network 'br' can have" in micropod.error(micropod("run", "--rm", "--network", "br", "--ip", last, micropod.busybox))
    assert micropod.error(micropod("network", "create", "-d", "macvlan", "other")) == "option '--driver' is 'macvlan': give user or bridge"


def test_who_is_not_root(ordinary):  # noqa: F811
    call, _ = ordinary
    before = links()
    done = call("network", "create", "-d", "bridge", "br")
    assert done.returncode == 125 and done.stderr == \
        "micropod: a network on a bridge needs root (or CAP_NET_ADMIN): leave '--driver bridge' out for one that needs no rights\n"
    assert call("network", "ls", "-q").stdout == "" and links() == before


def test_many_bytes(micropod, bridge):
    """Through the device both ways, whole."""
    address = serve(micropod, "box")
    micropod.ok("exec", "-d", "box", "sh", "-c", "nc -l -p 9000 -e cat")
    payload = os.urandom(1 << 20) * 8

    def connect():
        with contextlib.suppress(OSError):
            return socket.create_connection((address, 9000), timeout=60)
        return None
    conn = until(connect)
    with conn:
        threading.Thread(target=lambda: (conn.sendall(payload), conn.shutdown(socket.SHUT_WR))).start()
        assert conn.makefile("rb").read() == payload
