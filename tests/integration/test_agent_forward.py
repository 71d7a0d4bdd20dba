# SPDX-License-Identifier: Apache-2.0
"""Forward: connections to what listens beside the agent."""
import hashlib
import contextlib
import os
import queue
import random
import socket
import struct
import threading

import grpc
import pytest

from agent_fixture import Agent, generate, new_folder, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers on this host need root")


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    a = Agent(new_folder(), *generate(tmp_path_factory.mktemp("stubs")))
    a.box = a.sleeper()
    yield a
    assert a.stop() == 0


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request):
    with socket.create_server((request.param, 0), family=socket.AF_INET6 if ":" in request.param else socket.AF_INET) as s:
        s.settimeout(20)
        yield s


class Forward:
    """One call."""

    def __init__(self, agent, port, box=None):
        self.pb, self.requests = agent.pb, queue.Queue()
        self.requests.put(self.pb.ForwardRequest(target=self.pb.ForwardTarget(container_id=box or agent.box, port=port)))
        self.events = agent.stub.Forward(iter(self.requests.get, None), timeout=60)

    def send(self, data):
        self.requests.put(self.pb.ForwardRequest(data=data))

    def end(self):
        self.requests.put(None)

    def connected(self):
        assert next(self.events).WhichOneof("kind") == "connected"
        return self

    def read(self):
        """What comes up to the end of file."""
        data = b""
        for event in self.events:
            if event.WhichOneof("kind") == "eof":
                return data
            data += event.data
        raise AssertionError("no end of file")

    def code(self):
        with pytest.raises(grpc.RpcError) as e:
            list(self.events)
        self.end()
        return e.value.code(), e.value.details()


def sockets_of(agent):
    count = 0
    for name in os.listdir(f"/proc/{agent.process.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += os.readlink(f"/proc/{agent.process.pid}/fd/{name}").startswith("socket:")
    return count


def test_each_direction_ends_on_its_own(agent, listener):
    before = sockets_of(agent)
    call = Forward(agent, listener.getsockname()[1])
    call.send(b"early")  # before it is known whether anybody listens
    peer = listener.accept()[0]
    call.connected().end()
    assert peer.makefile("rb").read() == b"early"  # to the end
    peer.sendall(b"late")
    peer.shutdown(socket.SHUT_WR)
    assert call.read() == b"late"
    assert list(call.events) == []  # OK
    peer.close()

    call = Forward(agent, listener.getsockname()[1]).connected()
    peer = listener.accept()[0]
    peer.shutdown(socket.SHUT_WR)
    assert call.read() == b""
    call.send(b"still here")
    call.end()
    assert peer.makefile("rb").read() == b"still here"
    assert list(call.events) == []
    peer.close()
    wait_until(lambda: sockets_of(agent) == before)


def test_bytes_are_exact(agent, listener):
    """Both ways at once, in pieces of any size, by readers that are slow."""
    data = random.Random(7).randbytes(12 << 20)
    call = Forward(agent, listener.getsockname()[1]).connected()
    peer = listener.accept()[0]
    got = hashlib.sha256()

    def write():
        at, r = 0, random.Random(1)
        while at < len(data):
            n = r.choice((1, 700, 65536, 300000, 3 << 20))
            call.send(data[at:at + n])
            at += n
        call.end()

    def read():
        while chunk := peer.recv(10000):
            got.update(chunk)

    threads = [threading.Thread(target=f) for f in (write, read, lambda: (peer.sendall(data), peer.shutdown(socket.SHUT_WR)))]
    for t in threads:
        t.start()
    assert call.read() == data
    for t in threads:
        t.join(timeout=60)
    assert got.hexdigest() == hashlib.sha256(data).hexdigest()
    assert list(call.events) == []
    peer.close()


def test_who_does_not_read_stops_the_writer(agent, listener):
    """A peer that reads nothing costs the agent no memory, whichever side it is."""
    call = Forward(agent, listener.getsockname()[1]).connected()
    peer = listener.accept()[0]
    before = agent.rss_kib()
    for _ in range(64):
        call.send(bytes(1 << 20))
    peer.setblocking(False)
    sent = 0
    try:
        while sent < 256 << 20:
            sent += peer.send(bytes(1 << 20))
    except BlockingIOError:
        pass
    assert sent < 64 << 20
    # Another connection is not held up by it.
    other = Forward(agent, listener.getsockname()[1]).connected()
    second = listener.accept()[0]
    other.send(b"x")
    second.settimeout(20)
    assert second.recv(1) == b"x"
    assert agent.rss_kib() < before + 24 * 1024
    other.events.cancel()
    call.events.cancel()
    for f in (call, other):
        f.end()
    # A caller that goes away is a reset, not an end.
    second.settimeout(20)
    with pytest.raises(ConnectionResetError):
        second.recv(1)
    peer.close()
    second.close()


def test_reset_is_told(agent, listener):
    call = Forward(agent, listener.getsockname()[1]).connected()
    peer = listener.accept()[0]
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    code, details = call.code()
    assert code == grpc.StatusCode.ABORTED and details.endswith("broke: Connection reset by peer")


def test_refusals(agent):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    for target, expected in (
            (dict(port=port), (grpc.StatusCode.NOT_FOUND, f"cannot connect to port {port}: nothing listens there")),
            (dict(port=0), (grpc.StatusCode.INVALID_ARGUMENT, "a port is a number from 1 to 65535, not 0")),
            (dict(port=65536), (grpc.StatusCode.INVALID_ARGUMENT, "a port is a number from 1 to 65535, not 65536")),
            (dict(port=port, box="nosuch"), (grpc.StatusCode.NOT_FOUND, "no container 'nosuch'"))):
        assert Forward(agent, **target).code() == expected
    pb = agent.pb
    for messages, said in (([], "no message says where to"),
                           ([pb.ForwardRequest(data=b"x")], "the first message says where to, those behind it are data"),
                           ([pb.ForwardRequest()], "the first message says where to, those behind it are data")):
        with pytest.raises(grpc.RpcError) as e:
            list(agent.stub.Forward(iter(messages), timeout=20))
        assert (e.value.code(), e.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, said)


def test_second_target_ends_it(agent, listener):
    call = Forward(agent, listener.getsockname()[1]).connected()
    peer = listener.accept()[0]
    call.requests.put(call.pb.ForwardRequest(target=call.pb.ForwardTarget(container_id=agent.box, port=1)))
    assert call.code()[0] == grpc.StatusCode.INVALID_ARGUMENT
    peer.close()


def test_many_at_once(agent, listener):
    before = sockets_of(agent)
    calls, peers = [], []
    for _ in range(200):
        calls.append(Forward(agent, listener.getsockname()[1]).connected())
        peers.append(listener.accept()[0])
    for i, call in enumerate(calls):
        call.send(b"%d" % i)
        call.end()
    for i, peer in enumerate(peers):
        assert peer.makefile("rb").read() == b"%d" % i
        peer.close()
    for call in calls:
        assert call.read() == b"" and list(call.events) == []
    wait_until(lambda: sockets_of(agent) == before)
