# SPDX-License-Identifier: Apache-2.0
"""What goes wrong is told in one line, ends with Docker's exit code, and leaves nothing behind."""
import gzip
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from conftest import BOOT, BUILD, GUEST, IMAGES, TOP, Micropod

MIB = 1 << 20


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.1)


def one_line(done, code=125, console=False):
    """The reason: the only line, or the last one after the guest's console."""
    assert done.returncode == code, done
    lines = done.stderr.decode().splitlines()
    if console:
        assert lines[0] == "The guest's console ended with:" and all(line.startswith("  | ") for line in lines[1:-1]), lines
    else:
        assert len(lines) == 1, lines
    assert lines[-1].startswith("micropod: "), lines
    return lines[-1].removeprefix("micropod: ")


def nothing_made(micropod):
    assert micropod.ok("ps", "-aq") == ""


# Images


@pytest.fixture
def registry(tmp_path):
    child = subprocess.Popen([TOP / "scripts/test-registry.sh", tmp_path, IMAGES / "busybox"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    word, address = child.stdout.readline().decode().split()
    assert word == "ready"
    yield child, address, {"CONTAINERS_REGISTRIES_CONF": str(tmp_path / "registries.conf")}
    child.communicate()


def test_no_such_image(micropod, registry):
    _, address, env = registry
    for word, name, tag in (("nosuchimage", "nosuchimage", "latest"), ("busybox:nosuchtag", "busybox", "nosuchtag")):
        said = one_line(micropod("run", "--rm", word, "true", env=env))
        assert said == f"image 'docker.io/library/{name}:{tag}': reading manifest {tag} in {address}/library/{name}: " \
            "manifest unknown: manifest unknown: check name and tag"
    said = one_line(micropod("run", "--rm", "--pull", "never", "busybox", "true", env=env))
    assert "busybox" in said
    nothing_made(micropod)


def test_registry_down(micropod, registry):
    child, address, env = registry
    child.communicate()
    said = one_line(micropod("run", "--rm", "busybox", "true", env=env))
    assert "busybox" in said and "connection refused" in said.lower(), said
    nothing_made(micropod)


def broken_layout(folder, cut):
    """The busybox image, its layer compressed and cut off; the digests are those of what is there."""
    source, layout = IMAGES / "busybox", folder / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)

    def blob(digest):
        return (source / "blobs" / digest.replace(":", "/")).read_bytes()

    def add(data):
        digest = hashlib.sha256(data).hexdigest()
        (layout / "blobs/sha256" / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    index = json.loads((source / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]["digest"]))
    config = json.loads(blob(manifest["config"]["digest"]))
    config["author"] = str(folder)  # another image, or its disk would be there already
    manifest["config"].update(add(json.dumps(config).encode()))
    layer = manifest["layers"][0]
    data = blob(layer["digest"])
    data = gzip.compress(data if not layer["mediaType"].endswith("gzip") else gzip.decompress(data))
    layer.update(add(cut(data)), mediaType="application/vnd.oci.image.layer.v1.tar+gzip")
    index["manifests"][0].update(add(json.dumps(manifest).encode()))
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return f"oci:{layout}:latest"


def test_truncated_layer(micropod, tmp_path):
    said = one_line(micropod("run", "--rm", broken_layout(tmp_path, lambda data: data[:len(data) // 2]), "true"))
    assert "layer" in said, said
    nothing_made(micropod)


# What a VM starts from


def test_unreadable_kernel(micropod, tmp_path):
    missing = tmp_path / "vmlinuz"
    assert one_line(micropod("run", "--rm", "--kernel", missing, micropod.busybox, "true")) == \
        f"cannot read the kernel '{missing}': No such file or directory"
    missing.write_bytes(b"")
    assert one_line(micropod("run", "--rm", "--kernel", missing, micropod.busybox, "true")) == \
        f"the kernel '{missing}' is not a file with something in it"
    missing.write_bytes(os.urandom(MIB))
    said = one_line(micropod("run", "--rm", "--kernel", missing, micropod.busybox, "true", env={"MICROPOD_START_TIMEOUT": "10"}))
    assert "kernel" in said or "agent did not answer" in said, said
    nothing_made(micropod)


def test_no_qemu(micropod, tmp_path):
    missing = tmp_path / "qemu"
    assert one_line(micropod("run", "--rm", "--vmm", missing, micropod.busybox, "true")) == \
        f"cannot read the VMM '{missing}': No such file or directory"
    assert one_line(micropod("run", "--rm", micropod.busybox, "true", env={"PATH": str(tmp_path)})).startswith(
        "qemu-system-x86_64 is not installed: install it (Debian, Ubuntu: sudo apt-get install qemu-system-x86;")
    missing.write_text("#!/bin/sh\necho out of order >&2\nexit 3\n")
    missing.chmod(0o755)
    assert "out of order" in one_line(micropod("run", "--rm", "--vmm", missing, micropod.busybox, "true"))
    nothing_made(micropod)


def guest_with_init(folder, program):
    """A prepared guest whose init is another program, C without a library."""
    tree, root = folder / "tree", folder / "guest-root"
    tree.mkdir()
    (root / "guest").mkdir(parents=True)
    source = folder / "init.c"
    source.write_text(program)
    subprocess.run(["gcc", "-Os", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-o", tree / "init", source], check=True)
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=b"init\n", cwd=tree, check=True, capture_output=True).stdout
    (root / "guest/initramfs").write_bytes(archive)
    current = json.loads((GUEST / "guest/current.json").read_text())
    current.update(initramfs=str(root / "guest/initramfs"), initramfs_runc=str(root / "guest/initramfs"))
    (root / "guest/current.json").write_text(json.dumps(current))
    return root


def write_call(text):
    return f'static const char s[] = "{text}\\n"; long r; __asm__ volatile("syscall" : "=a"(r) : "a"(1), "D"(1), "S"(s), "d"(sizeof(s) - 1) : "rcx", "r11", "memory");'


@pytest.fixture
def with_guest(micropod):
    """Puts another guest in the place of the prepared one."""
    place = micropod.root / "guest"

    def put(root):
        place.unlink()
        place.symlink_to(root / "guest")

    yield put
    put(GUEST)


def test_agent_that_never_answers(micropod, with_guest, tmp_path):
    with_guest(guest_with_init(tmp_path, "void _start(void) { %s for (;;) __asm__ volatile(\"syscall\" : : \"a\"(34) : \"rcx\", \"r11\", \"memory\"); }"
                               % write_call("the agent has gone fishing")))
    began = time.monotonic()
    done = micropod("run", "--rm", micropod.busybox, "true", env={"MICROPOD_START_TIMEOUT": "20"})
    assert one_line(done, console=True) == "the agent did not answer the greeting on its serial port in time"
    assert b"  | the agent has gone fishing\n" in done.stderr and 15 < time.monotonic() - began < 60
    nothing_made(micropod)
    # What was made before stays, and says why it did not start.
    micropod.ok("create", "--name", "box", micropod.busybox, "true")
    one_line(micropod("start", "box", env={"MICROPOD_START_TIMEOUT": "20"}), console=True)
    assert micropod.inspect("box")["State"]["Error"] == "the agent did not answer the greeting on its serial port in time"
    assert "Exited (125)" in micropod.ok("ps", "-a")


def test_start_timeout_is_checked(micropod):
    assert one_line(micropod("run", "--rm", micropod.busybox, "true", env={"MICROPOD_START_TIMEOUT": "soon"})) == \
        "variable MICROPOD_START_TIMEOUT is 'soon': give seconds, from 1 to 86400"
    nothing_made(micropod)


def test_guest_that_panics_at_start(micropod, with_guest, tmp_path):
    with_guest(guest_with_init(tmp_path, "void _start(void) { %s *(volatile int *)0 = 0; }" % write_call("about to fall")))
    done = micropod("run", "--rm", micropod.busybox, "true")
    assert one_line(done, console=True) == \
        "the VM ended before the agent answered: guest panicked: Attempted to kill init! exitcode=0x0000000b"
    nothing_made(micropod)


# Arguments


def test_long_and_odd_arguments(micropod):
    odd = bytes(range(1, 256))
    words = [b"x" * 65536, odd, b"", b"\xff\xfe", "ä€".encode(), b"a\nb"]
    done = micropod("run", "--rm", micropod.busybox, "printf", "%s|", *words)
    assert done.returncode == 0 and done.stdout == b"".join(word + b"|" for word in words)
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000")
    assert micropod("exec", "box", "printf", "%s|", *words).stdout == done.stdout
    # Many words as well as long ones.
    many = [f"{number:08}" for number in range(8192)]
    assert micropod.ok("exec", "box", "echo", *many) == " ".join(many) + "\n"
    assert micropod("exec", "-e", b"ODD=" + odd, "box", "sh", "-c", 'printf %s "$ODD"').stdout == odd


# Names and ports


def test_taken_name(micropod):
    box = micropod.ok("create", "--name", "box", micropod.busybox, "true").strip()
    assert one_line(micropod("run", "--name", "box", micropod.busybox, "true")) == \
        f"name 'box' is taken by sandbox {box[:12]}: remove it (micropod rm box) or choose another name"
    assert micropod.ok("ps", "-aq", "--no-trunc") == box + "\n"


def test_taken_port(micropod):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        name = pathlib.Path("/proc/self/comm").read_text().strip()
        assert one_line(micropod("run", "-d", "-p", f"127.0.0.1:{port}:80", micropod.busybox, "true")) == \
            f"TCP port {port} on 127.0.0.1 is already in use (held by {name}, pid {os.getpid()}): choose another with -p"
    nothing_made(micropod)


# Disks


@pytest.fixture
def small_root():
    """A root on a file system of its own, which tests fill."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tempfile.mkdtemp(prefix="micropod-small-")
    root = os.path.join(folder, "root")
    os.mkdir(root, 0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", root, root], check=True)
    micropod = None
    try:
        micropod = Micropod(folder, root)
        yield micropod
    finally:
        (pathlib.Path(root) / "fill").unlink(missing_ok=True)
        if micropod:
            micropod.settle()
            micropod.close()
        subprocess.run(["umount", root], check=True)
        shutil.rmtree(folder)


def fill(micropod, spare=0):
    with open(micropod.root / "fill", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
        file.truncate(file.tell() - spare)


def test_full_disk(small_root, tmp_path):
    micropod = small_root
    micropod.ok("rmi", micropod.busybox)
    before = sorted(map(str, micropod.leaks.files()))
    for spare in (0, 256 << 10, MIB):
        fill(micropod, spare)
        said = one_line(micropod("run", "--rm", micropod.busybox, "true"))
        assert "No space left on device" in said, said
        (micropod.root / "fill").unlink()
        nothing_made(micropod)
    micropod.ok("prune", "-f")
    assert [path for path in map(str, micropod.leaks.files()) if path not in before and "/images/tmp/" in path] == []
    # The image is there, the sandbox does not fit.
    micropod.ok("pull", micropod.busybox)
    micropod.ok("run", "--rm", micropod.busybox, "true")
    fill(micropod)
    said = one_line(micropod("run", "--rm", micropod.busybox, "true"))
    assert "No space left on device" in said, said
    nothing_made(micropod)


def test_disk_that_fills_under_a_sandbox(small_root):
    micropod = small_root
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.2; done")
    fill(micropod)
    done = micropod("exec", "box", "sh", "-c", "dd if=/dev/urandom of=/big bs=1M count=8 conv=fsync 2>&1; echo dd: $?")
    assert "dd: 1" in done.stdout.decode(), done
    said = "the host's disk is full: writes fail in the guest (scratch)"
    until(lambda: micropod.inspect("box")["Micropod"]["Notice"] == said)
    # It still answers, and its end is told truly although there is no room to write it down.
    assert micropod.inspect("box")["Micropod"]["AgentConnected"]
    micropod("stop", "box")
    state = micropod.inspect("box")["State"]
    assert not state["Running"] and (state["Status"], state["ExitCode"]) in (("exited", 9), ("exited", 137)), state


# A VM that stands still


def test_frozen_vm(micropod):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000")
    vmm = micropod.inspect("box")["Micropod"]["VMMPid"]
    os.kill(vmm, signal.SIGSTOP)
    began = time.monotonic()
    one = micropod.inspect("box")
    assert one["State"]["Running"] and not one["Micropod"]["AgentConnected"] and time.monotonic() - began < 10
    began = time.monotonic()
    said = one_line(micropod("exec", "box", "true"))
    assert said == "sandbox 'box': the agent does not answer: stop it (micropod stop box) or remove it (micropod rm -f box)"
    assert time.monotonic() - began < 60
    began = time.monotonic()
    micropod.ok("stop", "-t", "1", "box")
    assert time.monotonic() - began < 60
    state = micropod.inspect("box")["State"]
    assert state["Status"] == "exited" and state["ExitCode"] == 137 and "the agent could not stop the container" in state["Error"]
    micropod.ok("start", "box")
    os.kill(micropod.inspect("box")["Micropod"]["VMMPid"], signal.SIGSTOP)
    began = time.monotonic()
    micropod.ok("rm", "-f", "box")
    assert time.monotonic() - began < 10
