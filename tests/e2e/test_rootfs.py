# SPDX-License-Identifier: Apache-2.0
"""--rootfs virtiofs: the image is a folder of the host, shared read-only, with a writable layer over it."""
import json
import os
import stat
import time

import pytest

from conftest import IMAGES
from ordinary import ROOT, ordinary  # noqa: F401 (a fixture)

DEBIAN = f"oci:{IMAGES}/debian:latest"
SHARED = ("--rootfs", "virtiofs")

# All that a tree has: names, types, modes, owners, sizes, links, contents.
LIST = "cd /; find bin etc home root sbin tmp usr var -xdev \\! -path etc/hosts \\! -path etc/hostname \\! -path etc/resolv.conf -exec stat -c '%n %f %u %g %s %h' {} + 2>/dev/null | grep -v ' 41[0-9a-f]* \\| 43[0-9a-f]* ' | sort"


def tree(micropod):
    """That of busybox."""
    image = json.loads(micropod.ok("image", "inspect", micropod.busybox))[0]["Id"].removeprefix("sha256:")
    return next((micropod.root / "images/trees").glob(f"{image}-*"))


@pytest.mark.parametrize("way", [[], ["--cold"], ["--kernel", "cloud"], ["--runtime", "crun"], ["--runtime", "runc"]], ids=" ".join)
def test_every_way_to_start(micropod, way):
    out = micropod.ok("run", "--rm", *SHARED, *way, micropod.busybox, "sh", "-c",
                      "echo new > /etc/new; cat /etc/new; rm /etc/group; ls /etc/group 2>/dev/null; mkdir /a && mv /a /b && ls -d /b; id -u")
    assert out == "new\n/b\n0\n"
    # The next one has the image as it was.
    assert not (tree(micropod) / "etc/new").exists() and (tree(micropod) / "etc/group").exists()
    assert micropod.ok("run", "--rm", *SHARED, *way, micropod.busybox, "ls", "/etc/group") == "/etc/group\n"


@pytest.mark.skipif(not ROOT, reason="owners are root's to keep")
def test_the_same_files_as_on_a_disk(micropod):
    count = "find / -xdev -type f | wc -l; cat /usr/sbin/* /etc/*.conf | md5sum"
    for command in (LIST, count):
        shared = micropod.ok("run", "--rm", *SHARED, DEBIAN, "sh", "-c", command, timeout=300)
        assert shared == micropod.ok("run", "--rm", DEBIAN, "sh", "-c", command, timeout=300) and len(shared) > 30


def test_beside_volumes_and_read_only(micropod, tmp_path):
    (tmp_path / "file").write_text("hello\n")
    out = micropod.ok("run", "--rm", *SHARED, "--read-only", "-v", f"{tmp_path}:/tmp:ro", micropod.busybox, "sh", "-c",
                      "cat /tmp/file; touch /x 2>/dev/null || echo read-only")
    assert out == "hello\nread-only\n"
    # LIMIT_VM_SHARES, the root included
    eight = [w for i in range(8) for w in ("-v", f"{tmp_path}:/v{i}")]
    assert micropod.error(micropod("run", "--rm", *SHARED, *eight, micropod.busybox, "true")) == "at most 8 folders can be shared with a VM"


def logged(micropod, lines):
    deadline = time.monotonic() + 20
    while micropod.ok("logs", "box").split() != lines and time.monotonic() < deadline:
        time.sleep(0.1)
    assert micropod.ok("logs", "box").split() == lines


def test_stopped_and_started_again(micropod):
    micropod.ok("run", "-d", "--name", "box", *SHARED, micropod.busybox, "sh", "-c", "echo x >> /count; wc -l < /count; sleep 1000")
    logged(micropod, ["1"])
    micropod.ok("stop", "-t", "0", "box")
    micropod.ok("start", "box")
    logged(micropod, ["1", "2"])
    assert micropod.error(micropod("rmi", micropod.busybox)).endswith("is used by a sandbox: remove that first")


def test_an_image_goes_with_its_folder(micropod):
    micropod.ok("run", "--rm", *SHARED, micropod.busybox, "true")
    there = tree(micropod)
    assert stat.S_IMODE(os.stat(there / "tmp").st_mode) == 0o1777 and stat.S_IMODE(os.stat(there / "root").st_mode) == 0o700
    micropod.ok("rmi", micropod.busybox)
    assert not there.exists()


def test_an_ordinary_user_has_everything_as_its_own(ordinary):
    run, base = ordinary
    image = f"oci:{base}/busybox:latest"
    done = run("run", "--rm", *SHARED, image, "sh", "-c", "stat -c '%u:%g %a' /root /tmp /bin/busybox; echo x > /root/x && cat /root/x")
    assert done.returncode == 0 and done.stdout == "0:0 700\n0:0 1777\n0:0 755\nx\n", done
    assert run("rmi", image).returncode == 0 and not any((base / "root/images/trees").iterdir())


def test_wrong_input(micropod):
    assert micropod.error(micropod("run", "--rootfs", "nfs", micropod.busybox)) == "option '--rootfs' is 'nfs': give one of block, virtiofs"
    done = micropod("run", "--driver", "docker", *SHARED, micropod.busybox)
    assert micropod.error(done) == "option '--rootfs' is for VMs, not for '--driver docker'"
    (micropod.folder / "config/micropod").mkdir(parents=True, exist_ok=True)
    config = micropod.folder / "config/micropod/micropod.yaml"
    config.write_text("enable_virtio_fs: false\n")
    try:
        assert micropod.error(micropod("run", *SHARED, micropod.busybox)).startswith("folders cannot be shared: 'enable_virtio_fs' is false")
    finally:
        config.unlink()
