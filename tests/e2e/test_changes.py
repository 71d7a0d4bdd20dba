# SPDX-License-Identifier: Apache-2.0
"""What a sandbox has changed of its image: diff, commit, export, and the files of one that does not run."""
import io
import json
import signal
import subprocess
import tarfile
import time

import pytest

CHANGES = ("echo hi > /etc/new; rm /etc/group; mkdir -p /var/x/y; echo z > /var/x/y/z; chmod 711 /root; rm -rf /home; mkdir /home; "
           "touch /home/inner; mv /bin/vi /bin/vi2; ln -s /etc/new /link; ln /etc/new /etc/hard; chown 7:8 /etc/passwd; mkfifo /tmp/p")
RESULT = """C /bin
D /bin/vi
A /bin/vi2
C /etc
D /etc/group
A /etc/hard
A /etc/new
C /etc/passwd
C /home
A /home/inner
A /link
C /root
C /tmp
A /tmp/p
C /var
A /var/x
A /var/x/y
A /var/x/y/z
"""


@pytest.fixture(params=["block", "virtiofs"])
def changed(micropod, request):
    micropod.ok("run", "-d", "--name", "box", "--rootfs", request.param, micropod.busybox, "sh", "-c", f"[ -e /link ] || {{ {CHANGES}; }}; echo done; exec sleep 1000")
    deadline = time.monotonic() + 20
    while micropod.ok("logs", "box") != "done\n" and time.monotonic() < deadline:
        time.sleep(0.05)
    return "box"


def test_the_list_running_and_stopped(micropod, changed):
    assert micropod.ok("diff", changed) == RESULT
    micropod.ok("kill", changed)
    micropod("wait", changed)
    assert micropod.ok("container", "diff", changed) == RESULT
    assert micropod.ok("ps", "-aq", "--no-trunc").split() == [micropod.inspect(changed)["Id"]]


def test_the_list_is_dockers(micropod, engine, changed):
    """The same commands, in a container of an engine."""
    engine.ok("run", "--name", "there", "busybox", "sh", "-c", CHANGES)
    theirs = set(engine.ok("diff", "there").splitlines())
    engine.ok("rm", "there")
    assert set(micropod.ok("diff", changed).splitlines()) == theirs


def test_one_that_was_never_started(micropod):
    micropod.ok("create", "--name", "box", micropod.busybox, "true")
    assert micropod.ok("diff", "box") == ""
    names = tarfile.open(fileobj=io.BytesIO(micropod("export", "box").stdout)).getnames()
    assert "./bin/busybox" in names and "./etc/passwd" in names


def test_commit(micropod, changed, tmp_path):
    words = ("-m", "a message", "-a", "Some One", "-c", 'CMD ["cat", "/etc/new"]', "-c", "ENV GREETING=hello", "-c", "ENV PATH=/bin",
             "-c", "LABEL a=b", "-c", "EXPOSE 80 53/udp", "-c", "VOLUME /v", "-c", "WORKDIR /etc", "-c", "STOPSIGNAL INT", "-c", "USER 1:2")
    image = micropod.ok("commit", *words, changed, "mine:1").strip()
    assert image.startswith("sha256:") and len(image) == 71
    assert micropod.ok("exec", changed, "sh", "-c", "echo > /after; ls /after") == "/after\n"  # it writes again
    assert micropod.ok("run", "--rm", "mine:1") == "hi\n"
    out = micropod.ok("run", "--rm", "-u", "0", "mine:1", "sh", "-c",
                      "echo $GREETING $PATH; pwd; ls -d /etc/group /bin/vi* 2>/dev/null; ls /home; stat -c '%u:%g' /etc/passwd; stat -c '%a' /root; "
                      "stat -c %h /etc/hard; readlink /link; stat -c %F /tmp/p")
    assert out == "hello /bin\n/etc\n/bin/vi2\ninner\n7:8\n711\n2\n/etc/new\nfifo\n"
    # A layer on a layer, without a name; nothing of the first is lost.
    micropod.ok("run", "--name", "next", "-u", "0", "mine:1", "sh", "-c", "rm /etc/new; echo two > /two")
    second = micropod.ok("commit", "next").strip()
    assert micropod.ok("run", "--rm", second, "sh", "-c", "cat /two; ls /etc/new 2>/dev/null; ls /home") == "two\ninner\n"
    steps = json.loads("[" + ",".join(micropod.ok("history", "--format", "json", "mine:1").splitlines()) + "]")
    assert steps[0]["Comment"] == "a message" and "sleep 1000" in micropod.ok("history", "--no-trunc", "mine:1")
    # Others read it: skopeo, and a layout of ours comes back.
    micropod.ok("save", "-o", str(tmp_path / "image.tar"), "mine:1")
    found = json.loads(subprocess.run(["skopeo", "inspect", "--config", f"oci-archive:{tmp_path}/image.tar"], check=True, capture_output=True).stdout)
    assert found["author"] == "Some One" and found["config"]["Labels"] == {"a": "b"} and found["config"]["StopSignal"] == "INT"
    assert found["config"]["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}} and found["config"]["Volumes"] == {"/v": {}}
    assert found["config"]["User"] == "1:2" and len(found["rootfs"]["diff_ids"]) == len(found["history"]) - 2
    micropod.ok("rm", "-f", "next")
    micropod.ok("rmi", second, "mine:1")
    assert micropod.ok("diff", changed)  # its own image is still there


def test_commit_of_a_stopped_one_that_writes_much(micropod):
    micropod.ok("run", "--name", "box", micropod.busybox, "sh", "-c", "dd if=/dev/urandom of=/big bs=1M count=24 2>/dev/null; md5sum /big > /sum")
    micropod.ok("commit", "--pause=false", "box", "big")
    assert micropod.ok("run", "--rm", "big", "md5sum", "-c", "/sum") == "/big: OK\n"
    micropod.ok("rm", "box")
    micropod.ok("rmi", "big")


def test_export(micropod, changed, tmp_path):
    micropod.ok("export", "-o", str(tmp_path / "all.tar"), changed)
    with tarfile.open(tmp_path / "all.tar") as tar:
        assert tar.extractfile("./etc/new").read() == b"hi\n" and "./etc/group" not in tar.getnames()
        assert tar.getmember("./etc/passwd").uid == 7 and "./proc/1" not in tar.getnames()


def test_files_of_one_that_does_not_run(micropod, changed, tmp_path):
    micropod.ok("stop", "-t", "0", changed)
    micropod.ok("cp", f"{changed}:/var/x", str(tmp_path / "x"))
    assert (tmp_path / "x/y/z").read_text() == "z\n"
    with tarfile.open(fileobj=io.BytesIO(micropod("cp", f"{changed}:/home", "-").stdout)) as tar:
        assert tar.getnames() == ["home", "home/inner"]
    (tmp_path / "new").write_text("from the host\n")
    micropod.ok("cp", str(tmp_path / "new"), f"{changed}:/etc/new")
    assert micropod.error(micropod("cp", f"{changed}:/nosuch", "-"), 1) == "there is no '/nosuch' in sandbox 'box'"
    assert "A /etc/new" in micropod.ok("diff", changed)
    assert micropod.ok("ps", "-aq").count("\n") == 1  # no helper is left
    micropod.ok("start", changed)
    assert micropod.ok("exec", changed, "cat", "/etc/new", "/etc/hard") == "from the host\nhi\n"
    assert micropod.ok("exec", changed, "cat", "/var/x/y/z") == "z\n"


def test_it_cannot_be_started_while_it_is_written_to(micropod, changed, tmp_path):
    """And what is interrupted changes nothing."""
    micropod.ok("stop", "-t", "0", changed)
    copy = micropod.popen("cp", "-", f"{changed}:/etc", stdin=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while "files-of-" not in micropod.ok("ps", "--format", "{{.Names}}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "files-of-" in micropod.ok("ps", "--format", "{{.Names}}")
    start = micropod.popen("start", changed, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(1)
    copy.send_signal(signal.SIGKILL)
    copy.wait()
    copy.stdin.close()
    start.communicate(timeout=60)
    if start.returncode:
        micropod.ok("start", changed)
    assert micropod.ok("exec", changed, "cat", "/var/x/y/z") == "z\n"


def test_wrong_input(micropod, docker_root):
    micropod.ok("create", "--name", "box", micropod.busybox, "true")
    assert micropod.error(micropod("diff", "nosuch")) == "no such sandbox: nosuch"
    assert micropod.error(micropod("commit", "nosuch", "x")) == "no such sandbox: nosuch"
    error = micropod.error(micropod("commit", "-c", "RUN true", "box", "x"))
    assert error.startswith("option '--change' is 'RUN true': give one of CMD, ENTRYPOINT,")
    assert micropod.error(micropod("commit", "box", "Upper/Case"))== "image reference 'Upper/Case' is not valid: the name must be in lower case"
    docker_root.ok("run", "-d", "--name", "there", "busybox", "sleep", "1000")
    assert micropod.error(docker_root("diff", "there")) == \
        "'there' is a Docker container: ask its engine for that (docker diff, docker export, docker commit)"
