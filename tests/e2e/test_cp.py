# SPDX-License-Identifier: Apache-2.0
"""cp: files and trees, both ways and as streams, by Docker's rules; and a guest that sends what was not asked for."""
import io
import os
import pathlib
import stat
import subprocess
import tarfile

import pytest

from conftest import BUILD, IMAGES

DEBIAN = f"oci:{IMAGES}/debian:latest"


@pytest.fixture(scope="module")
def box(micropod_root):
    micropod_root.ok("run", "-d", "--name", "box", DEBIAN, "sleep", "100000")
    yield micropod_root
    micropod_root.ok("rm", "-f", "box")


@pytest.fixture(autouse=True)
def nothing_left():
    """One sandbox is shared: it is counted when the module ends."""
    yield


@pytest.fixture
def tree(tmp_path):
    top = tmp_path / "tree"
    (top / "sub/deep").mkdir(parents=True)
    (top / "file").write_bytes(os.urandom(70000))
    (top / "script").write_text("#!/bin/sh\n")
    (top / "script").chmod(0o750)
    os.link(top / "file", top / "sub/same")
    (top / "sub/link").symlink_to("../file")
    (top / ("n" * 200)).write_text("long")
    (top / "b\udcff\udc80y").write_text("bytes")
    (top / "empty").write_text("")
    os.utime(top / "script", (1, 1_600_000_000.25))
    return top


def describe(top):
    top = pathlib.Path(top)
    found = {}
    for path in sorted(top.rglob("*")):
        st = path.lstat()
        kind = stat.S_IFMT(st.st_mode)
        found[os.fsencode(path.relative_to(top))] = (kind, st.st_mode & 0o777, os.readlink(path) if stat.S_ISLNK(kind) else
                                                     path.read_bytes() if stat.S_ISREG(kind) else None)
    return found


def inside(box, *words):
    return box.ok("exec", "box", *words)


def test_a_tree_there_and_back(box, tree, tmp_path):
    box.ok("cp", tree, "box:/srv")
    assert inside(box, "stat", "-c", "%a %Y %U", "/srv/tree/script").split() == ["750", "1600000000", "root"]
    assert inside(box, "stat", "-c", "%h", "/srv/tree/file").strip() == "2"
    box.ok("cp", "box:/srv/tree", tmp_path / "back")
    assert describe(tmp_path / "back") == describe(tree)
    assert (tmp_path / "back/file").stat().st_ino == (tmp_path / "back/sub/same").stat().st_ino
    assert (tmp_path / "back/script").stat().st_mtime_ns == 1_600_000_000_250_000_000
    inside(box, "rm", "-r", "/srv/tree")


def test_ten_megabytes_and_five_thousand_files(box, tmp_path):
    big, many = tmp_path / "big", tmp_path / "many"
    big.write_bytes(os.urandom(10 << 20))
    many.mkdir()
    for number in range(5000):
        (many / f"f{number}").write_bytes(b"%d" % number)
    for path in (big, many):
        box.ok("cp", path, "box:/srv/")
        box.ok("cp", f"box:/srv/{path.name}", tmp_path / "back")
        assert subprocess.run(["diff", "-r", path, tmp_path / "back"]).returncode == 0
        subprocess.run(["rm", "-r", tmp_path / "back"], check=True)
        inside(box, "rm", "-r", f"/srv/{path.name}")


def test_where_things_go(box, tmp_path):
    """Docker's rules: https://docs.docker.com/reference/cli/docker/container/cp/"""
    one, folder = tmp_path / "one", tmp_path / "folder"
    one.write_text("1")
    folder.mkdir()
    (folder / "x").write_text("x")
    inside(box, "mkdir", "-p", "/t/there")
    box.ok("cp", one, "box:/t/new")                 # a file that is not there
    box.ok("cp", one, "box:/t/there")               # into a folder
    box.ok("cp", one, "box:t/there/one")            # over a file; without a slash it is the root's
    box.ok("cp", folder, "box:/t/copy")             # a folder that is not there
    box.ok("cp", folder, "box:/t/there")            # into a folder
    box.ok("cp", f"{folder}/.", "box:/t/there")     # what is in it
    assert inside(box, "sh", "-c", "cd /t && find . -type f | sort").split() == [
        "./copy/x", "./new", "./there/folder/x", "./there/one", "./there/x"]
    for source, target, why in ((one, "box:/t/no/such", "/t/no/"), (one, "box:/t/none/", "there is no folder"),
                                (folder, "box:/t/new", "is not a folder"), (tmp_path / "absent", "box:/t", "No such file"),
                                (f"{one}/", "box:/t", "")):
        done = box("cp", source, target)
        assert done.returncode == 1 and why in done.stderr.decode() and len(done.stderr.splitlines()) == 1, done
    back = tmp_path / "back"
    back.mkdir()
    box.ok("cp", "box:/t/new", back)
    box.ok("cp", "box:/t/new", back / "renamed")
    box.ok("cp", "box:/t/copy/.", back)
    box.ok("cp", "box:/t/copy", back / "whole")
    assert sorted(os.fsdecode(path) for path in describe(back)) == ["new", "renamed", "whole", "whole/x", "x"]
    for source, target, why in (("box:/t/absent", back, "there is no"), ("box:/t/copy", back / "new", "is not a folder"),
                                ("box:/t/new", f"{back}/none/", "there is no folder"), ("box:/t/new", tmp_path / "no/way", "No such file")):
        done = box("cp", source, target)
        assert done.returncode == 1 and why in done.stderr.decode() and len(done.stderr.splitlines()) == 1, done
    inside(box, "rm", "-r", "/t")


def test_names_that_lead_up_and_the_root(box, tmp_path):
    """".." is the folder that it leads to, and the root's own name is none: what is in it goes into the target."""
    inside(box, "sh", "-c", "mkdir -p /up/sub && echo x > /up/f")
    box.ok("cp", "box:/up/sub/..", tmp_path)
    assert (tmp_path / "up/f").read_text() == "x\n"
    box.ok("cp", f"{tmp_path}/up/sub/..", "box:/srv")
    assert inside(box, "cat", "/srv/up/f") == "x\n"
    box.ok("cp", "box:/proc/self/status", tmp_path)
    inside(box, "rm", "-r", "/up", "/srv/up")


def test_links_and_owners(box, tmp_path):
    inside(box, "sh", "-c", "mkdir /l && echo x > /l/f && ln -s f /l/s && chown 1234:77 /l/f && chmod 4755 /l/f")
    box.ok("cp", "box:/l/s", tmp_path / "link")
    box.ok("cp", "-L", "box:/l/s", tmp_path / "followed")
    assert os.readlink(tmp_path / "link") == "f" and (tmp_path / "followed").read_text() == "x\n"
    box.ok("cp", "box:/l/f", tmp_path / "plain")
    st = (tmp_path / "plain").stat()
    assert st.st_uid == os.getuid() and st.st_mode & 0o7777 == 0o755, "no right to another's identity comes from a guest"
    if os.geteuid() == 0:
        box.ok("cp", "-a", "box:/l/f", tmp_path / "kept")
        assert ((tmp_path / "kept").stat().st_uid, (tmp_path / "kept").stat().st_gid) == (1234, 77)
        box.ok("cp", "-a", tmp_path / "kept", "box:/l/again")
        assert inside(box, "stat", "-c", "%u %g", "/l/again").split() == ["1234", "77"]
    box.ok("cp", tmp_path / "link", "box:/l/t")
    assert inside(box, "readlink", "/l/t").strip() == "f"
    inside(box, "rm", "-r", "/l")


def test_streams(box, tree):
    data = subprocess.run(["tar", "-C", tree.parent, "--format=gnu", "-c", "tree"], capture_output=True, check=True).stdout
    box.ok("cp", "-", "box:/srv", input=data)
    out = box("cp", "box:/srv/tree", "-")
    assert out.returncode == 0
    with tarfile.open(fileobj=io.BytesIO(out.stdout), errors="surrogateescape") as tar:
        names = {os.fsencode(member.name) for member in tar}
        assert names == {b"tree"} | {b"tree/" + path for path in describe(tree)}
    inside(box, "rm", "-r", "/srv/tree")
    assert box("cp", "-", "box:/etc/passwd", input=data).returncode == 1
    assert b"the archive is broken" in box("cp", "-", "box:/srv", input=b"no archive" * 100).stderr
    up = io.BytesIO()
    with tarfile.open(fileobj=up, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../up"))
        tar.addfile(tarfile.TarInfo("ok"))
    done = box("cp", "-", "box:/srv", input=up.getvalue())
    assert done.returncode == 1 and b"leads out" in done.stderr
    inside(box, "rm", "/srv/ok")


def test_a_full_disk_is_told(box, tmp_path):
    (tmp_path / "big").write_bytes(bytes(8 << 20))
    done = box("cp", tmp_path / "big", "box:/dev/shm/big")
    assert done.returncode == 0
    inside(box, "rm", "/dev/shm/big")
    (tmp_path / "big").write_bytes(bytes(70 << 20))
    done = box("cp", tmp_path / "big", "box:/dev/shm/big")
    assert done.returncode == 1 and b"No space left" in done.stderr
    inside(box, "rm", "-f", "/dev/shm/big")


def test_one_that_does_not_run(micropod_root, tmp_path):
    micropod_root.ok("create", "--name", "new", micropod_root.busybox, "true")
    micropod_root.ok("cp", "new:/etc/passwd", tmp_path)  # more of that in test_changes
    assert (tmp_path / "passwd").read_text().startswith("root:")
    micropod_root.ok("rm", "new")
    for words, why in ((("a", "b"), b"one of the two must be in a sandbox"), (("a:x", "b:y"), b"between sandboxes")):
        done = micropod_root("cp", *words)
        assert done.returncode == 1 and why in done.stderr


STREAMS = {
    "another name": [("evil",)],
    "up": [("tree/../evil",)],
    "absolute": [("/tmp/micropod-evil",)],
    "through a link": [("tree", "5"), ("tree/s", "2", ".."), ("tree/s/evil",)],
    "through a link to a folder": [("tree", "2", ".."), ("tree/evil",)],
    "hard link out": [("tree", "5"), ("tree/h", "1", "victim"), ("tree/h",)],
    "hard link up": [("tree", "5"), ("tree/h", "1", "tree/../victim"), ("tree/h",)],
    "device": [("tree", "5"), ("tree/d", "3")],
}


@pytest.mark.parametrize("kind", STREAMS)
def test_hostile_streams_stay_where_they_belong(tmp_path, kind):
    """What a guest sends goes through the same function as here: nothing appears outside of the target."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, *more in STREAMS[kind]:
            info = tarfile.TarInfo(name)
            info.type = more[0].encode() if more else b"0"
            info.linkname = more[1] if len(more) > 1 else ""
            info.mode = 0o755
            data = b"bad" if info.type == b"0" else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    outer = tmp_path / "outer"
    target = outer / "here"
    target.mkdir(parents=True)
    (target / "victim").write_text("good")
    (outer / "victim").write_text("good")
    done = subprocess.run([BUILD / "tests/tools/hosttree-tool", target, "tree"], input=stream.getvalue(), capture_output=True)
    assert done.returncode == 1, done
    assert (target / "victim").read_text() == (outer / "victim").read_text() == "good"
    assert not (outer / "evil").exists() and not (target / "evil").exists() and not pathlib.Path("/tmp/micropod-evil").exists()
    assert set(os.listdir(target)) <= {"victim", "tree"} and set(os.listdir(outer)) == {"victim", "here"}


def test_a_broken_stream_is_told_and_read_to_its_end(tmp_path):
    """The writer is not ended by a closed pipe before it can say how it went."""
    child = subprocess.Popen([BUILD / "tests/tools/hosttree-tool", tmp_path, "tree"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    for _ in range(64):
        child.stdin.write(os.urandom(65536))
    child.stdin.close()
    assert child.wait(60) == 1 and child.stderr.read().startswith(b"micropod: the archive: ")
