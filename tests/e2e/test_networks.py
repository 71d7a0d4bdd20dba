# SPDX-License-Identifier: Apache-2.0
"""Networks with names: who finds whom, who does not, and how far a guest reaches."""
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import BOOT
from ordinary import ordinary  # noqa: F401 (a fixture)

SERVE = "mkdir -p /w; hostname > /w/index.html; exec httpd -f -p 8080 -h /w"


@pytest.fixture
def networks(micropod):
    yield lambda *words: micropod.ok("network", *words)
    micropod.clean()
    micropod.ok("network", "prune", "-f")


def serve(micropod, name, *words):
    micropod.ok("run", "-d", "--name", name, "--hostname", f"host-{name}", *words, micropod.busybox, "sh", "-c", SERVE)


def fetch(micropod, where, *words, code=0, port=8080):
    done = micropod("run", "--rm", *words, micropod.busybox, "sh", "-c", f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 4 {where} {port}")
    assert done.returncode == code, done
    return done.stdout.decode().splitlines()[-1] if done.stdout else ""


def address(micropod, box, network):
    return micropod.inspect(box)["NetworkSettings"]["Networks"][network]["IPAddress"]


def test_they_find_each_other_by_name(micropod, networks):
    assert networks("create", "front") == "front\n"
    serve(micropod, "web", "--network", "front", "--network-alias", "WWW")
    box = micropod.inspect("web")
    for where in ("web", "Web", "www", box["Id"][:12], address(micropod, "web", "front")):
        assert fetch(micropod, where, "--network", "front") == "host-web"
    out = micropod.ok("run", "--rm", "--network", "front", micropod.busybox, "sh", "-c",
                      "ping -c 2 -w 5 web >/dev/null && nslookup web; ip -o -4 addr show eth0; ip route; cat /etc/resolv.conf")
    assert "Address: 10.89." in out and "nameserver 10.89." in out and "10.0.2." not in out
    # A second name for one: both are told, and both answer.
    serve(micropod, "other", "--network", "front", "--network-alias", "www")
    out = micropod.ok("run", "--rm", "--network", "front", micropod.busybox, "nslookup", "www")
    assert address(micropod, "web", "front") in out and address(micropod, "other", "front") in out
    # A new name is known at once, the old one no more; who has ended has none.
    micropod.ok("rename", "web", "shop")
    assert fetch(micropod, "shop", "--network", "front") == "host-web"
    fetch(micropod, "web", "--network", "front", code=1)
    micropod.ok("stop", "-t", "0", "shop")
    fetch(micropod, "shop", "--network", "front", code=1)
    micropod.ok("start", "shop")
    assert fetch(micropod, "shop", "--network", "front") == "host-web"


def test_others_do_not(micropod, networks):
    networks("create", "one")
    networks("create", "two")
    serve(micropod, "web", "--network", "one")
    there = address(micropod, "web", "one")
    for words in (["--network", "two"], []):
        fetch(micropod, "web", *words, code=1)
        # Somebody else may have that address where the host is.
        done = micropod("run", "--rm", *words, micropod.busybox, "sh", "-c", f"nc -w 2 {there} 8080 </dev/null")
        assert b"host-web" not in done.stdout


def test_a_guest_has_its_own_address_only(micropod, networks):
    networks("create", "front")
    serve(micropod, "web", "--network", "front", "--ip", "10.89.0.20")
    assert address(micropod, "web", "front") == "10.89.0.20"
    done = micropod("run", "--rm", "--network", "front", "--ip", "10.89.0.20", micropod.busybox, "true")
    assert micropod.error(done) == "address 10.89.0.20 of network 'front' is another sandbox'"
    done = micropod("run", "--rm", "--network", "front", "--ip", "10.89.0.1", micropod.busybox, "true")
    assert micropod.error(done) == "option '--ip' is '10.89.0.1', which no sandbox on network 'front' can have"
    out = micropod("run", "--rm", "--privileged", "--network", "front", micropod.busybox, "sh", "-c", """
        ping -c 1 -w 3 10.89.0.20 >/dev/null && echo own
        ip addr add 10.89.0.99/24 dev eth0
        ping -c 1 -w 2 -I 10.89.0.99 10.89.0.20 >/dev/null || echo not another
        ip addr add 10.89.0.20/24 dev eth0
        ping -c 1 -w 2 -I 10.89.0.20 10.89.0.1 >/dev/null || echo not its""").stdout.decode()
    assert out == "own\nnot another\nnot its\n"
    # What another says in our name is not heard either: its own micropod-net drops it.
    assert fetch(micropod, "web", "--network", "front") == "host-web"


def test_how_far_it_reaches(micropod, networks):
    """What is out of reach is dropped, so a connection to it takes for ever. The rest depends on where the host has a way to."""
    networks("create", "--internal", "inside")
    reach = ("for a in 192.168.77.1 10.66.0.1 172.20.0.1 100.64.0.9 203.0.113.7 8.8.8.8; do "
             "timeout 1 nc $a 9 </dev/null >/dev/null 2>&1; [ $? = 143 ] && echo -n '- ' || echo -n '+ '; done")

    def reached(*words):
        return micropod.ok("run", "--rm", *words, micropod.busybox, "sh", "-c", reach).split()
    assert reached("--network", "inside") == ["-"] * 6
    private, public = reached("--network", "private-only"), reached("--network", "internet-only")
    assert private[4:] == ["-", "-"] and public[:4] == ["-"] * 4
    serve(micropod, "web", "--network", "inside")
    assert fetch(micropod, "web", "--network", "inside") == "host-web"
    done = micropod("run", "--rm", "--network", "inside", micropod.busybox, "nslookup", "example.com")
    assert done.returncode == 1 and b"NXDOMAIN" in done.stdout + done.stderr


@pytest.fixture
def address6():
    """One of this host's, other than the loopback's."""
    if os.geteuid() != 0:
        pytest.skip("adding an address needs root")
    address = "fd77:1::1"
    subprocess.run(["ip", "address", "add", f"{address}/128", "dev", "lo", "nodad"], check=True)
    yield address
    subprocess.run(["ip", "address", "del", f"{address}/128", "dev", "lo"], check=True)


class Server6(threading.Thread):
    """Says hello to each who comes."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.sock = socket.create_server((address, 0), family=socket.AF_INET6)
        self.port = self.sock.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                conn = self.sock.accept()[0]
            except OSError:
                return
            conn.sendall(b"hello\n")
            conn.close()

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def test_ipv6(micropod, networks, address6):
    outside, loopback = Server6(address6), Server6("::1")
    networks("create", "front")

    def asks(address, port, *words):
        done = micropod("run", "--rm", *words, micropod.busybox, "sh", "-c", f"timeout 3 nc {address} {port}; true")
        return done.stdout == b"hello\n"
    try:
        micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000")
        net = micropod.inspect("box")["NetworkSettings"]
        gateway = net["IPv6Gateway"]
        assert f"{net['GlobalIPv6Address']}/{net['GlobalIPv6PrefixLen']}" in micropod.ok("exec", "box", "ip", "-6", "address", "show", "eth0")
        assert asks(address6, outside.port) and asks(address6, outside.port, "--network", "front") and asks(address6, outside.port, "--kernel", "cloud")
        assert asks(address6, outside.port, "--network", "private-only") and not asks(address6, outside.port, "--network", "internet-only")
        assert not asks(address6, outside.port, "--network", "none")
        assert not asks(gateway, loopback.port) and asks(gateway, loopback.port, "--host-access")
        assert not asks("::1", loopback.port) and not asks("::ffff:127.0.0.1", loopback.port)
    finally:
        outside.close()
        loopback.close()


def test_published_ports_and_names_together(micropod, networks):
    networks("create", "front")
    serve(micropod, "web", "--network", "front", "-p", "127.0.0.1:0:8080")
    port = int(micropod.ok("port", "web", "8080/tcp").rsplit(":", 1)[1])
    assert fetch(micropod, "web", "--network", "front") == "host-web"  # it serves by now
    with socket.create_connection(("127.0.0.1", port), timeout=20) as c:
        c.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"host-web" in c.makefile("rb").read()


def test_many_bytes_and_a_slow_reader(micropod, networks):
    networks("create", "front")
    micropod.ok("run", "-d", "--name", "sink", "--network", "front", micropod.busybox, "sh", "-c",
                "for p in 7 9; do sleep 1000 | nc -l -p $p | md5sum > /sum$p & done; sleep 1000 | nc -l -p 8 | sleep 1000")
    micropod.ok("run", "-d", "--name", "src", "--network", "front", micropod.busybox, "sleep", "1000")
    # Port 8 is never read from: its window closes, and nothing else does.
    micropod.ok("exec", "-d", "src", "sh", "-c", "sleep 1000 | cat /dev/zero - | nc sink 8")
    make = "dd if=/dev/urandom of=/data bs=64k count=48 2>/dev/null; md5sum < /data; nc sink 7 < /data; nc sink 9 < /data"
    want = micropod.ok("exec", "src", "sh", "-c", make, timeout=BOOT)
    deadline = time.monotonic() + 30
    while micropod.ok("exec", "sink", "sh", "-c", "cat /sum7 /sum9") != want + want and time.monotonic() < deadline:
        time.sleep(0.3)
    assert micropod.ok("exec", "sink", "sh", "-c", "cat /sum7 /sum9") == want + want


def test_a_killed_network_process_takes_its_own_sandbox_only(micropod, networks):
    networks("create", "front")
    serve(micropod, "web", "--network", "front")
    serve(micropod, "gone", "--network", "front")
    os.kill(micropod.inspect("gone")["Micropod"]["NetPid"], signal.SIGKILL)
    assert micropod("wait", "gone", timeout=30).returncode == 0
    assert "network process" in micropod.inspect("gone")["State"]["Error"]
    assert fetch(micropod, "web", "--network", "front") == "host-web"
    # What it left in the network's folder is no member.
    fetch(micropod, "gone", "--network", "front", code=1)
    micropod.ok("start", "gone")
    assert fetch(micropod, "gone", "--network", "front") == "host-gone"


def test_verbs(micropod, networks):
    networks("create", "--label", "a=b", "--subnet", "172.30.0.0/16", "big")
    networks("create", "small")
    box = json.loads(networks("inspect", "big"))[0]
    assert (box["Name"], box["Driver"], box["Internal"], box["Labels"]) == ("big", "user", False, {"a": "b"})
    assert box["IPAM"]["Config"] == [{"Subnet": "172.30.0.0/16", "Gateway": "172.30.0.1"}] and box["Containers"] == {}
    assert networks("inspect", "-f", "{{.Id}}", box["Id"][:12]).strip() == box["Id"]
    lines = networks("ls").splitlines()
    assert lines[0].split() == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"] and [x.split()[1] for x in lines[1:]] == ["big", "small"]
    assert networks("ls", "-q", "-f", "label=a").strip() == box["Id"][:12]
    assert networks("ls", "--format", "{{.Name}}", "-f", "name=ma").strip() == "small"
    micropod.ok("create", "--name", "one", "--network", "big", micropod.busybox, "true")
    assert micropod.ok("ps", "-aq", "--filter", "network=big").strip()
    assert networks("ls", "--format", "{{.Name}}", "-f", "dangling=true").strip() == "small"
    assert json.loads(networks("inspect", "big"))[0]["Containers"] == {}  # it does not run
    error = micropod.error(micropod("network", "rm", "big"))
    assert error == "network 'big' is used by sandbox 'one': remove that first"
    assert networks("prune", "-f") == "Deleted network: small\n"
    micropod.ok("rm", "one")
    assert networks("rm", "big") == "big\n" and networks("ls", "-q") == ""
    assert not any((micropod.root / "networks").glob("[a-z]*"))


@pytest.mark.parametrize("words,error", [
    (["network", "create", "host"], "'host' is the name of a network that is always there"),
    (["network", "create", "x/y"], "'x/y' is no name of a network: use 2 to 64 letters, digits, '_', '.', '-', the first a letter or digit"),
    (["network", "create", "--subnet", "10.0.0.1/24", "net1"],
     "option '--subnet' is '10.0.0.1/24': give a network's address and 8 to 29 bits, such as 10.89.0.0/24"),
    (["network", "create", "-d", "overlay", "net1"], "option '--driver' is 'overlay': give user or bridge"),
    (["network", "rm", "nosuch"], "no such network: nosuch"),
    (["network", "inspect", "nosuch"], "no such network: nosuch"),
    (["run", "--network", "nosuch", "x"], "no such network: nosuch (micropod network create makes one)"),
    (["run", "--network", "host", "x"],
     "option '--network' is 'host': a VM has a network of its own; publish ports with -p, reach the host's loopback with --host-access"),
    (["run", "--ip", "10.89.0.9", "x"], "options '--ip' and '--network-alias' need a network with a name"),
], ids=lambda x: "_".join(x) if isinstance(x, list) else "")
def test_wrong_input(micropod, words, error):
    assert micropod.error(micropod(*words)) == error


def test_subnets_do_not_overlap(micropod, networks):
    networks("create", "--subnet", "10.89.0.0/20", "wide")
    networks("create", "next")
    assert json.loads(networks("inspect", "next"))[0]["IPAM"]["Config"][0]["Subnet"] == "10.89.16.0/24"
    error = micropod.error(micropod("network", "create", "--subnet", "10.89.16.128/25", "inner"))
    assert error == "subnet 10.89.16.128/25 overlaps with that of network 'next': choose another"
    assert micropod.error(micropod("network", "create", "next")) == "network 'next' is there already"
    networks("create", "--subnet", "10.90.0.0/29", "tiny")
    for i in range(4):
        micropod.ok("create", "--name", f"member-{i}", "--network", "tiny", micropod.busybox, "true")
    assert micropod.error(micropod("create", "--network", "tiny", micropod.busybox, "true")) == "no address of network 'tiny' is free"
    micropod.ok("rm", "member-1")
    micropod.ok("create", "--name", "again", "--network", "tiny", micropod.busybox, "true")
    assert address(micropod, "again", "tiny") == address(micropod, "again", "tiny")


def test_an_ordinary_user_has_them_too(ordinary):
    run, base = ordinary
    image = f"oci:{base}/busybox:latest"
    assert run("network", "create", "front").returncode == 0
    done = run("run", "-d", "--name", "web", "--network", "front", image, "sh", "-c", SERVE)
    assert done.returncode == 0, done
    done = run("run", "--rm", "--network", "front", image, "sh", "-c", "wget -q -O - http://web:8080/")
    assert done.returncode == 0 and len(done.stdout) == 13, done
