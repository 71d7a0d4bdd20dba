# SPDX-License-Identifier: Apache-2.0
"""Other VMMs than QEMU: their APIs as their descriptions have them, a real guest behind (tests/vmm)."""
import contextlib
import http.client
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time

import pytest

from conftest import Micropod
from test_control import test_standing_still  # noqa: F401
from test_run import test_attach_without_a_terminal, test_exec, test_run_carries_bytes, test_signals_go_through, test_terminal, until  # noqa: F401

VMM = pathlib.Path(__file__).resolve().parents[1] / "vmm"


class NoNetwork:
    """`run` and `create` without a network, for who knows nothing of VMMs."""

    def __init__(self, micropod, word):
        self.micropod, self.word = micropod, word
        self.title, self.version, self.first, self.middle, self.last = WORDS[word]

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


WORDS = {"firecracker": ("Firecracker", "1.17.0-test", "/machine-config", "/drives/scratch", "/actions"),
         "cloud-hypervisor": ("Cloud Hypervisor", "52.0-test", "/vm.create", "/vm.create", "/vm.boot")}


@pytest.fixture(scope="module", params=sorted(WORDS))
def micropod(request):
    with tempfile.TemporaryDirectory(prefix="micropod-e2e-") as folder:
        micropod = Micropod(folder)
        micropod.env.update(MICROPOD_VMM=request.param, MICROPOD_ACCEL="kvm", MICROPOD_DEBUG_UNCONFINED="1",
                            MICROPOD_FIRECRACKER=str(VMM / "firecracker"), MICROPOD_CLOUD_HYPERVISOR=str(VMM / "cloud-hypervisor"))
        yield NoNetwork(micropod, request.param)
        micropod.close()


def test_what_it_is(micropod):
    micropod.ok("run", "-d", "--name", "box", "-m", "300m", "--cpus", "2", micropod.busybox, "sleep", "1000")
    one = micropod.inspect("box")["Micropod"]
    assert one["Transport"] == "vsock" and one["VMM"] == micropod.version and one["Accel"] == "kvm"
    assert micropod.word in pathlib.Path(f"/proc/{one['VMMPid']}/cmdline").read_text()
    words = micropod.ok("exec", "box", "cat", "/proc/cmdline").split()
    assert ("micropod.disks=image,scratch" in words) == (micropod.word == "firecracker") and "micropod.vsock" in words
    assert micropod.ok("exec", "box", "nproc") == "2\n"


def test_a_published_port(micropod):
    """By the agent, for there is no network."""
    micropod.ok("run", "-d", "--name", "box", "-p", "127.0.0.1:0:9000", micropod.busybox, "nc", "-ll", "-p", "9000", "-e", "cat")
    port = int(micropod.ok("port", "box", "9000/tcp").rsplit(":", 1)[1])

    def echoes():
        # Until it listens, who comes is reset.
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=60) as conn:
            conn.sendall(b"hello")
            conn.shutdown(socket.SHUT_WR)
            return conn.makefile("rb").read() == b"hello"
        return False
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
    (("-v", "/tmp:/w"), "has no virtio-fs, which '-v' and '--rootfs virtiofs' need, and takes no disks while it runs: use --vmm qemu"),
    (("--rootfs", "virtiofs"), "has no virtio-fs, which '-v' and '--rootfs virtiofs' need, and takes no disks while it runs: use --vmm qemu"),
    (("--accel", "tcg"), "needs KVM: use --vmm qemu"),
])
def test_what_it_cannot(micropod, words, said):
    assert micropod.error(micropod("run", "--rm", *words, micropod.busybox, "true")) == f"{micropod.title} {said}"


def test_other_refusals(micropod):
    plain = micropod.micropod
    assert plain.error(plain("run", "--rm", plain.busybox, "true")) == \
        f"{micropod.title} has no user-mode network: give '--network none', or use --vmm qemu"
    assert plain.error(plain("pod", "create", "pod")).startswith(f"{micropod.title} has no virtio-fs")
    done = micropod("run", "--rm", micropod.busybox, "true", env={"MICROPOD_FIRECRACKER": "", "MICROPOD_CLOUD_HYPERVISOR": "", "PATH": "/nonexistent"})
    assert micropod.error(done).startswith(f"{micropod.word} is not installed: get it from https://")
    assert micropod.error(plain("template", "build")) == f"VMs of {micropod.title} go on from no template: they boot"
    said = micropod("doctor").stdout.decode()
    assert f"{micropod.version}: vsock, balloon" in said and "virtio-fs" in said


@pytest.mark.parametrize("mischief, said", [
    ("refuses:first", "{title} refused PUT {route} (status 400): "),
    ("refuses:middle", "{title} refused PUT {route} (status 400): "),
    ("refuses:last", "{title} refused PUT {route} (status 400): "),
    ("dies:first", "{title} ended with status 3"),
    ("dies:middle", "{title} ended with status 3"),
    ("dies:last", "{title} ended with status 3"),
    ("ends-at-once", "{title} ended with status 1"),
    ("no-socket", "{title} did not open its API in time"),
])
def test_every_way_to_fail(micropod, mischief, said):
    began = time.monotonic()
    what, _, which = mischief.partition(":")
    route = getattr(micropod, which) if which else ""
    done = micropod("run", "--name", "box", micropod.busybox, "true", env={"MICROPOD_TEST_VMM": f"{what}:{route}" if which else what})
    assert said.format(title=micropod.title, route=route) in micropod.error(done) and time.monotonic() - began < 40
    if what == "refuses":
        assert "because the test says so" in micropod.error(done)
    assert micropod.ok("ps", "-aq") == ""


def test_a_silent_one_is_not_waited_for_for_ever(micropod):
    began = time.monotonic()
    done = micropod("run", "--rm", micropod.busybox, "true", env={"MICROPOD_TEST_VMM": f"silent:{micropod.last}", "MICROPOD_START_TIMEOUT": "5"})
    assert "the agent did not answer in time on port 1024 of unix:" in micropod.error(done) and time.monotonic() - began < 20


@pytest.mark.parametrize("who", ["VMMPid", "ShimPid"])
def test_killed(micropod, who):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000")
    os.kill(micropod.inspect("box")["Micropod"][who], 9)
    until(lambda: micropod.inspect("box")["State"]["Status"] in ("dead", "exited"))
    if who == "VMMPid":
        assert f"{micropod.title} was killed by signal 9" in micropod.inspect("box")["State"]["Error"]


def test_a_panic_is_told(micropod):
    """Whether the VMM ends then or not."""
    micropod.ok("run", "-d", "--name", "box", "--privileged", micropod.busybox, "sh", "-c", "sleep 1; echo c > /proc/sysrq-trigger; sleep 100")
    until(lambda: micropod.inspect("box")["State"]["Status"] in ("dead", "exited"))
    assert "panicked" in micropod.inspect("box")["State"]["Error"]


class Api:
    def __init__(self, program, path, *words, base=""):
        self.path, self.base = path, base
        self.vmm = subprocess.Popen([VMM / program, *words])
        until(path.exists)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.vmm.kill()
        self.vmm.wait()

    def __call__(self, method, route, body=None):
        conn = http.client.HTTPConnection("localhost")
        conn.sock = socket.socket(socket.AF_UNIX)
        conn.sock.connect(str(self.path))
        conn.request(method, self.base + route, json.dumps(body) if body is not None else None)
        answer = conn.getresponse()
        text = answer.read()
        conn.close()
        said = json.loads(text) if text else ""
        return answer.status, said["fault_message"] if isinstance(said, dict) and "fault_message" in said else said[0] if said else ""


def test_firecrackers_description_is_kept(tmp_path):
    """The test's VMM refuses what the description does not allow: else the tests above would say nothing."""
    path = tmp_path / "api.sock"
    with Api("firecracker", path, "--api-sock", path) as ask:
        assert ask("PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 256}) == (204, "")
        assert ask("PUT", "/machine-config", {"vcpu_count": 2}) == (400, "the body lacks mem_size_mib")
        assert ask("PUT", "/machine-config", {"vcpu_count": 99, "mem_size_mib": 256}) == (400, "the body.vcpu_count is 99, out of range")
        assert ask("PUT", "/machine-config", {"vcpu_count": "2", "mem_size_mib": 256}) == (400, "the body.vcpu_count is '2', no integer")
        assert ask("PUT", "/vsock", {"guest_cid": 3, "uds_path": "/x", "colour": 1}) == (400, "the body has no colour")
        assert ask("POST", "/vsock", {}) == (400, "POST is no method of /vsock")
        assert ask("PUT", "/vsocks", {})[1] == "there is no route /vsocks"
        assert ask("PUT", "/actions", {"action_type": "Dance"})[1].startswith("the body.action_type is 'Dance', none of")
        assert ask("PUT", "/actions", {"action_type": "InstanceStart"})[1] == "Cannot start microvm without kernel configuration."


def test_cloud_hypervisors_description_is_kept(tmp_path):
    path = tmp_path / "api.sock"
    with Api("cloud-hypervisor", path, "--api-socket", f"path={path}", base="/api/v1") as ask:
        assert ask("PUT", "/vm.boot") == (400, "VM is not created")
        assert ask("PUT", "/vm.create", {"cpus": {"boot_vcpus": 1, "max_vcpus": 1}}) == (400, "the body lacks payload")
        assert ask("PUT", "/vm.create", {"payload": {}, "vsock": {"cid": 2, "socket": "/x"}}) == (400, "the body.vsock.cid is 2, out of range")
        assert ask("PUT", "/vm.create", {"payload": {"kernel": 1}}) == (400, "the body.payload.kernel is 1, no string")
        assert ask("PUT", "/vm.create") == (400, "/vm.create wants a body")
        assert ask("PUT", "/vm.boot", {}) == (400, "/vm.boot takes no body")
        assert ask("PUT", "/vm.dance")[1] == "there is no route /api/v1/vm.dance"
        assert ask("PUT", "/vm.create", {"payload": {"kernel": "/k"}, "serial": {"mode": "Loud"}})[1].startswith("the body.serial.mode is 'Loud', none of")
