# SPDX-License-Identifier: Apache-2.0
"""The agent joined over AF_VSOCK (enable_vsock): the same holds, and the guest's other ports are reached through a unix socket."""
import pathlib
import socket
import threading

import pytest

from conftest import IMAGES
from test_control import test_standing_still  # noqa: F401
from test_run import test_exec, test_exit_codes, test_leaving_an_exec, test_output_of_one_that_ends_at_once  # noqa: F401
from test_run import test_run_carries_bytes, test_signals_go_through, test_terminal, test_killed_processes_are_told, test_attach_without_a_terminal  # noqa: F401

SOFTWARE = f"oci:{IMAGES}/software:latest"
OURS = not pathlib.Path("/dev/vhost-vsock").exists()


@pytest.fixture(scope="module")
def micropod(micropod_root):
    micropod_root.env["MICROPOD_ENABLE_VSOCK"] = "true"
    yield micropod_root
    del micropod_root.env["MICROPOD_ENABLE_VSOCK"]


def transport(micropod, box):
    return micropod.inspect(box)["Micropod"]["Transport"]


@pytest.mark.parametrize("words", [(), ("--cold",), ("--kernel", "cloud"), ("--network", "none")])
def test_ways_to_start(micropod, words):
    micropod.ok("run", "-d", "--name", "box", *words, micropod.busybox, "sleep", "1000")
    assert transport(micropod, "box") == "vsock"
    assert micropod.ok("exec", "box", "echo", "hello") == "hello\n"
    micropod.ok("stop", "-t", "0", "box")
    micropod.ok("start", "box")
    assert transport(micropod, "box") == "vsock" and micropod.ok("exec", "box", "echo", "again") == "again\n"


def test_it_is_a_setting(micropod):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000", env={"MICROPOD_ENABLE_VSOCK": "false"})
    one = micropod.inspect("box")["Micropod"]
    assert one["Transport"] == "virtio-serial" and one["VsockPath"] == ""


def test_with_volumes_and_in_pods(micropod, tmp_path):
    (tmp_path / "file").write_text("hello\n")
    assert micropod.ok("run", "--rm", "-v", f"{tmp_path}:/w", micropod.busybox, "cat", "/w/file") == "hello\n"
    micropod.ok("pod", "create", "shared")
    micropod.ok("run", "-d", "--pod", "shared", "--name", "one", micropod.busybox, "sleep", "1000")
    assert transport(micropod, "shared") == "vsock" and micropod.ok("exec", "one", "echo", "there") == "there\n"
    micropod.ok("pod", "rm", "-f", "shared")


GUEST = """
import socket, sys, threading
def echo(conn):
    while data := conn.recv(65536):
        conn.sendall(data)
    conn.close()
def serve():
    s = socket.socket(socket.AF_VSOCK)
    s.bind((socket.VMADDR_CID_ANY, 5000))
    s.listen()
    print("listening", flush=True)
    while True:
        threading.Thread(target=echo, args=(s.accept()[0],)).start()
threading.Thread(target=serve, daemon=True).start()
for line in sys.stdin:
    try:
        s = socket.socket(socket.AF_VSOCK)
        s.connect((2, int(line)))
        s.sendall(b"from the guest")
        s.shutdown(socket.SHUT_WR)
        print("answer", s.recv(100).decode(), flush=True)
    except OSError as e:
        print("error", e.strerror, flush=True)
"""


@pytest.mark.skipif(not OURS, reason="the host's kernel serves vsock here, and no unix socket leads there")
def test_ports_of_the_guest_and_of_the_host(micropod):
    """As Firecracker has it: PATH leads to the guest's ports by CONNECT, PATH_PORT is the host's port."""
    box = micropod.popen("run", "-i", "--rm", "--name", "box", "--security-opt", "seccomp=unconfined", SOFTWARE, "python3", "-c", GUEST,
                         stdin=-1, stdout=-1, text=True)
    try:
        assert box.stdout.readline() == "listening\n"
        path = micropod.inspect("box")["Micropod"]["VsockPath"]
        dial_guest(path)
        box.stdin.write("6000\n")
        box.stdin.flush()
        assert box.stdout.readline() == "error Connection reset by peer\n"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{path}_6000")
            listener.listen()
            box.stdin.write("6000\n")
            box.stdin.flush()
            listener.settimeout(60)
            conn, _ = listener.accept()
            with conn, conn.makefile("rb") as stream:
                assert stream.read() == b"from the guest"
                conn.sendall(b"yes")
            assert box.stdout.readline() == "answer yes\n"
        pathlib.Path(f"{path}_6000").unlink()
    finally:
        box.stdin.close()
        box.wait(timeout=60)
        box.stdout.close()


def connect(path, port):
    conn = socket.socket(socket.AF_UNIX)
    conn.settimeout(120)
    conn.connect(path)
    conn.sendall(f"CONNECT {port}\n".encode())
    return conn


def dial_guest(path):
    with connect(path, 5001) as nobody:
        assert nobody.recv(100) == b""
    with connect(path, 1024) as agent:
        # It is there, but knows its callers by a key: HTTP/2 preface, empty settings, then it ends what shows none.
        assert agent.recv(3) == b"OK "
    conns = [connect(path, 5000) for _ in range(3)]
    payload = bytes(range(256)) * 8192  # 2 MiB, more than anything on the way holds
    for conn in conns:
        threading.Thread(target=lambda c=conn: (c.sendall(payload), c.shutdown(socket.SHUT_WR))).start()
    for conn in conns:
        with conn, conn.makefile("rb") as stream:
            assert stream.readline().startswith(b"OK ")
            assert stream.read() == payload
