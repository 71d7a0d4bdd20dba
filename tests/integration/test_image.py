# SPDX-License-Identifier: Apache-2.0
"""Images with a real registry, skopeo and e2fsck: pulling, the store, and disks compared with a real unpack."""
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import tarfile
import time
import zlib

import pytest
from imagetools import (INDEX, LAYER, TIME, Layer, Registry, Store, check_disk, describe, make_layout, mounted, pack, put_blob,
                        put_image, put_layout, sha256)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting the disk to look into it needs root")
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # VFS_CAP_REVISION_2, net_bind_service


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("registry"))
    yield registry
    registry.stop()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "root")


def small(text="hello"):
    return Layer().dir("./").dir("bin").file("bin/sh", text.encode(), mode=0o755).done()


# Pulling

def test_pull_under_the_plain_name(registry, tmp_path):
    store = Store(tmp_path / "root", registry.env)
    registry.push(make_layout(tmp_path / "oci", [small()]), "library/plain:latest")
    assert store.ok("pull", "plain").last[0] == "docker.io/library/plain:latest"
    assert store.run("pull", "plain", "never").code == 0
    assert store.ok("find", "plain:latest").last[1] == store.ok("find", "docker.io/library/plain").last[1]
    check_disk(pathlib.Path(store.ok("disk", "plain").lines[-2]))


def test_docker_manifest_keeps_its_id_and_healthcheck(registry, tmp_path):
    """`skopeo copy` to a layout would convert it to OCI: another id, and no Healthcheck."""
    store = Store(tmp_path / "root")
    layout = make_layout(tmp_path / "oci", [small()], config={"Healthcheck": {"Test": ["CMD", "true"]}})
    registry.push(layout, "docker/v2:1", "--format", "v2s2")
    ref = f"{registry.host}/docker/v2:1"
    raw = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{ref}"], capture_output=True, check=True).stdout
    last = store.ok("pull", ref).last
    assert last[2] == sha256(raw)
    assert last[1] == json.loads(raw)["config"]["digest"]


def test_only_missing_layers_are_fetched(registry, tmp_path):
    store = Store(tmp_path / "root")
    base, top = small(), Layer().file("top", os.urandom(5000)).done()
    registry.push(make_layout(tmp_path / "a", [base]), "share/a:1")
    registry.push(make_layout(tmp_path / "b", [base, top]), "share/b:1")
    store.ok("pull", f"{registry.host}/share/a:1")
    before = registry.blob_gets()
    store.ok("pull", f"{registry.host}/share/b:1")
    assert registry.blob_gets() - before == 2  # its configuration and one layer
    store.ok("pull", f"{registry.host}/share/b:1", "always")
    assert registry.blob_gets() - before == 2


def test_progress_adds_up(registry, tmp_path):
    layers = [Layer().file(f"f{i}", os.urandom(2_000_000)).done() for i in range(4)]
    registry.push(make_layout(tmp_path / "oci", layers), "progress/x:1")
    lines = Store(tmp_path / "root").ok("pull", f"{registry.host}/progress/x:1").lines
    steps = [tuple(map(int, line.split()[2].split("/"))) for line in lines if line.startswith("download")]
    assert steps == sorted(steps) and len(steps) > 4
    assert steps[-1][0] == steps[-1][1] > 8_000_000
    whole = {line.split()[1] for line in lines if line.startswith("layer") and len(set(line.split()[2].split("/"))) == 1}
    assert len(whole) == 4


def test_moved_tag(registry, tmp_path):
    store = Store(tmp_path / "root")
    ref = f"{registry.host}/moved/x:1"
    registry.push(make_layout(tmp_path / "a", [small("one")]), "moved/x:1")
    first = store.ok("pull", ref).last
    registry.push(make_layout(tmp_path / "b", [small("two")]), "moved/x:1")
    assert store.ok("pull", ref).last == first
    second = store.ok("pull", ref, "always").last
    assert second[1] != first[1]
    assert store.ok("find", ref).last == second
    assert {line.split()[0] for line in store.ok("list").lines} == {ref, "-"}
    assert "removed 0 references 1 images" in store.ok("prune").out
    assert [line.split()[0] for line in store.ok("list").lines] == [ref]
    assert store.run("find", first[1]).code == 1
    assert len(store.files("blobs")) == 3


def test_index_picks_the_architecture(registry, tmp_path):
    folder = tmp_path / "oci"
    items = [{**put_image(folder, [small(arch)], arch=arch), "platform": {"os": "linux", "architecture": arch}}
             for arch in ("arm64", "amd64")]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": items}).encode()
    put_layout(folder, {"t": {"mediaType": INDEX, "digest": put_blob(folder, index), "size": len(index)}})
    registry.push(f"oci:{folder}:t", "multi/x:1", "--all")
    ref = f"{registry.host}/multi/x:1"
    for source in (ref, f"oci:{folder}:t"):
        store = Store(tmp_path / f"root-{source[:3]}")
        assert store.ok("pull", source).last[2:4] == [items[1]["digest"], "amd64"]
        assert store.ok("pull", source, "missing", "arm64").last[2:4] == [items[0]["digest"], "arm64"]
        error = store.fails("pull", source, "always", "s390x")
        assert "there is no build for linux/s390x; there is: arm64, amd64" in error
    by_digest = f"{registry.host}/multi/x@{sha256(index)}"
    store = Store(tmp_path / "root-digest")
    assert store.ok("pull", by_digest).last[:3] == [by_digest, store.ok("find", by_digest).last[1], items[1]["digest"]]


def test_two_pulls_at_once_work_once(registry, tmp_path):
    store = Store(tmp_path / "root")
    registry.push(make_layout(tmp_path / "oci", [Layer().file("big", os.urandom(20_000_000)).done()], how=None), "twice/x:1")
    for policy in ("missing", "always"):
        before = registry.blob_gets()
        pulls = [store.start("pull", f"{registry.host}/twice/x:1", policy) for _ in range(3)]
        outputs = [p.communicate(timeout=120) for p in pulls]
        assert [p.returncode for p in pulls] == [0, 0, 0], outputs
        assert registry.blob_gets() - before == (2 if policy == "missing" else 0)
    disks = [store.start("disk", f"{registry.host}/twice/x:1") for _ in range(3)]
    outputs = [p.communicate(timeout=120)[0].decode() for p in disks]
    assert [p.returncode for p in disks] == [0, 0, 0]
    assert sum("\nbuild " in "\n" + out for out in outputs) == 1
    assert store.files("tmp") == []


def test_errors_are_one_line_and_leave_nothing(registry, tmp_path):
    store = Store(tmp_path / "root")
    registry.push(make_layout(tmp_path / "oci", [small()]), "there/x:1")
    error = store.fails("pull", f"{registry.host}/there/x:2")
    assert "/there/x:2" in error and "manifest unknown" in error and "check name and tag" in error
    assert "check name and tag" in store.fails("pull", f"{registry.host}/not/there")
    error = store.fails("pull", "127.0.0.1:1/down/x")
    assert "connection refused" in error and "is the registry up" in error
    error = store.fails("pull", f"{registry.host}/there/x:1", "never")
    assert "--pull never" in error
    assert "lower case" in store.fails("pull", "UPPER/Case")
    assert store.files("blobs") == store.files("tmp") == store.files("refs") == []


def test_no_skopeo(tmp_path):
    assert "install the package skopeo" in Store(tmp_path / "root", {"PATH": str(tmp_path)}).fails("pull", "busybox")


def test_unauthorised(tmp_path):
    registry = None
    try:
        folder = tmp_path / "registry"
        folder.mkdir()
        registry = Registry(folder)
        registry.stop()
        # user "u", password "p" (bcrypt)
        (folder / "htpasswd").write_text("u:$2y$05$CS3hCeh2VGHnp8cWVcUuFOKC8sUxCLmwU.4DB6lYFNyHHMVvdtWEW\n")
        with (folder / "config.yml").open("a") as f:
            f.write(f"auth: {{htpasswd: {{realm: r, path: {folder}/htpasswd}}}}\n")
        registry.start()
        error = Store(tmp_path / "root").fails("pull", f"{registry.host}/secret/x")
        assert "micropod login" in error
    finally:
        if registry:
            registry.stop()


def test_killed_pull_leaves_only_what_prune_removes(registry, tmp_path):
    store = Store(tmp_path / "root")
    registry.push(make_layout(tmp_path / "oci", [Layer().file("big", os.urandom(60_000_000)).done()], how=None), "killed/x:1")
    pull = store.start("pull", f"{registry.host}/killed/x:1")
    while not pull.stdout.readline().startswith(b"download"):
        pass
    pull.kill()
    pull.communicate()
    assert store.files("tmp")
    assert store.ok("list").lines == []
    store.ok("prune")
    assert store.files("tmp") == store.files("blobs") == []
    store.ok("pull", f"{registry.host}/killed/x:1")


def test_blob_with_other_content_is_refused(tmp_path, store):
    ref = make_layout(tmp_path / "oci", [small()])
    blobs = tmp_path / "oci" / "blobs" / "sha256"
    layer = max(blobs.iterdir(), key=lambda p: p.read_bytes()[:2] == b"\x1f\x8b")
    data = bytearray(layer.read_bytes())
    data[-1] ^= 1
    layer.write_bytes(data)
    error = store.fails("pull", ref)
    assert layer.name in error
    layer.write_bytes(data[:-20])
    assert layer.name in store.fails("pull", ref)
    assert layer.name not in store.files("blobs")
    assert store.files("tmp") == store.files("refs") == []


# The store

def test_find_remove_and_shared_blobs(tmp_path, store):
    base = small()
    a = make_layout(tmp_path / "a", [base])
    b = make_layout(tmp_path / "b", [base, Layer().file("b", b"b").done()])
    ids = [store.ok("pull", ref).last[1] for ref in (a, b)]
    assert store.ok("find", ids[0][7:19]).last[1] == ids[0]
    assert store.ok("find", ids[1]).last[1] == ids[1]
    assert "is not here" in store.fails("find", "0123abcd")
    disk = pathlib.Path(store.ok("disk", a).lines[-2])
    assert "used by a sandbox" in store.fails("rmi", a, ids[0])
    assert "used by a sandbox" in store.fails("rmi", ids[0], ids[0])
    assert disk.exists()
    assert "removed 1 references 1 images 2 blobs" in store.ok("rmi", a, ids[1]).out
    assert not disk.exists()
    assert len(store.files("blobs")) == 4
    store.disk(b)
    assert "removed 0 references 0 images" in store.ok("prune").out
    assert "removed 0 references 0 images" in store.ok("prune", "all", ids[1]).out
    assert "removed 1 references 1 images 4 blobs" in store.ok("prune", "all").out
    assert store.files("blobs") == store.files("disks") == store.files("refs") == []


def test_load_docker_archive(tmp_path, store):
    ref = make_layout(tmp_path / "oci", [small(), Layer().file("x", b"y").done()])
    archive = tmp_path / "with:colon.tar"
    plain = tmp_path / "plain.tar"
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", ref, f"docker-archive:{plain}:some/name:tag",
                    "--additional-tag", "other:2"], check=True)
    plain.rename(archive)
    result = store.ok("load", archive)
    assert [line.split()[0] for line in result.lines if not line.startswith(("resolve", "layer", "download"))] == [
        "docker.io/some/name:tag", "docker.io/library/other:2"]
    check_disk(pathlib.Path(store.ok("disk", "some/name:tag").lines[-2]))
    again = Store(tmp_path / "second")
    again.ok("load", "-", stdin=archive.read_bytes())
    assert again.ok("find", "other:2").last[1] == store.ok("find", "other:2").last[1]
    packed = tmp_path / "packed.tar.gz"
    packed.write_bytes(gzip.compress(archive.read_bytes(), 1))
    Store(tmp_path / "third").ok("load", packed)
    assert store.files("tmp") == again.files("tmp") == []


def test_load_oci_archive(tmp_path, store):
    folder = tmp_path / "oci"
    put_layout(folder, {"example.com/a:1": put_image(folder, [small("a")]), "b": put_image(folder, [small("b")])})
    archive = tmp_path / "oci.tar"
    subprocess.run(["tar", "-C", folder, "-cf", archive, "."], check=True)
    names = [line.split()[0] for line in store.ok("load", archive).lines if " sha256:" in line and "/" not in line.split()[-1]]
    assert names == ["example.com/a:1", "-"]
    for junk in (b"", b"\0" * 10240, b"not a tar at all" * 100):
        archive.write_bytes(junk)
        assert "cannot be read" in store.fails("load", archive)
    assert "cannot open archive" in store.fails("load", tmp_path / "missing")


# Disks

def rich_layers():
    first = Layer().dir("./", mode=0o751, uid=7)
    first.dir("dir", mode=0o2775, uid=1000, gid=1001, mtime=TIME + 0.25)
    first.file("dir/setuid", b"#!", mode=0o4755).file("dir/setgid", b"#!", mode=0o2711).dir("tmp", mode=0o1777)
    first.file("empty").file("one", b"x").file("block", b"b" * 4096).file("blocks", os.urandom(123457))
    first.file("zeros", b"\0" * 3_000_000).file("half", b"\0" * 200_000 + b"end" + b"\0" * 100_000)
    first.file("ids", uid=4294967294, gid=70000).file("old", mtime=-86400).file("future", mtime=2 ** 33)
    first.file("nsec", mtime=TIME + 0.123456789)
    first.symlink("short", "dir").symlink("long", "x/" * 1000 + "end").symlink("59", "a" * 59).symlink("60", "a" * 60)
    first.hardlink("dir/linked", "blocks").dir("other").hardlink("other/linked", "dir/linked")
    first.add("null", tarfile.CHRTYPE, dev=(1, 3), mode=0o666).add("block-device", tarfile.BLKTYPE, dev=(259, 70000), mode=0o660)
    first.add("fifo", tarfile.FIFOTYPE, mode=0o600)
    first.file("capable", b"x", xattrs={"security.capability": CAPABILITY})
    first.file("noted", xattrs={"user.a": b"1", "user.empty": b"", "user.binary": bytes(range(256)), "trusted.t": b"t" * 1000})
    first.dir("noted-dir", xattrs={"user.dir": b"d" * 2000})
    first.file("n" * 255).file("/".join(["deep" * 10] * 20)).file("unicode-\u00e4\u6f22").file("bytes-\udcff\udc80\u00e4")
    first.file("spaces and \n newline").symlink("bytes-link", "t\udcfe")
    for i in range(700):
        first.file(f"many/file-number-{i:04}", str(i).encode())
    first.file("low/a").file("low/b/c").file("low/keep").file("gone").dir("gone-dir").file("gone-dir/x").file("turns/x").file("becomes")
    first.symlink("swap", "dir").file("opaque/low").file("opaque/sub/low").dir("opaque/sub2").file("opaque/sub2/low")
    first.file("repeated", b"first").dir("attrs", mode=0o700)

    second = Layer()
    second.file("low/.wh.a").file(".wh.gone").file(".wh.gone-dir").file("low/b/.wh..wh..opq").file("low/b/new", b"new")
    second.file("turns", b"now a file").dir("becomes").file("becomes/in", b"in")
    second.dir("swap").file("swap/in")
    second.dir("opaque").file("opaque/new").file("opaque/sub/new").file("opaque/.wh..wh..opq").file("opaque/after")
    second.file("repeated", b"a").file("repeated", b"b").dir("attrs", mode=0o711, uid=5).file("not-there/.wh.nothing")
    second.file("one", b"replaced" * 1000).hardlink("again", "blocks").file(".wh..wh.plnk")
    second.file("short/through-link", b"in dir")
    return [first.done(), second.done()]


# What is mounted over every image gets its places on the disk (src/image/places.c).
PLACES = {b"proc", b"dev", b"sys", b"etc", b"etc/resolv.conf", b"etc/hosts", b"etc/hostname"}


@needs_root
def test_places_of_what_is_mounted_over_it(tmp_path, store):
    ref = make_layout(tmp_path / "a", [Layer().file("one").done()])
    with mounted(store.disk(ref), tmp_path / "mnt") as root:
        have = describe(root)
        assert set(have) - {b"one", b"."} == PLACES
        assert all(have[path]["mode"].startswith("0o4" if b"/" not in path else "0o10") for path in PLACES)
    # What the image has stays, and a link is not followed.
    layer = Layer().dir("etc", mode=0o700).file("etc/hosts", b"mine", mode=0o600, uid=7).symlink("etc/hostname", "/x").symlink("sys", "one")
    ref = make_layout(tmp_path / "b", [layer.file("one").done()])
    with mounted(store.disk(ref), tmp_path / "mnt") as root:
        assert (root / "etc/hosts").read_bytes() == b"mine" and (root / "etc/hosts").stat().st_uid == 7
        assert os.readlink(root / "etc/hostname") == "/x" and os.readlink(root / "sys") == "one"
        assert (root / "etc").stat().st_mode & 0o7777 == 0o700
    ref = make_layout(tmp_path / "c", [Layer().symlink("etc", "usr/etc").dir("usr/etc").done()])
    with mounted(store.disk(ref), tmp_path / "mnt") as root:
        assert os.listdir(root / "usr/etc") == []


@needs_root
@pytest.mark.parametrize("how", ["gzip", "zstd", None])
def test_disk_equals_a_real_unpack(tmp_path, store, how):
    layers = rich_layers()
    disk = store.disk(make_layout(tmp_path / "oci", layers, how=how))
    plain = tmp_path / "plain"
    make_layout(plain, layers)
    subprocess.run(["umoci", "--log=error", "unpack", "--image", f"{plain}:t", tmp_path / "bundle"], check=True)
    want = describe(tmp_path / "bundle" / "rootfs")
    with mounted(disk, tmp_path / "mnt") as root:
        have = describe(root)
        assert os.stat(root / "zeros").st_blocks == 0
    for path in PLACES - set(want):
        del have[path]
    assert sorted(have) == sorted(want)
    different = {path: (have[path], want[path]) for path in want if have[path] != want[path]}
    # An empty value is one; Go's tar reader takes it for none.
    for item, _ in different.values():
        assert item["xattrs"].pop("user.empty", b"") == b""
    different = {path: pair for path, pair in different.items() if pair[0] != pair[1]}
    # What no layer lists gets the time of the unpacking there, and the image's time here; so do folders in which
    # something was replaced.
    for path, (mine, theirs) in list(different.items()):
        if mine["mode"].startswith("0o4") and {**mine, "mtime": 0} == {**theirs, "mtime": 0}:
            del different[path]
    assert different == {}


@needs_root
def test_real_tree_from_this_host(tmp_path, store):
    """A few thousand files as they are, by GNU tar in its own format."""
    tar = tmp_path / "host.tar"
    subprocess.run(["tar", "--format=gnu", "-cf", tar, "--numeric-owner", "-C", "/", "etc", "usr/share/perl", "usr/lib/python3",
                    "usr/share/zoneinfo", "usr/share/doc"], check=False, stderr=subprocess.DEVNULL)
    disk = store.disk(make_layout(tmp_path / "oci", [tar.read_bytes()], how=None))
    with mounted(disk, tmp_path / "mnt") as root:
        done = subprocess.run(["tar", "-df", tar, "-C", root], capture_output=True)
        assert done.returncode == 0, done.stdout.decode()[:2000] + done.stderr.decode()[:2000]
        assert sum(1 for _ in root.rglob("*")) > 3000


@needs_root
@pytest.mark.parametrize("fmt", ["gnu", "pax"])
def test_sparse_and_larger_than_4_gib(tmp_path, store, fmt):
    source, tar = tmp_path / "sparse", tmp_path / "sparse.tar"
    places = [i * 1_000_003 for i in range(600)] + [5_000_000_000]  # more extents than fit into an inode or one block
    with source.open("wb") as f:
        for at in places:
            f.seek(at)
            f.write(b"data" * 10)
        f.truncate(6_000_000_000)
    subprocess.run(["tar", f"--format={fmt}", "-Scf", tar, "-C", tmp_path, "sparse"], check=True)
    disk = store.disk(make_layout(tmp_path / "oci", [tar.read_bytes()]))
    with mounted(disk, tmp_path / "mnt") as root, open(root / "sparse", "rb") as f:
        assert os.fstat(f.fileno()).st_size == 6_000_000_000
        assert os.fstat(f.fileno()).st_blocks * 512 < 601 * 80 * 1024
        for at in places:
            f.seek(at - 8 if at else 0)
            assert f.read(48 + (8 if at else 0)).strip(b"\0") == b"data" * 10


def test_equal_images_give_equal_bytes(tmp_path):
    sums = set()
    for name in ("a", "b"):
        store = Store(tmp_path / name)
        disk = store.disk(make_layout(tmp_path / ("oci" + name), [small(), Layer().file("x/y").done()]))
        with disk.open("rb") as f:
            sums.add(sha256(f.read(8 << 20)))
        assert disk.stat().st_size == 1 << 40
        assert disk.stat().st_blocks * 512 < 1 << 20
    assert len(sums) == 1


def test_large_folder(tmp_path, store):
    layer = Layer()
    for i in range(50_000):
        layer.file(f"d/{i:x}-{'n' * (i % 97)}")
    disk = store.disk(make_layout(tmp_path / "oci", [layer.done()]))
    out = subprocess.run(["debugfs", "-R", "htree /d", disk], capture_output=True).stdout
    assert b"Indirect levels: 1" in out
    found = subprocess.run(["debugfs", "-R", f"stat /d/{49_999:x}-{'n' * (49_999 % 97)}", disk], capture_output=True)
    assert b"Type: regular" in found.stdout


@needs_root
def test_killed_build_leaves_only_what_prune_removes(tmp_path, store):
    ref = make_layout(tmp_path / "oci", [Layer().file("big", os.urandom(100_000_000)).done()], how=None)
    store.ok("pull", ref)
    build = store.start("disk", ref)
    assert build.stdout.readline().startswith(b"build")
    build.send_signal(signal.SIGKILL)
    build.communicate()
    assert store.files("disks") == [] and store.files("tmp")
    for _ in range(100):  # the worker dies with its parent
        store.ok("prune")
        if not store.files("tmp"):
            break
        time.sleep(0.05)
    assert store.files("tmp") == []
    assert store.ok("disk", ref)


# Among them LIMIT_PATH_DEPTH, LIMIT_SYMLINKS and LIMIT_XATTR_BYTES.
REFUSED = {
    "climbs out": (lambda l: l.file("a/../../etc/passwd"), "climbs out", "a/../../etc/passwd"),
    "climbs out from the root": (lambda l: l.file("/../x"), "climbs out", "/../x"),
    "whiteout climbs out": (lambda l: l.file("../.wh.x"), "climbs out", "../.wh.x"),
    "hard link climbs out": (lambda l: l.hardlink("x", "../../etc/shadow"), "climbs out", "'x'"),
    "hard link to nothing": (lambda l: l.hardlink("x", "nothing"), "not there", "'x'"),
    "hard link to a folder": (lambda l: l.dir("d").hardlink("x", "d"), "is a folder", "'x'"),
    "hard link to the root": (lambda l: l.hardlink("x", "/"), "is the root", "'x'"),
    "below a file": (lambda l: l.file("f").file("f/x"), "is no folder", "f/x"),
    "link loop": (lambda l: l.symlink("a", "b").symlink("b", "a").file("a/x"), "symbolic links", "a/x"),
    "root is a file": (lambda l: l.file("."), "root is no folder", "'.'"),
    "whiteout of nothing": (lambda l: l.file("d/.wh."), "whiteout of nothing", "d/.wh."),
    "whiteout of dots": (lambda l: l.file("d/.wh..."), "whiteout of nothing", "d/.wh..."),
    "deep": (lambda l: l.file("d/" * 300 + "x"), "deeper than 256", "d/d/d"),
    "deeper through links": (lambda l: [l.file("d/" * 200 + "x"), l.symlink("s", "d/" * 200), l.file("s/" + "e/" * 100 + "x")], "deeper than", "s/e"),
    "large attributes": (lambda l: l.file("x", xattrs={"user.a": b"v" * 5000}), "extended attributes", "'x'"),
    "many attributes": (lambda l: l.file("x", xattrs={f"user.a{i}": b"v" * 1000 for i in range(70)}), "extended attributes", "'x'"),
    "longest link chain": (lambda l: [l.dir("d")] + [l.symlink(f"s{i}", f"s{i + 1}" if i < 40 else "d") for i in range(41)] + [l.file("s0/x")], "more than 40 symbolic links", "s0/x"),
    "odd device": (lambda l: l.add("x", tarfile.CHRTYPE, dev=(4096, 0)), "device 4096:0", "'x'"),
    "long link": (lambda l: l.symlink("x", "t" * 5000), "symbolic link", "'x'"),
    "too many links": (lambda l: [l.file("x")] + [l.hardlink(f"l{i}", "x") for i in range(65000)], "Too many links", "l64999"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_entries(tmp_path, store, case):
    fill, why, entry = REFUSED[case]
    layer = Layer()
    fill(layer)
    ref = make_layout(tmp_path / "oci", [small(), layer.done()])
    store.ok("pull", ref)
    error = store.fails("disk", ref)
    assert why in error and entry in error
    assert sha256(gzip.compress(layer.buffer.getvalue(), 1, mtime=0))[:19] in error
    assert store.files("disks") == store.files("tmp") == []


@needs_root
def test_links_are_followed_inside_only(tmp_path, store):
    """An absolute link and one with too many '..' lead to the image's root, as in a chroot."""
    marker = tmp_path / "host"
    marker.mkdir()
    first = Layer().symlink("abs", str(marker)).symlink("up", "../" * 20 + "in").symlink("chain", "up").done()
    second = Layer().file("abs/a", b"a").file("chain/b", b"b").file("chain/../c", b"c").done()
    disk = store.disk(make_layout(tmp_path / "oci", [first, second]))
    assert list(marker.iterdir()) == []
    with mounted(disk, tmp_path / "mnt") as root:
        assert (root / str(marker)[1:] / "a").read_bytes() == b"a"
        assert (root / "in/b").read_bytes() == b"b"
        assert (root / "c").read_bytes() == b"c"


def damaged(kind):
    layer = small("x" * 100_000)

    def change(manifest, config):
        if kind == "diff_id":
            config["rootfs"]["diff_ids"][0] = "sha256:" + "0" * 64
        if kind == "count":
            config["rootfs"]["diff_ids"].append("sha256:" + "0" * 64)

    return layer, change


@pytest.mark.parametrize("kind", ["truncated", "truncated-gzip", "diff_id", "count", "junk", "empty", "rot"])
def test_damaged_layers(tmp_path, store, kind):
    layer, change = damaged(kind)
    folder = tmp_path / "oci"
    if kind == "truncated":
        layer = layer[:60_000]
    if kind == "junk":
        layer = os.urandom(50_000)
    ref = make_layout(folder, [layer], change=change, how=None if kind == "rot" else "gzip")
    if kind in ("truncated-gzip", "empty"):
        blob = pack(layer, "gzip")[:-100] if kind != "empty" else b""

        def replace(manifest, config):
            manifest["layers"] = [{"mediaType": LAYER + "+gzip", "digest": put_blob(folder, blob), "size": len(blob)}]
        ref = make_layout(folder, [layer], change=replace)
    if kind == "count":
        assert "configuration 2" in store.fails("pull", ref)
        return
    store.ok("pull", ref)
    if kind == "rot":
        blob = max((store.root / "images/blobs/sha256").iterdir(), key=lambda p: p.stat().st_size)
        blob.chmod(0o600)
        data = bytearray(blob.read_bytes())
        data[50_000] ^= 1
        blob.write_bytes(data)
    error = store.fails("disk", ref)
    assert "layer sha256:" in error
    assert {"diff_id": "configuration says", "rot": "configuration says"}.get(kind, "") in error
    assert store.files("disks") == store.files("tmp") == []


def test_bombs(tmp_path, store):
    """A layer that unpacks to more than its ratio allows (LIMIT_LAYER_RATIO, above LIMIT_LAYER_RATIO_FLOOR), and a file that says it
    is larger than a layer may be (LIMIT_LAYER_BYTES)."""
    zeros = gzip.compress(b"\0" * (200 << 20), 9, mtime=0)
    twice = gzip.compress(zeros, 9, mtime=0)
    ref = make_layout(tmp_path / "twice", [twice], how=None)
    store.ok("pull", ref)
    assert "layer sha256:" in store.fails("disk", ref)
    info = tarfile.TarInfo("huge")
    info.size = 1 << 40
    layer = info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024
    ref = make_layout(tmp_path / "huge", [layer])
    store.ok("pull", ref)
    error = store.fails("disk", ref)
    assert "a file of 1099511627776 bytes" in error and "huge" in error
    assert store.files("disks") == store.files("tmp") == []


@needs_root
def test_full_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", folder], check=True)
    try:
        store = Store(folder / "root")
        ref = make_layout(tmp_path / "oci", [Layer().file("big", os.urandom(20_000_000)).done()], how=None)
        store.ok("pull", ref)
        assert "No space left" in store.fails("disk", ref)
        assert store.files("disks") == store.files("tmp") == []
        store.ok("rmi", ref)
        ref = make_layout(tmp_path / "oci2", [Layer().file("big", os.urandom(40_000_000)).done()], how=None)
        assert "No space left" in store.fails("pull", ref)
        assert store.files("tmp") == []
    finally:
        subprocess.run(["umount", folder], check=True)


def test_too_many_entries(tmp_path, store):
    """LIMIT_LAYER_ENTRIES: a gigabyte of headers that packs to one megabyte."""
    header = tarfile.TarInfo("same").tobuf(tarfile.USTAR_FORMAT)
    squeeze, digest, packed = zlib.compressobj(1, zlib.DEFLATED, 31), hashlib.sha256(), []
    for count in (500_000, 500_000, 500_000, 500_001):
        plain = header * count
        digest.update(plain)
        packed.append(squeeze.compress(plain))
    packed = b"".join(packed) + squeeze.flush()
    folder = tmp_path / "oci"

    def replace(manifest, config):
        manifest["layers"] = [{"mediaType": LAYER + "+gzip", "digest": put_blob(folder, packed), "size": len(packed)}]
        config["rootfs"]["diff_ids"] = ["sha256:" + digest.hexdigest()]

    ref = make_layout(folder, [small("x")], change=replace)
    store.ok("pull", ref)
    error = store.fails("disk", ref)
    assert "more than 2000000 entries" in error and "layer sha256:" in error
    assert store.files("disks") == store.files("tmp") == []


def scratch(cache, path, size):
    from imagetools import TOOL
    return subprocess.run([TOOL, cache, "scratch", path, str(size)], capture_output=True, check=True)


def test_scratch_disks(tmp_path):
    for size in (16 << 20, 100 << 20, 1 << 30, 16 << 30, 1 << 40):
        disk = tmp_path / f"{size}.img"
        scratch(tmp_path / "cache", disk, size)
        check_disk(disk)
        assert disk.stat().st_size == 1 << 40
        assert disk.stat().st_blocks * 512 < (3 << 20 if size < 1 << 40 else 8 << 20)
    start = time.monotonic()
    scratch(tmp_path / "cache", tmp_path / "again.img", 16 << 30)
    assert time.monotonic() - start < 0.5


def overhead(disk):
    text = subprocess.run(["dumpe2fs", "-h", disk], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"Overhead clusters:\s+(\d+)", text)[1])


@needs_root
@pytest.mark.parametrize("size", [16 << 20, 100 << 20, 16 << 30])
def test_first_mount_corrects_nothing(tmp_path, size):
    """A kernel that counts another overhead than is written down writes it to every copy of the superblock."""
    disk, mnt = tmp_path / "disk.img", tmp_path / "mnt"
    scratch(tmp_path / "cache", disk, size)
    before = overhead(disk)
    mnt.mkdir()
    subprocess.run(["mount", "-o", "loop", disk, mnt], check=True)
    subprocess.run(["umount", mnt], check=True)
    assert overhead(disk) == before > 1000


@needs_root
def test_scratch_survives_a_cut(tmp_path):
    """What was on the disk when its writer vanished mounts again without a check: the journal is replayed."""
    disk, copy, mnt = tmp_path / "a.img", tmp_path / "b.img", tmp_path / "mnt"
    scratch(tmp_path / "cache", disk, 1 << 30)
    mnt.mkdir()
    subprocess.run(["mount", "-o", "loop,commit=1", disk, mnt], check=True)
    try:
        for i in range(500):
            (mnt / f"f{i}").write_bytes(b"x" * 5000)
        os.sync()
        for i in range(500):
            (mnt / f"g{i}").write_bytes(b"x" * 5000)
        copy_extents(disk, copy)
    finally:
        subprocess.run(["umount", mnt], check=True)
    subprocess.run(["mount", "-o", "loop", copy, mnt], check=True)
    try:
        assert len([p for p in mnt.iterdir() if p.name.startswith("f")]) == 500
        (mnt / "new").write_bytes(b"new")
    finally:
        subprocess.run(["umount", mnt], check=True)
    check_disk(copy)


def copy_extents(source, target):
    """cp would read a terabyte of holes where it cannot seek over them; this copies data alone."""
    with open(source, "rb") as src, open(target, "wb") as dst:
        dst.truncate(os.fstat(src.fileno()).st_size)
        at = 0
        while True:
            try:
                at = os.lseek(src.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(src.fileno(), at, os.SEEK_HOLE)
            while at < end:
                at += os.pwrite(dst.fileno(), os.pread(src.fileno(), min(1 << 20, end - at), at), at)
