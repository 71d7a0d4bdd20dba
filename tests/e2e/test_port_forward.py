# SPDX-License-Identifier: Apache-2.0
"""port-forward: ports of a sandbox that nobody has published."""
import concurrent.futures
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time

import pytest


class Forwarding:
    """A port-forward that runs; ports: the local ones, as it prints them."""

    def __init__(self, micropod, *words):
        self.child = micropod.popen("port-forward", *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines = [self.child.stdout.readline().decode() for _ in words]
        self.ports = [int(line.split(" -> ")[0].rpartition(":")[2]) for line in self.lines if line]

    def end(self, sig=signal.SIGTERM):
        if sig:
            self.child.send_signal(sig)
        said = self.child.communicate(timeout=30)[1].decode()
        return self.child.returncode, said


def talk(port, data):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        return s.makefile("rb").read()


@pytest.fixture
def echo(micropod):
    """Echoes on port 7 of a sandbox without a network device."""
    micropod.ok("run", "-d", "--name", "box", "--network", "none", micropod.busybox, "nc", "-ll", "-p", "7", "-e", "cat")
    deadline = time.monotonic() + 20
    while micropod("exec", "box", "sh", "-c", "grep -q ':0007 .* 0A ' /proc/net/tcp /proc/net/tcp6").returncode:
        assert time.monotonic() < deadline
    return micropod


def test_bytes_and_ends(echo):
    f = Forwarding(echo, "0:box:7", "[::1]:0:box:7")
    assert f.lines == [f"127.0.0.1:{f.ports[0]} -> box:7\n", f"[::1]:{f.ports[1]} -> box:7\n"]
    assert talk(f.ports[0], b"hello") == b"hello"
    data = random.Random(3).randbytes(3 << 20)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        # The echo blocks once nobody reads: both ways at once.
        def both(i):
            with socket.create_connection(("127.0.0.1", f.ports[0]), timeout=60) as s:
                writer = pool.submit(lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
                got = s.makefile("rb").read()
                writer.result()
                return got
        assert both(0) == data
    # No more at once: nc listens with a backlog of 2, and those beyond it may wait for ever.
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda i: talk(f.ports[0], b"%d" % i * 1000), range(60))) == [b"%d" % i * 1000 for i in range(60)]
    assert f.end(signal.SIGINT) == (130, "")


def test_nobody_listens(echo):
    f = Forwarding(echo, "0:box:8")
    assert talk(f.ports[0], b"") == b""
    # It goes on: something may listen later.
    assert talk(f.ports[0], b"") == b""
    code, said = f.end()
    assert (code, said) == (143, "micropod: sandbox 'box': cannot connect to port 8: nothing listens there\n" * 2)


@pytest.mark.parametrize("how", ["stop", "kill -9"])
def test_end_of_the_sandbox_ends_it(echo, how):
    f = Forwarding(echo, "0:box:7")
    with socket.create_connection(("127.0.0.1", f.ports[0]), timeout=30) as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        if how == "stop":
            echo.ok("stop", "-t", "1", "box")
        else:
            os.kill(int(re.search(r'"ShimPid": (\d+)', echo.ok("inspect", "box"))[1]), signal.SIGKILL)
        code, said = f.end(sig=None)
        assert code == 125 and said.startswith("micropod: sandbox 'box' "), said
        # What the program itself closed is at its end, what was cut is not.
        if how == "stop":
            assert s.recv(1) == b""
        else:
            with pytest.raises(ConnectionResetError):
                s.recv(1)


def test_wrong_words(echo):
    for words, said in (
            (["box"], "'box' is no port to forward: give [[IP:]LOCAL:]SANDBOX:PORT, such as 8080:web:80"),
            (["80:box:0"], "'80:box:0' is no port to forward"), (["80:box:65536"], "'80:box:65536' is no port"),
            (["x:box:80"], "'x:box:80' is no port"), (["localhost:80:box:80"], "'localhost:80:box:80' is no port"),
            ([":80"], "':80' is no port"), (["[::1:0:box:80"], "'[::1:0:box:80' is no port"),
            (["0:nosuch:80"], "no such sandbox: nosuch"), (["192.0.2.1:0:box:7"], "cannot listen on tcp:192.0.2.1:0")):
        assert echo.error(echo("port-forward", *words)).startswith(said)
    assert "needs an argument" in echo.error(echo("port-forward"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}" in echo.error(echo("port-forward", f"{port}:box:7"))
    echo.ok("create", "--name", "idle", echo.busybox, "true")
    assert "two sandboxes" in echo.error(echo("port-forward", "0:box:7", "0:idle:7"))
    assert "is not running" in echo.error(echo("port-forward", "0:idle:7"))


def test_published_without_a_network(micropod):
    """By the agent: on a free port and a given one, both ways, many at once; nobody else may have it meanwhile."""
    micropod.ok("run", "-d", "--name", "box", "--network", "none", "-p", "127.0.0.1:0:9000", "-p", "9001", micropod.busybox, "sh", "-c",
                "nc -ll -p 9001 -e cat & exec nc -ll -p 9000 -e cat")
    port = int(micropod.ok("port", "box", "9000/tcp").rsplit(":", 1)[1])
    assert micropod.ok("exec", "box", "ls", "/sys/class/net") == "lo\n"
    payload = os.urandom(1 << 20)

    def ask(address, number):
        deadline = time.monotonic() + 30
        while True:
            with socket.create_connection((address, number), timeout=60) as conn:
                with contextlib.suppress(OSError):
                    threading.Thread(target=lambda: (conn.sendall(payload), conn.shutdown(socket.SHUT_WR)), daemon=True).start()
                    if conn.makefile("rb").read() == payload:
                        return True
            assert time.monotonic() < deadline
    assert ask("127.0.0.1", port)
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        assert all(pool.map(lambda _: ask("127.0.0.1", port), range(5)))
    other = int(micropod.ok("port", "box", "9001/tcp").splitlines()[0].rsplit(":", 1)[1])
    assert ask("127.0.0.1", other) and ask("::1", other)
    said = micropod.error(micropod("run", "--rm", "--network", "none", "-p", f"127.0.0.1:{port}:80", micropod.busybox, "true"))
    assert said.startswith(f"TCP port {port} on 127.0.0.1 is already in use (held by micropod-shim, pid ")
    micropod.ok("stop", "-t", "0", "box")
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    micropod.ok("start", "box")
    assert ask("127.0.0.1", int(micropod.ok("port", "box", "9000/tcp").rsplit(":", 1)[1]))
