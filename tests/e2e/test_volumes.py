# SPDX-License-Identifier: Apache-2.0
"""Folders and files of the host in the container, over virtio-fs."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import stat
import tempfile
import time

import pytest
from conftest import IMAGES
from ordinary import ROOT, USER, ordinary  # noqa: F401 (a fixture)

DEBIAN = f"oci:{IMAGES}/debian:latest"


@pytest.fixture
def folder():
    """Any user reaches it (pytest's own ones are private)."""
    with tempfile.TemporaryDirectory(prefix="micropod-volume-") as name:
        path = pathlib.Path(name)
        path.chmod(0o755)
        (path / "file").write_text("hello\n")
        yield path


def serving(folder, at=" / "):
    """Pids of the virtiofsd processes that serve this folder (or file, at=" /file ")."""
    found = []
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (proc / "comm").read_text() == "virtiofsd\n" and f"/{folder.name}{at}" in (proc / "mountinfo").read_text():
                found.append(int(proc.name))
        except OSError:  # it has just ended
            continue
    return found


@pytest.mark.parametrize("way", [[], ["--cold"], ["--kernel", "cloud"], ["--kernel", "cloud", "--cold"], ["--runtime", "crun"],
                                 ["--runtime", "runc"]], ids=" ".join)
def test_both_ways_on_every_way_to_start(micropod, folder, way):
    out = micropod.ok("run", "--rm", *way, "-v", f"{folder}:/w", micropod.busybox, "sh", "-c",
                      "cat /w/file && echo back > /w/back && mkdir -p /w/a/b && ln -s file /w/link && mv /w/back /w/a/b && stat -c %a /w/a")
    assert out == "hello\n755\n"
    assert (folder / "a/b/back").read_text() == "back\n" and os.readlink(folder / "link") == "file"
    assert not serving(folder)


def test_changes_are_seen_at_once(micropod, folder):
    micropod.ok("run", "-d", "--name", "box", "-v", f"{folder}:/w", micropod.busybox, "sleep", "1000")
    for i in range(5):
        (folder / "file").write_text(f"host {i}\n")
        assert micropod.ok("exec", "box", "cat", "/w/file") == f"host {i}\n"
        micropod.ok("exec", "box", "sh", "-c", f"echo guest {i} >> /w/file")
        assert (folder / "file").read_text() == f"host {i}\nguest {i}\n"
        (folder / f"new{i}").touch()
        assert f"new{i}\n" in micropod.ok("exec", "box", "ls", "/w")
        (folder / f"new{i}").unlink()
        assert micropod("exec", "box", "test", "-e", f"/w/new{i}").returncode == 1
    # Into the volume by cp, and out of it.
    (folder.parent / "micropod-cp-in").write_text("cp\n")
    try:
        micropod.ok("cp", folder.parent / "micropod-cp-in", "box:/w/in")
    finally:
        (folder.parent / "micropod-cp-in").unlink()
    assert (folder / "in").read_text() == "cp\n"
    # It is there again after a restart, and what serves it is another.
    before = serving(folder)
    micropod.ok("stop", "-t", "0", "box")
    assert len(before) == 1 and not serving(folder)
    micropod.ok("start", "box")
    assert micropod.ok("exec", "box", "cat", "/w/in") == "cp\n"
    assert len(serving(folder)) == 1 and serving(folder) != before


def test_a_tree_survives_the_way(micropod, folder):
    """Names, sizes and contents, with more than the kernel asks for at once."""
    want = {}
    for i in range(300):
        path = folder / f"d{i % 7}" / ("n" * 200 + str(i))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(i * 97))
        want[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "big").write_bytes(os.urandom(8 << 20))
    want["big"] = hashlib.sha256((folder / "big").read_bytes()).hexdigest()
    want["file"] = hashlib.sha256(b"hello\n").hexdigest()
    out = micropod.ok("run", "--rm", "-v", f"{folder}:/w", micropod.busybox, "sh", "-c",
                      "mkdir /w/copy && cd /w && cp -r big file d* copy && cd copy && find . -type f | xargs sha256sum")
    got = {line.split("  ")[1].removeprefix("./"): line.split()[0] for line in out.splitlines()}
    assert got == want
    for name, digest in want.items():
        assert hashlib.sha256((folder / "copy" / name).read_bytes()).hexdigest() == digest


def test_read_only_is_held_by_the_host(micropod, folder):
    script = "cat /w/file; echo x > /w/file; touch /w/new; rm /w/file; mount -o remount,rw /w; chmod 777 /w/file; echo end"
    for option in (["-v", f"{folder}:/w:ro"], ["--mount", f"type=bind,source={folder},target=/w,readonly"]):
        done = micropod("run", "--rm", *option, micropod.busybox, "sh", "-c", script)
        assert done.stdout == b"hello\nend\n" and done.stderr.count(b"Read-only file system") >= 3, done
    # Not by the guest's mount alone: the daemon itself has it read-only.
    micropod.ok("run", "-d", "--name", "box", "-v", f"{folder}:/w:ro", micropod.busybox, "sleep", "1000")
    (pid,) = serving(folder)
    line = next(line for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines() if f"/{folder.name} / " in line)
    assert "ro" in line.split(" / ")[1].split()[0].split(",")
    assert sorted(os.listdir(folder)) == ["file"] and (folder / "file").read_text() == "hello\n"


def test_files_places_and_order(micropod, folder):
    """A file alone, a volume in a volume given the wrong way round, a place whose parts are missing, one behind a link of
    the image, and what the image has there is covered."""
    inner = folder / "inner"
    inner.mkdir()
    (inner / "deep").write_text("deep\n")
    (folder / "secret").write_text("secret\n")
    out = micropod.ok("run", "--rm", "-v", f"{inner}:/w/sub", "-v", f"{folder}:/w", "-v", f"{folder}/file:/etc/one/two.txt",
                      "-v", f"{inner}/./deep:/bin/new:ro", micropod.busybox, "sh", "-c",
                      "cat /w/sub/deep /w/file /etc/one/two.txt /bin/new; ls /etc/one; echo more >> /etc/one/two.txt")
    assert out == "deep\nhello\nhello\ndeep\ntwo.txt\n"
    assert (folder / "file").read_text() == "hello\nmore\n"
    # The file's neighbours cannot be reached by it: its daemon has nothing else.
    micropod.ok("run", "-d", "--name", "box", "-v", f"{folder}/file:/f", micropod.busybox, "sleep", "1000")
    (pid,) = serving(folder / "file", " /file ")
    if ROOT:
        assert os.listdir(f"/proc/{pid}/root") == ["file"]


def test_a_missing_folder_is_made_by_v_alone(micropod, folder):
    out = micropod.ok("run", "--rm", "-v", f"{folder}/a/b:/w", micropod.busybox, "touch", "/w/x")
    assert out == "" and (folder / "a/b/x").exists()
    said = micropod.error(micropod("run", "--rm", "--mount", f"type=bind,src={folder}/none,dst=/w", micropod.busybox, "true"))
    assert said == f"cannot share '{folder}/none' with the container: No such file or directory" and not (folder / "none").exists()
    # Relative to where the command is typed.
    assert micropod.ok("run", "--rm", "-v", ".:/w", "-w", "/w", micropod.busybox, "cat", "file", cwd=folder) == "hello\n"
    # A folder that has gone since.
    micropod.ok("create", "--name", "box", "-v", f"{folder}/a:/w", micropod.busybox, "true")
    shutil.rmtree(folder / "a")
    assert micropod.error(micropod("start", "box")).endswith(f"cannot share '{folder}/a': No such file or directory")


def test_what_cannot_be(micropod, folder):
    for words, said in (
            (["-v", "na+me:/w"], "'na+me' is no name of a volume, and as a path it has to begin with '/' or './'"),
            (["--mount", f"src={folder},dst=/w"], f"'{folder}' is no name of a volume: for a path give type=bind"),
            (["-v", "word"], "volume 'word' is not HOST:CONTAINER[:ro], NAME:CONTAINER[:ro] or /CONTAINER, such as ./src:/src"),
            (["-v", f"{folder}:w"], "the volume's place 'w' in the container is no absolute path"),
            (["-v", f"{folder}:/"], "a volume cannot be the container's root: give a folder in it"),
            (["-v", f"{folder}:/a/../.."], "the volume's place '/a/../..' in the container has '..' in it"),
            (["-v", f"{folder}:/w:rx"], f"volume '{folder}:/w:rx' has an unknown option 'rx': use ro or rw"),
            (["-v", f"{folder}:/w", "-v", f"{folder}:/w//"], "two volumes have the same place '/w'"),
            (["-v", "/dev/null:/w"], "cannot share '/dev/null' with the container: it is neither a folder nor a regular file"),
            (["--mount", f"source={folder}"], f"mount 'source={folder}' is not type=bind,source=HOST,target=CONTAINER"),
            (["--mount", "type=npipe,source=x,target=/w"],
             "mount 'type=npipe,source=x,target=/w' has type 'npipe': give bind, volume or tmpfs"),
            (["--mount", f"src={folder},dst=/w,bind-propagation=shared"],
             f"mount 'src={folder},dst=/w,bind-propagation=shared' has an unknown part 'bind-propagation=shared': use type, source, "
             "target, readonly, tmpfs-size and tmpfs-mode"),
            ([word for i in range(9) for word in ("-v", f"{folder}:/{i}")], "9 volumes are too many: give 8 at most")):
        assert micropod.error(micropod("run", *words, micropod.busybox, "true")) == said
    assert micropod.ok("ps", "-aq") == ""
    out = micropod.ok("run", "--rm", *[word for i in range(8) for word in ("-v", f"{folder}:/{i}")], micropod.busybox, "sh", "-c",
                      "cat /[0-7]/file | wc -l")
    assert out == "8\n"


def test_inspect_and_stats_know_them(micropod, folder):
    micropod.ok("run", "-d", "--name", "box", "-v", f"{folder}:/w:ro", "-v", f"{folder}:/v", micropod.busybox, "sleep", "1000")
    one = micropod.inspect("box")
    assert one["HostConfig"]["Binds"] == [f"{folder}:/v", f"{folder}:/w:ro"]
    assert [(m["Type"], m["Source"], m["Destination"], m["RW"]) for m in one["Mounts"]] == [
        ("bind", str(folder), "/v", True), ("bind", str(folder), "/w", False)]
    state = json.loads((pathlib.Path(one["Micropod"]["Dir"]) / "state.json").read_text())
    assert sorted(int(line.split()[0]) for line in state["helpers"]) == sorted(serving(folder)) != []
    micropod.ok("rm", "-f", "box")
    assert not serving(folder)


def test_a_daemon_that_dies_is_the_sandbox_end(micropod, folder):
    micropod.ok("run", "-d", "--name", "box", "-v", f"{folder}:/w", micropod.busybox, "sleep", "1000")
    (pid,) = serving(folder)
    os.kill(pid, signal.SIGKILL)
    assert micropod.ok("wait", "box") == "137\n"
    assert micropod.inspect("box")["State"]["Error"] == f"what serves the volume '{folder}' (virtiofsd) died (status 137)"


def test_the_template_stays_as_it_was(micropod, folder):
    """Each has a copy of the memory, so nothing that one does is seen by another or by a later one."""
    micropod.ok("run", "--rm", "-v", f"{folder}:/w", micropod.busybox, "true")
    rows = [json.loads(line) for line in micropod.ok("template", "ls", "--no-trunc", "--format", "json").splitlines()]
    ram = [micropod.root / "templates" / row["ID"] / "ram" for row in rows if row["Volumes"] == "yes"]

    def sums():
        return [hashlib.file_digest(path.open("rb"), "sha256").hexdigest() for path in ram]

    before = sums()
    assert ram
    for name in ("one", "two"):
        micropod.ok("run", "-d", "--name", name, "-v", f"{folder}:/w", micropod.busybox, "sh", "-c",
                    f"mkdir /x && mount -t tmpfs x /x 2>/dev/null; echo {name} > /tmp/mine; sleep 1000")
    for name in ("one", "two"):
        assert micropod.ok("exec", name, "sh", "-c", "head -c 200m /dev/urandom > /tmp/big; cat /tmp/mine") == f"{name}\n"
    assert sums() == before
    ids = {micropod.ok("exec", name, "cat", "/proc/sys/kernel/random/uuid") for name in ("one", "two")}
    assert len(ids) == 2


def test_nothing_outside_is_reached(micropod, folder):
    """Links lead within the guest; devices are not made; the daemon runs with no more than it needs."""
    (folder / "out").symlink_to("/etc/hostname")
    (folder / "up").symlink_to("../../../../../../etc/shadow")
    done = micropod("run", "--rm", "--hostname", "inside", "-v", f"{folder}:/w", DEBIAN, "sh", "-c",
                    "cat /w/out; cat /w/../w/file; ls /w/..; mknod /w/dev b 8 0; mknod /w/tty c 5 0; mkfifo /w/fifo; test -p /w/fifo && echo fifo")
    out = done.stdout.decode().splitlines()
    assert out[:2] == ["inside", "hello"] and "etc" in out and out[-1] == "fifo", done
    assert not (folder / "dev").exists() and not (folder / "tty").exists() and stat.S_ISFIFO((folder / "fifo").stat().st_mode)
    micropod.ok("run", "-d", "--name", "box", "-v", f"{folder}:/w", micropod.busybox, "sleep", "1000")
    (pid,) = serving(folder)
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, SETFCAP: files alone.
    assert int(status["CapEff"], 16) & ~0x800000db == 0 and status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    for space in ("mnt", "pid", "net", "ipc", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{space}") != os.readlink(f"/proc/self/ns/{space}")


@pytest.mark.skipif(not ROOT, reason="owners are kept by root's sandboxes alone")
def test_owners_are_kept_for_root(micropod, folder):
    folder.chmod(0o777)
    os.chown(folder / "file", 1234, 4321)
    out = micropod.ok("run", "--rm", "-v", f"{folder}:/w", micropod.busybox, "sh", "-c",
                      "stat -c %u:%g /w/file; touch /w/mine; chown 77:88 /w/mine; chmod 4755 /w/mine")
    assert out == "1234:4321\n"
    mine = (folder / "mine").stat()
    assert (mine.st_uid, mine.st_gid, mine.st_mode & 0o7777) == (77, 88, 0o4755)
    micropod.ok("run", "--rm", "--user", "1000:1001", "-v", f"{folder}:/w", micropod.busybox, "touch", "/w/other")
    other = (folder / "other").stat()
    assert (other.st_uid, other.st_gid) == (1000, 1001)


def test_an_ordinary_user_shares_its_own_files(ordinary, folder):
    run, base = ordinary
    (base / "volume").mkdir()
    (base / "volume/file").write_text("hello\n")
    if ROOT:
        for path in (base / "volume", base / "volume/file"):
            os.chown(path, USER, USER)
        (folder / "roots").write_text("root's\n")
        (folder / "roots").chmod(0o600)
    done = run("run", "--rm", "-v", f"{base}/volume:/w", f"oci:{base}/busybox:latest", "sh", "-c",
               "cat /w/file; stat -c %u:%g /w/file; echo more >> /w/file; mkdir /w/d; touch /w/d/x; chmod 600 /w/d/x; chown 5 /w/d/x || echo mine")
    assert done.returncode == 0 and done.stdout == "hello\n0:0\nmine\n", done
    new = (base / "volume/d/x").stat()
    assert (base / "volume/file").read_text() == "hello\nmore\n"
    assert (new.st_uid, new.st_mode & 0o7777) == (USER if ROOT else os.geteuid(), 0o600)
    # Whoever is not root there can do what the modes allow, and make nothing.
    (base / "volume").chmod(0o777)
    done = run("run", "--rm", "--user", "1000", "-v", f"{base}/volume:/w", f"oci:{base}/busybox:latest", "sh", "-c", "cat /w/file; touch /w/n")
    assert done.returncode == 1 and done.stdout == "hello\nmore\n" and not (base / "volume/n").exists(), done
    if ROOT:
        done = run("run", "--rm", "-v", f"{folder}:/w", f"oci:{base}/busybox:latest", "sh", "-c", "ls /w/roots && cat /w/roots; touch /w/new")
        assert done.returncode == 1 and done.stdout == "/w/roots\n" and done.stderr.count("Permission denied") == 2, done


# Volumes with names

@pytest.fixture
def volumes(micropod):
    yield lambda *words: micropod.ok("volume", *words)
    micropod.clean()
    micropod.ok("volume", "prune", "-f")
    assert micropod.ok("volume", "ls", "-q") == ""


def test_what_is_in_a_volume_lasts(micropod, volumes):
    micropod.ok("run", "--rm", "-v", "data:/d", micropod.busybox, "sh", "-c", "echo kept > /d/file; chown 7:8 /d/file")
    assert volumes("ls", "-q") == "data\n"
    assert micropod.ok("run", "--rm", "--mount", "src=data,dst=/e/f,readonly", micropod.busybox, "sh", "-c", "cat /e/f/file; touch /e/f/x || echo ro") == "kept\nro\n"
    if ROOT:
        assert micropod.ok("run", "--rm", "-v", "data:/d", micropod.busybox, "stat", "-c", "%u:%g", "/d/file") == "7:8\n"
    info = json.loads(volumes("inspect", "data"))[0]
    assert info["Name"] == "data" and pathlib.Path(info["Mountpoint"], "file").read_text() == "kept\n"
    micropod.ok("create", "--name", "box", "-v", "data:/d", micropod.busybox, "true")
    mount = micropod.inspect("box")["Mounts"][0]
    assert (mount["Type"], mount["Name"], mount["Destination"]) == ("volume", "data", "/d")
    assert "is used by sandbox 'box'" in micropod.error(micropod("volume", "rm", "data"))
    assert "Deleted" not in volumes("prune", "-f")
    micropod.ok("rm", "box")
    assert volumes("rm", "data") == "data\n"
    assert "no such volume: data" in micropod.error(micropod("volume", "rm", "data"))
    assert volumes("rm", "-f", "data") == ""


@pytest.mark.parametrize("runtime", ["builtin", "crun"])
def test_an_empty_volume_gets_what_the_image_has(micropod, volumes, runtime):
    run = ["run", "--rm", "--runtime", runtime, "-v", "etc:/etc/security"]
    look = "cd /etc/security; find . | sort; stat -c '%a %U' . limits.d opasswd; cat $(find . -type f | sort) | md5sum"
    assert micropod.ok(*run, DEBIAN, "sh", "-c", look) == micropod.ok("run", "--rm", DEBIAN, "sh", "-c", look)
    # Once: what is taken out stays out.
    micropod.ok(*run, DEBIAN, "rm", "-r", "/etc/security/limits.d")
    assert "limits.d" not in micropod.ok(*run, DEBIAN, "ls", "/etc/security")
    # Not into a folder of the host's, and not where there is nothing.
    assert micropod.ok("run", "--rm", "--runtime", runtime, "-v", "new:/not/there", DEBIAN, "ls", "-A", "/not/there") == ""


def test_volumes_by_themselves(micropod, volumes):
    assert volumes("create", "--label", "a=b", "one") == volumes("create", "one") == "one\n"
    name = volumes("create").strip()
    assert len(name) == 32 and set(volumes("ls", "-q").split()) == {"one", name}
    assert volumes("ls", "-q", "--filter", "label=a") == "one\n" == volumes("ls", "--format", "{{.Name}}", "--filter", "name=on")
    micropod.ok("create", "--name", "box", "-v", "one:/d", micropod.busybox, "true")
    assert volumes("ls", "-q", "--filter", "dangling=true") == name + "\n" and volumes("ls", "-q", "--filter", "dangling=false") == "one\n"
    assert micropod.ok("ps", "-aq", "--filter", "volume=one").strip() == micropod.inspect("box")["Id"][:12]
    assert micropod("volume", "prune", input=b"n\n").stdout.endswith(b"[y/N] ")
    assert volumes("prune", "-f") == f"Deleted volume: {name}\n"
    for wrong, words in ((["create", "a/b"], "no name of a volume"), (["create", "--label", "=", "x1"], "give KEY=VALUE"), (["inspect", "nope"], "no such volume"),
                         (["ls", "--filter", "x=y"], "option '--filter'"), (["frob"], "is followed by one of create")):
        assert words in micropod.error(micropod("volume", *wrong))
    for wrong, words in ((["-v", "a b:/c"], "no name of a volume"), (["--mount", "type=nfs,dst=/x"], "give bind, volume or tmpfs"),
                         (["--mount", "type=tmpfs,src=x,dst=/x"], "type=tmpfs,target="), (["--mount", "type=bind,src=/tmp,dst=/x,tmpfs-size=1m"], "are for type=tmpfs")):
        assert words in micropod.error(micropod("create", *wrong, micropod.busybox))


def test_volumes_without_a_name(micropod, volumes):
    """Made with the sandbox, gone with it by --rm and by rm -v, left by rm."""
    count = lambda: len(micropod.ok("volume", "ls", "-q").split())  # noqa: E731
    had = count()
    script = "touch /data/x /more/y && mount | grep -c virtiofs"
    assert micropod.ok("run", "--rm", "-v", "/data", "--mount", "type=volume,target=/more", micropod.busybox, "sh", "-c", script) == "2\n"
    assert count() == had
    micropod.ok("run", "--name", "box", "-v", "/data", micropod.busybox, "touch", "/data/x")
    mount = micropod.inspect("box")["Mounts"][0]
    assert mount["Type"] == "volume" and mount["Destination"] == "/data" and (pathlib.Path(mount["Source"]) / "x").exists()
    assert mount["Name"] in micropod.ok("volume", "ls", "-q")
    micropod.ok("start", "-a", "box")
    micropod.ok("rm", "box")
    assert count() == had + 1
    micropod.ok("run", "--name", "box", "-v", "/data", micropod.busybox, "true")
    micropod.ok("rm", "-v", "box")
    assert count() == had + 1 and micropod.ok("volume", "rm", mount["Name"]) and count() == had
    # Nothing is left of one that never was.
    assert micropod("run", "--name", "box", "-v", "/data", micropod.busybox, "/no/such/program").returncode == 127 and count() == had
    assert micropod("run", "-v", "/data", "--memory", "1k", micropod.busybox).returncode == 125 and count() == had


def test_memory_by_mount(micropod):
    out = micropod.ok("run", "--rm", "--mount", "type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=700", micropod.busybox, "sh", "-c", "mount | grep ' /x '; stat -c %a /x")
    assert "size=1024k" in out and out.endswith("700\n")
