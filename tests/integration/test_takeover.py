# SPDX-License-Identifier: Apache-2.0
"""`micropod-agent start`: the agent as process 1 of a container that somebody else made. Here that is a pid namespace of
unshare(1)'s, or a root of its own with next to nothing in it."""
import ctypes
import errno
import fcntl
import hashlib
import os
import pty
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
from pathlib import Path

import grpc
import pytest
from agent_fixture import AGENT, generate, is_static

SPACE = ["unshare", "-pf", "--mount-proc", "--kill-child"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="pid namespaces of unshare need root")


def start(*words, options=(), **kwargs):
    kwargs.setdefault("timeout", 60)
    if "input" not in kwargs:
        kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([*SPACE, AGENT, "start", *options, "--", *words], capture_output=True, **kwargs)


@pytest.mark.parametrize("script,code", [("true", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("kill -SEGV $$", 139)])
def test_exit_status_is_the_workloads(script, code):
    assert start("sh", "-c", script).returncode == code


def test_what_cannot_be_started():
    done = start("nosuch")
    assert (done.returncode, done.stdout, done.stderr) == (127, b"", b"micropod-agent: cannot execute nosuch: not found in PATH\n")
    done = start("/etc/passwd")
    assert (done.returncode, done.stderr) == (126, b"micropod-agent: cannot execute /etc/passwd: Permission denied\n")
    done = subprocess.run([AGENT, "start"], capture_output=True)
    assert (done.returncode, done.stderr) == (125, b"micropod-agent: start: no command (see --help)\n")
    assert subprocess.run([AGENT, "start", "--nosuch", "true"], capture_output=True).returncode == 125
    assert subprocess.run([AGENT, "start", "--help"], capture_output=True).stdout.startswith(b"usage: micropod-agent start")


def test_streams_are_exact():
    done = start("sh", "-c", "printf out; printf err >&2; cat; echo end", input=b"a\0b\xff")
    assert (done.stdout, done.stderr) == (b"outa\0b\xffend\n", b"err")
    data = os.urandom(5 << 20)
    assert start("cat", input=data).stdout == data
    # More than fits anywhere, to a reader that comes late; and after the program has ended.
    child = subprocess.Popen([*SPACE, AGENT, "start", "--", "head", "-c", str(8 << 20), "/dev/zero"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    time.sleep(0.5)
    assert len(child.communicate(timeout=60)[0]) == 8 << 20 and child.returncode == 0
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
        source.write(data)
        source.seek(0)
        subprocess.run([*SPACE, AGENT, "start", "--", "cat"], stdin=source, stdout=sink, check=True, timeout=60)
        sink.seek(0)
        assert hashlib.sha256(sink.read()).digest() == hashlib.sha256(data).digest()
    # A log that nobody reads any more does not hold the workload up.
    child = subprocess.Popen([*SPACE, AGENT, "start", "--", "sh", "-c", "head -c 3000000 /dev/zero; exit 5"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    child.stdout.close()
    assert child.wait(timeout=60) == 5


def test_it_is_what_the_container_made_it(tmp_path):
    env = {"PATH": os.environ["PATH"], "A": "1 2", "EMPTY": ""}
    out = start("sh", "-c", "env | sort; pwd; id -u; ulimit -n; cat /proc/self/status", cwd="/usr", env=env).stdout.decode().splitlines()
    assert [line for line in out[:8] if line.partition("=")[0] in ("A", "EMPTY", "HOME")] == ["A=1 2", "EMPTY=", "HOME=/root"]
    assert "/usr" in out and "0" in out
    here = Path("/proc/self/status").read_text().splitlines()
    for name in ("CapEff", "CapBnd", "Groups", "Uid"):
        line = next(line for line in here if line.startswith(name))
        assert line.split() == next(one for one in out if one.startswith(name)).split(), name
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copy(AGENT, f"{folder}/agent")
        done = subprocess.run([*SPACE, "setpriv", "--reuid=65534", "--regid=65533", "--clear-groups", f"{folder}/agent", "start", "id"],
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    assert b"uid=65534" in done.stdout and b"gid=65533" in done.stdout, done


def test_orphans_are_reaped_and_no_status_is_lost():
    script = """
i=0
while [ $i -lt 1000 ]; do (sh -c 'exit 1' & true) & i=$((i+1)); done
wait
i=0
while [ $i -lt 100 ]; do (exit $i); [ $? = $i ] || echo lost $i; i=$((i+1)); done
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    n=$(grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l)
    [ $n = 0 ] && break
    sleep 0.2
done
echo zombies $n
exit 42
"""
    done = start("sh", "-c", script, timeout=120)
    assert (done.returncode, done.stdout) == (42, b"zombies 0\n"), done


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "USR1", "USR2", "QUIT", "CONT", "ALRM"])
def test_signals_reach_the_workload(name):
    child = subprocess.Popen([*SPACE, AGENT, "start", "--", "sh", "-c", f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.05; done"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    (inner,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    os.kill(int(inner), getattr(signal, f"SIG{name}"))
    assert child.communicate(timeout=30)[0] == f"got {name}\n".encode() and child.returncode == 9


def test_a_terminal_and_its_size():
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    before = termios.tcgetattr(slave)
    child = subprocess.Popen([*SPACE, AGENT, "start", "--", "sh", "-c",
                              "trap 'stty size; exit 4' WINCH; test -t 0 -a -t 1 -a -t 2 && stty size; read line; echo \"<$line>\"; while :; do sleep 0.05; done"],
                             stdin=slave, stdout=slave, stderr=slave, start_new_session=True, close_fds=True)

    def until(word):
        got = b""
        while word not in got:
            got += os.read(master, 1000)
        return got

    until(b"33 77")
    os.write(master, b"hello\r")
    # Echoed once: by the inner terminal alone.
    assert until(b"<hello>").count(b"hello") == 2
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 11, 22, 0, 0))
    (inner,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    os.kill(int(inner), signal.SIGWINCH)
    until(b"11 22")
    assert child.wait(timeout=30) == 4
    assert termios.tcgetattr(slave) == before
    assert subprocess.run([*SPACE, AGENT, "start", "nosuch"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True).returncode == 127
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


@pytest.mark.skipif(not is_static(), reason="the agent of this build is not static")
def test_a_root_with_one_program(tmp_path):
    """No shell, no /tmp, no /etc/passwd, read-only; and the agent's file may go while it runs."""
    (tmp_path / "proc").mkdir()
    shutil.copy(AGENT, tmp_path / "agent")
    shutil.copy("/bin/busybox", tmp_path / "busybox")

    def run(*words, mount="mount --bind $PWD $PWD; cd $PWD; mount -t proc proc proc; mount -o remount,ro,bind $PWD"):
        return subprocess.run(["unshare", "-pfm", "--kill-child", "sh", "-ec", f"{mount}; exec chroot . \"$@\"", "-", *words],
                              cwd=tmp_path, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)

    done = run("/agent", "start", "--", "/busybox", "echo", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b""), done
    done = run("/agent", "start", "/busybox", "sh", "-c", "/busybox rm /agent; (/busybox true &); exit 6", mount="mount -t proc proc proc")
    assert done.returncode == 6 and not (tmp_path / "agent").exists(), done


def forbid_clone3():
    """As Docker's seccomp filter: clone3(2) does not exist."""
    libc = ctypes.CDLL(None, use_errno=True)
    load, jump, give = 0x20, 0x15, 0x06
    code = b"".join(struct.pack("HBBI", *line) for line in (
        (load, 0, 0, 0), (jump, 0, 1, 435), (give, 0, 0, 0x00050000 | errno.ENOSYS), (give, 0, 0, 0x7FFF0000)))
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0


def test_under_an_engines_seccomp_filter():
    done = start("sh", "-c", "(true &); exit 11", preexec_fn=forbid_clone3)
    assert (done.returncode, done.stderr) == (11, b""), done


@pytest.fixture(scope="module")
def api():
    with tempfile.TemporaryDirectory() as folder:
        yield generate(Path(folder))


def test_the_api_of_a_taken_over_container(api, tmp_path):
    pb, stubs = api
    socket = tmp_path / "sock"
    child = subprocess.Popen([*SPACE, AGENT, "start", "--listen", f"unix:{socket}", "--", "sh", "-c", "echo one; read line; echo $line; exit 3"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "COLOUR": "red"})
    assert child.stdout.readline() == b"one\n"
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        stub = stubs.AgentStub(channel)
        (one,) = stub.ListContainers(pb.ListContainersRequest(), timeout=20).containers
        assert (one.container_id, one.state) == ("main", "running")

        def run(*words, **spec):
            """Output and exit of an exec."""
            spec = pb.ProcessSpec(args=[word.encode() for word in words], **spec)
            first = pb.ExecRequest(start=pb.ExecStart(container_id="main", process=spec))
            out, code = b"", None
            for event in stub.ExecInContainer(iter([first]), timeout=20):
                if event.HasField("output"):
                    out += event.output.data
                if event.HasField("exit"):
                    code = event.exit
            return out, code

        out, how = run("sh", "-c", "echo $COLOUR; pwd; readlink /proc/1/exe | grep -c memfd; exit 8")
        assert out.decode().splitlines()[0] == "red" and how.code == 8
        # The whole session is killed when its time is over.
        began = time.monotonic()
        out, how = run("sh", "-c", "sleep 100 & sleep 100", kill_after_ns=300_000_000)
        assert how.code == 137 and how.timed_out and time.monotonic() - began < 10
        with pytest.raises(grpc.RpcError) as error:
            stub.CreateContainer(pb.CreateContainerRequest(container_id="x", process_args=["true"]), timeout=20)
        assert "makes no others" in error.value.details()
        with pytest.raises(grpc.RpcError) as error:
            stub.DeleteContainer(pb.DeleteContainerRequest(container_id="main", force=True), timeout=20)
        assert "ends with it" in error.value.details()
        child.stdin.write(b"two\n")
        child.stdin.close()
        assert child.stdout.read() == b"two\n" and child.wait(timeout=20) == 3
