# SPDX-License-Identifier: Apache-2.0
"""Firecracker as the VMM: its API as its description has it, a real guest behind (tests/vmm)."""
import http.client
import json
import os
import pathlib
import socket
import subprocess
import time

import pytest

from test_control import test_another_name, test_processes, test_standing_still  # noqa: F401
from test_run import test_attach_without_a_terminal, test_exec, test_exit_codes, test_files_last_until_removal, test_leaving_an_exec  # noqa: F401
from test_run import test_output_of_one_that_ends_at_once, test_run_carries_bytes, test_signals_go_through, test_terminal, until  # noqa: F401

VMM = pathlib.Path(__file__).resolve().parents[1] / "vmm"


class NoNetwork:
    """`run` and `create` without a network, for who knows nothing of VMMs."""

    def __init__(self, micropod):
        self.micropod = micropod

    def __getattr__(self, name):
        return getattr(self.micropod, name)

    def words(self, words):
        return [words[0], "--network", "none", *words[1:]] if words[0] in ("run", "create") else words

    def __call__(self, *words, **kwargs):
        return self.micropod(*self.words(words), **kwargs)

    def ok(self, *words, **kwargs):
        return self.micropod.ok(*self.words(words), **kwargs)

    def popen(self, *words, **kwargs):
        return self.micropod.popen(*self.words(words), **kwargs)


@pytest.fixture(scope="module")
def micropod(micropod_root):
    env = {"MICROPOD_VMM": "firecracker", "MICROPOD_ACCEL": "kvm", "MICROPOD_FIRECRACKER": str(VMM / "firecracker"), "MICROPOD_DEBUG_UNCONFINED": "1"}
    before = dict(micropod_root.env)
    micropod_root.env.update(env)
    yield NoNetwork(micropod_root)
    micropod_root.env.clear()
    micropod_root.env.update(before)


def test_what_it_is(micropod):
    micropod.ok("run", "-d", "--name", "box", "-m", "300m", "--cpus", "2", micropod.busybox, "sleep", "1000")
    one = micropod.inspect("box")["Micropod"]
    assert one["Transport"] == "vsock" and one["VMM"] == "1.17.0-test" and one["Accel"] == "kvm"
    assert "firecracker" in pathlib.Path(f"/proc/{one['VMMPid']}/cmdline").read_text()
    words = micropod.ok("exec", "box", "cat", "/proc/cmdline").split()
    assert "micropod.disks=image,scratch" in words and "micropod.vsock" in words
    assert micropod.ok("exec", "box", "nproc") == "2\n"


def test_a_published_port(micropod):
    """By the agent, for there is no network."""
    micropod.ok("run", "-d", "--name", "box", "-p", "127.0.0.1:0:9000", micropod.busybox, "nc", "-ll", "-p", "9000", "-e", "cat")
    port = int(micropod.ok("port", "box", "9000/tcp").rsplit(":", 1)[1])

    def echoes():
        with socket.create_connection(("127.0.0.1", port), timeout=60) as conn:
            conn.sendall(b"hello")
            conn.shutdown(socket.SHUT_WR)
            return conn.makefile("rb").read() == b"hello"
    until(echoes)


def test_files_and_logs(micropod, tmp_path):
    data = os.urandom(300000)
    (tmp_path / "in").write_bytes(data)
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", "echo out; echo err >&2; trap 'exit 7' TERM; while :; do sleep 1; done")
    micropod.ok("cp", f"{tmp_path}/in", "box:/tmp/there")
    micropod.ok("cp", "box:/tmp/there", f"{tmp_path}/out")
    assert (tmp_path / "out").read_bytes() == data
    assert until(lambda: micropod.ok("logs", "box") == "out\n") is None
    micropod.ok("stop", "box")
    assert micropod.inspect("box")["State"]["ExitCode"] == 7
    micropod.ok("start", "box")
    assert micropod.ok("exec", "box", "md5sum", "/tmp/there") and micropod.inspect("box")["State"]["Status"] == "running"


@pytest.mark.parametrize("words, said", [
    (("-v", "/tmp:/w"), "Firecracker has no virtio-fs, which '-v' and '--rootfs virtiofs' need, and takes no disks while it runs: use --vmm qemu"),
    (("--rootfs", "virtiofs"), "Firecracker has no virtio-fs, which '-v' and '--rootfs virtiofs' need, and takes no disks while it runs: use --vmm qemu"),
    (("--accel", "tcg"), "Firecracker needs KVM: use --vmm qemu"),
])
def test_what_it_cannot(micropod, words, said):
    assert micropod.error(micropod("run", "--rm", *words, micropod.busybox, "true")) == said


def test_other_refusals(micropod):
    plain = micropod.micropod
    assert plain.error(plain("run", "--rm", plain.busybox, "true")) == \
        "Firecracker has no user-mode network: give '--network none', or use --vmm qemu"
    assert plain.error(plain("pod", "create", "pod")).startswith("Firecracker has no virtio-fs")
    done = micropod("run", "--rm", micropod.busybox, "true", env={"MICROPOD_FIRECRACKER": "", "PATH": "/nonexistent"})
    assert micropod.error(done).startswith("firecracker is not installed: get it from https://")
    assert micropod.error(plain("template", "build")) == "VMs of Firecracker go on from no template: they boot"
    said = micropod("doctor").stdout.decode()
    assert "1.17.0-test: vsock, balloon" in said and "virtio-fs" in said


@pytest.mark.parametrize("mischief, said", [
    ("refuses:/machine-config", "Firecracker refused PUT /machine-config (status 400): because the test says so"),
    ("refuses:/boot-source", "Firecracker refused PUT /boot-source (status 400): because the test says so"),
    ("refuses:/drives/image", "Firecracker refused PUT /drives/image (status 400): because the test says so"),
    ("refuses:/vsock", "Firecracker refused PUT /vsock (status 400): because the test says so"),
    ("refuses:/actions", "Firecracker refused PUT /actions (status 400): because the test says so"),
    ("dies:/machine-config", "Firecracker ended with status 3"),
    ("dies:/drives/scratch", "Firecracker ended with status 3"),
    ("dies:/actions", "Firecracker ended with status 3"),
    ("ends-at-once", "Firecracker ended with status 1"),
    ("no-socket", "Firecracker did not open its API in time"),
])
def test_every_way_to_fail(micropod, mischief, said):
    began = time.monotonic()
    done = micropod("run", "--name", "box", micropod.busybox, "true", env={"MICROPOD_TEST_VMM": mischief})
    assert said in micropod.error(done) and time.monotonic() - began < 40
    assert micropod.ok("ps", "-aq") == ""


def test_a_silent_one_is_not_waited_for_for_ever(micropod):
    began = time.monotonic()
    done = micropod("run", "--rm", micropod.busybox, "true", env={"MICROPOD_TEST_VMM": "silent:/actions", "MICROPOD_START_TIMEOUT": "5"})
    assert "the agent did not answer in time on port 1024 of unix:" in micropod.error(done) and time.monotonic() - began < 20


@pytest.mark.parametrize("who", ["VMMPid", "ShimPid"])
def test_killed(micropod, who):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000")
    os.kill(micropod.inspect("box")["Micropod"][who], 9)
    until(lambda: micropod.inspect("box")["State"]["Status"] in ("dead", "exited"))
    if who == "VMMPid":
        assert "Firecracker was killed by signal 9" in micropod.inspect("box")["State"]["Error"]


def test_its_description_is_kept(tmp_path):
    """The test's Firecracker refuses what the description does not allow: else the tests above would say nothing."""
    path = tmp_path / "api.sock"
    vmm = subprocess.Popen([VMM / "firecracker", "--api-sock", path])
    try:
        until(path.exists)

        def ask(method, route, body):
            conn = http.client.HTTPConnection("localhost")
            conn.sock = socket.socket(socket.AF_UNIX)
            conn.sock.connect(str(path))
            conn.request(method, route, json.dumps(body) if body is not None else None)
            answer = conn.getresponse()
            text = answer.read()
            conn.close()
            return answer.status, json.loads(text)["fault_message"] if text else ""
        assert ask("PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 256}) == (204, "")
        assert ask("PUT", "/machine-config", {"vcpu_count": 2}) == (400, "the body lacks mem_size_mib")
        assert ask("PUT", "/machine-config", {"vcpu_count": 99, "mem_size_mib": 256}) == (400, "the body.vcpu_count is 99, out of range")
        assert ask("PUT", "/machine-config", {"vcpu_count": "2", "mem_size_mib": 256}) == (400, "the body.vcpu_count is '2', no integer")
        assert ask("PUT", "/vsock", {"guest_cid": 3, "uds_path": "/x", "colour": 1}) == (400, "the body has no colour")
        assert ask("POST", "/vsock", {}) == (400, "POST is no method of /vsock")
        assert ask("PUT", "/vsocks", {})[1] == "there is no route /vsocks"
        assert ask("PUT", "/actions", {"action_type": "Dance"})[1].startswith("the body.action_type is 'Dance', none of")
        assert ask("PUT", "/actions", {"action_type": "InstanceStart"})[1] == "Cannot start microvm without kernel configuration."
    finally:
        vmm.kill()
        vmm.wait()
