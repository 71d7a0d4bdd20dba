# SPDX-License-Identifier: Apache-2.0
"""micropod-net: with a raw Ethernet client in Python, and with a real guest. Root runs them in a network namespace of its own."""
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
from vmtools import BUILD, TOOLS, Vm, as_user, gone, open_folder, prepare_guest

PROGRAM = BUILD / "src" / "net" / "micropod-net"
# Confined it cannot read its own /proc, which the leak checker of a sanitizer build would at its end.
ENV = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
GUEST, GATEWAY, DNS = "10.0.2.15", "10.0.2.2", "10.0.2.3"
MAC = bytes.fromhex("52550a00020f")


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Net:
    """One micropod-net with our end of its stream, and just enough of a guest's network stack."""

    def __init__(self, *args):
        self.sock, far = socket.socketpair()
        ready, told = os.pipe()
        self.process = subprocess.Popen([PROGRAM, f"--fd={far.fileno()}", f"--ready-fd={told}", *args],
                                        pass_fds=[far.fileno(), told], stderr=subprocess.PIPE, env=ENV)
        far.close()
        os.close(told)
        with os.fdopen(ready) as f:
            self.answer = f.read()
        self.ports = {int(i): int(p) for i, p in re.findall(r"^port (\d+) (\d+)$", self.answer, re.M)}
        self.sock.settimeout(5)
        self.buffer = b""
        self.gateway = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def send(self, frame):
        self.sock.sendall(struct.pack(">I", len(frame)) + frame)

    def receive(self, timeout=5):
        """The next frame, None when none comes in time."""
        self.sock.settimeout(timeout)
        while True:
            if len(self.buffer) >= 4:
                size = struct.unpack(">I", self.buffer[:4])[0]
                if len(self.buffer) >= 4 + size:
                    frame, self.buffer = self.buffer[4:4 + size], self.buffer[4 + size:]
                    if self.answers_arp(frame):
                        continue
                    return frame
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                return None
            if not data:
                raise AssertionError(f"micropod-net has ended: {self.process.wait()}")
            self.buffer += data

    def answers_arp(self, frame):
        """It looks for its guest before the first packet."""
        if frame[12:14] != b"\x08\x06" or frame[20:22] != b"\0\1":
            return False
        who, asked = frame[22:32], frame[38:42]
        if socket.inet_ntoa(asked) == GUEST:
            self.send(frame[6:12] + MAC + frame[12:20] + b"\0\2" + MAC + asked + who)
        return True

    def arp(self, address):
        self.send(b"\xff" * 6 + MAC + bytes.fromhex("0806000108000604") + b"\0\1" + MAC + socket.inet_aton(GUEST) +
                  b"\0" * 6 + socket.inet_aton(address))
        frame = self.receive(2)
        return frame[22:28] if frame else None

    def ip(self, to, proto, payload, source=GUEST):
        if self.gateway is None:
            self.gateway = self.arp(GATEWAY)
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, proto, 0, socket.inet_aton(source),
                           socket.inet_aton(to))
        head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
        self.send(self.gateway + MAC + b"\x08\0" + head + payload)

    def udp(self, to, port, data, source_port=40000):
        length = 8 + len(data)
        pseudo = socket.inet_aton(GUEST) + socket.inet_aton(to) + struct.pack(">BBH", 0, 17, length)
        head = struct.pack(">HHHH", source_port, port, length, 0)
        head = head[:6] + struct.pack(">H", checksum(pseudo + head + data) or 0xffff)
        self.ip(to, 17, head + data)

    def tcp(self, to, port, flags, seq=0, ack=0, data=b"", source_port=40000):
        pseudo = socket.inet_aton(GUEST) + socket.inet_aton(to) + struct.pack(">BBH", 0, 6, 20 + len(data))
        head = struct.pack(">HHIIBBHHH", source_port, port, seq & 0xffffffff, ack & 0xffffffff, 0x50, flags, 65535, 0, 0)
        head = head[:16] + struct.pack(">H", checksum(pseudo + head + data)) + head[18:]
        self.ip(to, 6, head + data)

    def packet(self, proto, timeout=5):
        """Payload of the next IPv4 packet of the protocol, None when none comes."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            frame = self.receive(left)
            if frame and frame[12:14] == b"\x08\0" and frame[23] == proto:
                return frame[14 + 20:14 + struct.unpack(">H", frame[16:18])[0]]
        return None

    def connects(self, to, port, source_port=40000, timeout=3):
        """Whether a connection is accepted: True, False for a refusal, None for silence."""
        self.tcp(to, port, 2, seq=1000, source_port=source_port)
        answer = self.packet(6, timeout)
        if answer is None:
            return None
        if answer[13] & 4:
            return False
        seq = struct.unpack(">I", answer[4:8])[0]
        self.tcp(to, port, 16, seq=1001, ack=seq + 1, source_port=source_port)
        return answer[13] & 0x12 == 0x12


class Listener:
    """Accepts TCP and takes UDP on one address and port, and says what it saw; answers "pong:" and what came."""

    def __init__(self, host, port=0):
        self.tcp = socket.create_server((host, port))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((host, self.port))
        self.accepted, self.datagrams = 0, []
        threading.Thread(target=self._tcp, daemon=True).start()
        threading.Thread(target=self._udp, daemon=True).start()

    def _tcp(self):
        while True:
            try:
                conn, _ = self.tcp.accept()
                self.accepted += 1
                data = conn.recv(1000)
                conn.sendall(b"pong:" + data)
                conn.close()
            except OSError:
                if self.tcp.fileno() < 0:
                    return

    def _udp(self):
        while True:
            try:
                data, peer = self.udp.recvfrom(2000)
            except OSError:
                return
            self.datagrams.append(data)
            self.udp.sendto(b"pong:" + data, peer)

    def close(self):
        self.tcp.close()
        self.udp.close()


def own_address():
    """An address of this host that is not the loopback's, None if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return s.getsockname()[0]


@pytest.fixture
def loopback():
    listener = Listener("127.0.0.1")
    yield listener
    listener.close()


@pytest.fixture
def outside():
    address = own_address()
    if not address:
        pytest.skip("this host has no address but the loopback's")
    listener = Listener(address)
    listener.address = address
    yield listener
    listener.close()


def test_gateway_answers():
    with Net() as net:
        assert net.answer == "ok\n"
        assert net.arp(GATEWAY)
        assert net.arp(DNS)


def test_outbound_tcp_and_udp(outside):
    with Net() as net:
        assert net.connects(outside.address, outside.port) is True
        net.udp(outside.address, outside.port, b"hello")
        assert net.packet(17)[8:] == b"pong:hello"


def test_host_loopback_is_shut(loopback):
    with Net() as net:
        assert net.connects(GATEWAY, loopback.port) is not True
        assert net.connects("127.0.0.1", loopback.port, 40001, 1) is None
        assert net.connects(DNS, loopback.port, 40002, 1) is None
        net.udp(GATEWAY, loopback.port, b"x")
        net.udp(DNS, loopback.port, b"x", 40003)
        net.udp("127.0.0.1", loopback.port, b"x", 40004)
        assert net.packet(17, 1) is None
    assert loopback.accepted == 0
    assert loopback.datagrams == []


def test_host_access_opens_it(loopback):
    with Net("--host-access") as net:
        assert net.connects(GATEWAY, loopback.port) is True
        net.udp(GATEWAY, loopback.port, b"hello")
        assert net.packet(17)[8:] == b"pong:hello"
        # Under its own address it stays shut.
        assert net.connects("127.0.0.1", loopback.port, 40001, 1) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="adding an address needs root")
def test_link_local_is_shut():
    address = "169.254.77.7"
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    try:
        listener = Listener(address)
        with Net("--host-access") as net:
            assert net.connects(address, listener.port, timeout=1) is None
            net.udp(address, listener.port, b"x")
            assert net.packet(17, 1) is None
        assert listener.accepted == 0 and listener.datagrams == []
        listener.close()
    finally:
        subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="another resolv.conf needs a mount")
def test_dns_goes_to_the_hosts_resolver():
    """A resolver on 127.0.0.53, as many hosts have: reachable for DNS, and for nothing else."""
    with open_folder() as tmp_path, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.53", 53))
        server.settimeout(5)
        resolv = tmp_path / "resolv.conf"
        resolv.write_text("nameserver 127.0.0.53\n")
        script = tmp_path / "run"
        script.write_text(f'#!/bin/sh\nmount --bind {resolv} /etc/resolv.conf && exec {PROGRAM} "$@"\n')
        script.chmod(0o755)
        sock, far = socket.socketpair()
        ready, told = os.pipe()
        process = subprocess.Popen(["unshare", "--mount", script, f"--fd={far.fileno()}", f"--ready-fd={told}"],
                                   pass_fds=[far.fileno(), told], env=ENV)
        far.close()
        os.close(told)
        net = Net.__new__(Net)
        net.sock, net.process, net.buffer, net.gateway = sock, process, b"", None
        with os.fdopen(ready) as f:
            assert f.read() == "ok\n"
        try:
            net.udp(DNS, 53, b"query")
            data, peer = server.recvfrom(100)
            assert data == b"query"
            server.sendto(b"answer", peer)
            assert net.packet(17)[8:] == b"answer"
        finally:
            sock.close()
            process.kill()
            process.wait()


def serve_guest(net, port):
    """As a guest, accept one TCP connection and give back what came, then close. Returns what came."""
    syn = net.packet(6)
    assert syn and syn[13] == 2, syn
    peer_port, guest_port, seq = struct.unpack(">HHI", syn[:8])
    assert guest_port == port
    net.tcp(GATEWAY, peer_port, 0x12, seq=5000, ack=seq + 1, source_port=port)
    while True:
        segment = net.packet(6)
        assert segment, "no data came"
        data = segment[(segment[12] >> 4) * 4:]
        if data:
            break
    net.tcp(GATEWAY, peer_port, 0x18, seq=5001, ack=seq + 1 + len(data), data=b"pong:" + data, source_port=port)
    return data


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_published_tcp_port(address):
    with Net("--publish=0:80") as net:
        with socket.create_connection((address, net.ports[0]), 5) as client:
            client.sendall(b"hello")
            assert serve_guest(net, 80) == b"hello"
            client.settimeout(5)
            assert client.recv(100) == b"pong:hello"


def test_published_on_one_ipv6_address():
    with Net("--publish=[::1]:0:80") as net:
        with socket.create_connection(("::1", net.ports[0]), 5) as client:
            client.sendall(b"six")
            assert serve_guest(net, 80) == b"six"


def reassemble(net):
    """The next UDP datagram, from its fragments."""
    parts, end = {}, None
    while end is None or sum(map(len, parts.values())) < end:
        frame = net.receive()
        assert frame, f"only {sorted(parts)} came"
        if frame[12:14] != b"\x08\0" or frame[23] != 17:
            continue
        field, = struct.unpack(">H", frame[20:22])
        assert checksum(frame[14:34]) == 0
        parts[(field & 0x1fff) * 8] = data = frame[34:14 + struct.unpack(">H", frame[16:18])[0]]
        if not field & 0x2000:
            end = (field & 0x1fff) * 8 + len(data)
        source = frame[26:30]
    datagram = b"".join(parts[key] for key in sorted(parts))
    pseudo = source + socket.inet_aton(GUEST) + struct.pack(">BBH", 0, 17, len(datagram))
    assert checksum(pseudo + datagram) == 0
    return socket.inet_ntoa(source), datagram


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("size", [0, 5, 1472, 1473, 9001])
def test_published_udp_port(address, size):
    data = os.urandom(size)
    with Net("--publish=0:53/udp") as net:
        net.arp(GATEWAY)
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(data, (address, net.ports[0]))
            source, datagram = reassemble(net)
            assert source == GATEWAY
            assert datagram[8:] == data
            peer, = struct.unpack(">H", datagram[:2])
            net.udp(GATEWAY, peer, b"answer", source_port=53)
            assert client.recvfrom(100)[0] == b"answer"


def test_published_udp_keeps_the_clients_address(outside):
    with Net("--publish=0:53/udp") as net, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        net.arp(GATEWAY)
        client.bind((outside.address, 0))
        client.settimeout(5)
        client.sendto(b"hello", (outside.address, net.ports[0]))
        source, datagram = reassemble(net)
        assert source == outside.address
        peer, = struct.unpack(">H", datagram[:2])
        assert peer == client.getsockname()[1]
        net.udp(source, peer, b"answer", source_port=53)
        assert client.recvfrom(100)[0] == b"answer"


def test_published_udp_answers_only_who_asked(loopback):
    """The port that clients on the loopback come through is no way to others there."""
    with Net("--publish=127.0.0.1:0:53/udp") as net, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        net.arp(GATEWAY)
        client.sendto(b"hello", ("127.0.0.1", net.ports[0]))
        reassemble(net)
        net.udp(GATEWAY, loopback.port, b"x", source_port=53)
        assert net.packet(17, 1) is None
        assert loopback.datagrams == []


def test_many_udp_clients_are_bounded():
    """LIMIT_NET_FLOWS"""
    with Net("--publish=127.0.0.1:0:53/udp") as net:
        net.arp(GATEWAY)
        seen = set()
        for i in range(1500):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"%d" % i, ("127.0.0.1", net.ports[0]))
                _, datagram = reassemble(net)
                assert datagram[8:] == b"%d" % i
                seen.add(datagram[:2])
        assert len(seen) > 1000
        assert rss(net.process.pid) < 16 * 1024


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_taken_port_is_named(udp):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as holder:
        holder.bind(("127.0.0.1", 0))
        if not udp:
            holder.listen()
        port = holder.getsockname()[1]
        suffix = "/udp" if udp else ""
        with Net(f"--publish=127.0.0.1:{port}:80{suffix}") as net:
            assert net.answer.startswith(f"error 98 {'UDP' if udp else 'TCP'} port {port} on 127.0.0.1 is already in use")
            assert f"pid {os.getpid()})" in net.answer
            assert net.process.wait(5) == 1
        with Net(f"--publish=127.0.0.1:{port}:80{'' if udp else '/udp'}") as net:
            assert net.answer.endswith("ok\n")


def test_two_sandboxes_do_not_share_a_port():
    for suffix in ("", "/udp"):
        with Net(f"--publish=0:80{suffix}") as first, Net(f"--publish={first.ports[0]}:80{suffix}") as second:
            assert second.answer.startswith("error 98 "), suffix


@pytest.mark.parametrize("args", [["--publish=x"], ["--publish=80:80:80:80"], ["--publish=9.9.9.9:0:80"], ["--publish=9.9.9.9:0:80/udp"]])
def test_wrong_ports_are_refused(args):
    with Net(*args) as net:
        assert re.match(r"error \d+ .*(no published port|no address of this host)", net.answer), net.answer
        assert net.process.wait(5) == 1


def rss(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1])


def test_flood_does_not_grow_it(outside):
    """A guest that opens flows without end and never reads: memory stays bounded, and LIMIT_NET_SOCKETS holds."""
    with Net("--publish=0:80") as net:
        net.gateway = net.arp(GATEWAY)
        before = rss(net.process.pid)
        net.sock.setblocking(False)
        frames = []
        real, net.send = net.send, lambda frame: frames.append(struct.pack(">I", len(frame)) + frame)
        for port in range(20000):
            net.udp(outside.address, outside.port, b"x" * 1000, 1024 + port)
        for port in range(20000):
            net.tcp(outside.address, outside.port, 2, seq=1, source_port=1024 + port)
        stream, sent, stuck = b"".join(frames), 0, time.monotonic()
        deadline = time.monotonic() + 60
        while sent < len(stream) and time.monotonic() < min(deadline, stuck + 3):
            try:
                sent += net.sock.send(stream[sent:sent + 65536])
                stuck = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        assert net.process.poll() is None
        grown = rss(net.process.pid) - before
        assert grown < 64 * 1024, f"{grown} KiB more, {sent} of {len(stream)} bytes taken"
        assert len(os.listdir(f"/proc/{net.process.pid}/fd")) <= 4096


def test_broken_framing_ends_it():
    for junk in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
        with Net() as net:
            net.sock.sendall(junk)
            assert net.process.wait(5) == 1


def test_hostile_frames_do_not_harm(outside):
    import random
    rng = random.Random(7)
    with Net() as net:
        assert net.arp(GATEWAY)
        for _ in range(20000):
            frame = bytearray(rng.randbytes(rng.randrange(1, 1600)))
            if len(frame) > 34:
                frame[0:14] = net.gateway or b"RU\n\0\2\2" + MAC + rng.choice([b"\x08\0", b"\x08\6", b"\x86\xdd"])
                frame[14] = rng.choice([0x45, 0x46, 0x4f, 0x60])
                frame[16:18] = struct.pack(">H", len(frame) - 14)
                frame[23] = rng.choice([1, 2, 6, 17])
                frame[26:30] = socket.inet_aton(GUEST)
                frame[30:34] = socket.inet_aton(rng.choice([GATEWAY, DNS, outside.address, "169.254.1.1"]))
            net.send(bytes(frame))
        assert net.process.poll() is None
        net.buffer = b""
    with Net() as net:
        assert net.connects(outside.address, outside.port) is True


def test_ends_with_the_vmm():
    with Net() as net:
        net.sock.close()
        assert net.process.wait(5) == 0


@pytest.mark.parametrize("user", [False, True] if os.geteuid() == 0 else [True])
def test_started_by_a_shim_and_dies_with_it(user):
    argv = [TOOLS / "net-run", PROGRAM, "127.0.0.1:0:80", "0:53/udp"]
    shim = subprocess.Popen(as_user(argv) if user else argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            env=ENV)
    try:
        pid, tcp, udp = (int(shim.stdout.readline().split()[1]) for _ in range(3))
        socket.create_connection(("127.0.0.1", tcp), 5).close()
        taken = subprocess.run([TOOLS / "net-run", PROGRAM, f"{udp}:53/udp"], stdin=subprocess.DEVNULL,
                               capture_output=True, text=True, env=ENV)
        assert taken.stdout.startswith(f"error UDP port {udp} on all addresses is already in use"), taken
    finally:
        shim.kill()
        shim.wait()
    assert gone(pid)


def test_program_that_is_missing():
    run = subprocess.run([TOOLS / "net-run", "/nonexistent/micropod-net"], stdin=subprocess.DEVNULL, capture_output=True,
                         text=True)
    assert run.stdout.startswith("error cannot start the network: cannot execute '/nonexistent/micropod-net'")


def test_has_no_rights():
    with Net("--publish=0:80") as net:
        pid = net.process.pid
        with open(f"/proc/{pid}/status") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(status[name], 16) == 0, name
        assert status["NoNewPrivs"] == "1"
        assert "0" not in status["Uid"].split()


@pytest.fixture(scope="module")
def guest():
    with open_folder() as folder:
        yield prepare_guest(folder)


def test_with_a_real_guest(guest, loopback, outside):
    sock, far = socket.socketpair()
    ready, told = os.pipe()
    process = subprocess.Popen([PROGRAM, f"--fd={far.fileno()}", f"--ready-fd={told}", "--publish=0:7777",
                                "--publish=0:7777/udp"], pass_fds=[far.fileno(), told], env=ENV)
    far.close()
    os.close(told)
    with os.fdopen(ready) as f:
        tcp, udp = (int(p) for _, p in re.findall(r"port (\d) (\d+)", f.read()))
    try:
        with Vm(*guest, "--net-fd", sock.fileno(), pass_fds=[sock.fileno()]) as vm:
            sock.close()
            vm.greeted()
            assert vm.ask("net") == "up"
            assert vm.ask(f"tcp {outside.address} {outside.port} hello") == "pong:hello"
            assert vm.ask(f"tcp {GATEWAY} {loopback.port} hello") in ("Connection refused", "Network is unreachable")
            assert loopback.accepted == 0
            assert vm.ask("serve 7777") == "serving"
            with socket.create_connection(("localhost", tcp), 5) as client:
                client.settimeout(10)
                client.sendall(b"knock")
                assert client.recv(100) == b"pong:knock"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(10)
                client.sendto(b"knock", ("127.0.0.1", udp))
                assert client.recvfrom(100)[0] == b"pong:knock"
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


# Networks with names: the folder where micropod-nets meet, with peers made here

BUS = "10.89.0.2"


class Member(Net):
    """One on 10.89.0.0/24, whose guest is 10.89.0.2."""

    def __init__(self, folder, *args):
        super().__init__(f"--address={BUS}/24", f"--bus={folder}", f"--mac={MAC.hex()}", "--name=Own", *args)

    def arp(self, address, source=BUS):
        self.send(b"\xff" * 6 + MAC + bytes.fromhex("0806000108000604") + b"\0\1" + MAC + socket.inet_aton(source) +
                  b"\0" * 6 + socket.inet_aton(address))
        frame = self.receive(0.5)
        return frame[22:28] if frame else None

    def ip(self, to, proto, payload, source=BUS):
        self.gateway = self.gateway or b"\x52\x55" + socket.inet_aton("10.89.0.1")
        super().ip(to, proto, payload, source)


def packet(source, to, size=8):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + size, 1, 0, 64, 200, 0, socket.inet_aton(source), socket.inet_aton(to))
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + b"x" * size


def peer(folder, number):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = folder / f"10.89.0.{number}"
    sock.bind(str(path))
    path.chmod(0o777)
    sock.settimeout(2)
    return sock


@pytest.fixture
def bus():
    with open_folder() as folder:
        place = folder / "bus"
        place.mkdir()
        place.chmod(0o777)
        yield place


def test_members_by_the_hundred(bus):
    """More than a member has lines to at a time (LIMIT_NET_PEERS, 64): the longest unused one makes room."""
    peers = {i: peer(bus, i) for i in range(10, 110)}
    with Member(bus) as net:
        for _ in range(2):
            for i, sock in peers.items():
                assert net.arp(f"10.89.0.{i}") == b"\x52\x55" + socket.inet_aton(f"10.89.0.{i}")
                net.ip(f"10.89.0.{i}", 200, b"hello")
                assert sock.recv(2000)[20:] == b"hello"
        assert len(os.listdir(f"/proc/{net.process.pid}/fd")) < 64 + 20
        # One that has gone is nobody; one that comes again is found again.
        peers[10].close()
        assert net.arp("10.89.0.10") is None
        (bus / "10.89.0.10").unlink()
        peers[10] = peer(bus, 10)
        net.ip("10.89.0.10", 200, b"again")
        assert peers[10].recv(2000)[20:] == b"again"
    for sock in peers.values():
        sock.close()


def test_what_a_member_is_sent(bus):
    other = peer(bus, 9)
    with Member(bus) as net:
        def heard(data):
            other.sendto(data, str(bus / BUS))
            frame = net.receive(0.3)
            return frame and frame[14:]
        good = packet("10.89.0.9", BUS)
        frame = heard(good)
        assert frame == good
        # Not for it, from its gateway, resolver or itself, from elsewhere, cut off, too long, no packet at all.
        for bad in (packet("10.89.0.9", "10.89.0.3"), packet("10.89.0.1", BUS), packet("10.89.0.254", BUS), packet(BUS, BUS),
                    packet("10.0.0.9", BUS), good[:19], b"", packet("10.89.0.9", BUS, 1481), b"\x60" + good[1:],
                    good[:2] + b"\xff\xff" + good[4:]):
            assert heard(bad) is None, bad
        assert heard(good) == good
    other.close()


def test_a_full_member_slows_nobody(bus):
    deaf, other = peer(bus, 9), peer(bus, 10)
    with Member(bus) as net:
        for i in range(3000):
            net.ip("10.89.0.9", 200, struct.pack(">I", i) + b"x" * 1000)
        net.ip("10.89.0.10", 200, b"hello")
        assert other.recv(2000)[20:] == b"hello"
        # What was kept for it comes in order; what did not fit is lost.
        numbers = []
        deaf.settimeout(0.5)
        while True:
            try:
                numbers.append(struct.unpack(">I", deaf.recv(2000)[20:24])[0])
            except TimeoutError:
                break
        assert numbers == sorted(set(numbers)) and 500 < len(numbers) < 3000
    for sock in (deaf, other):
        sock.close()


def test_names_of_a_network(bus):
    def ask(net, name, kind=1):
        question = b"".join(bytes([len(x)]) + x.encode() for x in name.split(".")) + b"\0" + struct.pack(">HH", kind, 1)
        net.udp("10.89.0.254", 53, struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + question)
        frame = net.receive(2)
        answer = frame[42:]
        return answer[3] & 15, [socket.inet_ntoa(answer[i - 4:i]) for i in range(len(answer), 12 + len(question), -16)]

    other = peer(bus, 9)
    (bus / "10.89.0.9=web").touch()
    (bus / "10.89.0.8=gone").touch()
    (bus / "nonsense=web").touch()
    with Member(bus, "--reach=nowhere") as net:
        net.udp = lambda to, port, data: Member.ip(net, to, 17, struct.pack(">HHHH", 40000, port, 8 + len(data), 0) + data)
        assert ask(net, "web") == ask(net, "WEB") == (0, ["10.89.0.9"])
        assert ask(net, "own") == (0, [BUS])
        assert ask(net, "web", 28) == (0, [])
        assert ask(net, "gone") == ask(net, "nosuch.example") == (3, [])
    other.close()


def test_what_an_earlier_member_left(bus):
    """It was killed: socket and names are still there, and the next one with this address takes their place."""
    with Member(bus) as net:
        net.process.kill()
        net.process.wait()
    assert sorted(os.listdir(bus)) == [BUS, f"{BUS}=own"]
    (bus / f"{BUS}=old").touch()
    (bus / "10.89.0.20").touch()
    with Member(bus) as net:
        assert sorted(os.listdir(bus)) == sorted([BUS, f"{BUS}=own", "10.89.0.20"])
        assert net.arp("10.89.0.20") is None
