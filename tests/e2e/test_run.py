# SPDX-License-Identifier: Apache-2.0
"""run, exec and the life of a sandbox, each in a real VM."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import urllib.request

import pytest

from conftest import BOOT, IMAGES, TOP

RANDOM = os.urandom(10 << 20)


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.1)


def test_exit_codes(micropod):
    done = micropod("run", "--rm", micropod.busybox, "sh", "-c", "uname -r; echo err >&2; exit 7")
    assert done.returncode == 7 and done.stderr == b"err\n"
    assert (done.stdout.decode().strip() not in ("", os.uname().release)) == micropod.vm
    assert micropod.error(micropod("run", "--name", "box", micropod.busybox, "nosuchprogram"), 127)
    assert micropod.error(micropod("run", "--name", "box", micropod.busybox, "/etc/passwd"), 126)
    assert micropod.ok("ps", "-aq") == "", "what never ran leaves nothing"


def test_run_carries_bytes(micropod):
    done = micropod("run", "--rm", "-i", micropod.busybox, "sh", "-c", "cat; printf err >&2; exit 3", input=RANDOM)
    assert done.returncode == 3 and done.stderr == b"err" and done.stdout == RANDOM


def test_environment_user_and_folder(micropod):
    out = micropod.ok("run", "--rm", "-e", "A=b c", "-e", b"RAW=\xff", "-u", "nobody", "-w", "/new/dir", "--hostname", "hoho",
                      "--name", "box", micropod.busybox, "sh", "-c", 'echo "$A"; printf %s "$RAW" | od -An -tx1; id -u; pwd; hostname')
    assert out.split("\n")[:5] == ["b c", " ff", "65534", "/new/dir", "hoho"]


def test_machine_size(micropod):
    """The VM is of a class; what was asked for is what the container finds and may use."""
    words = ["-m", "256m", "--cpus", "1", micropod.busybox, "sh", "-c", "nproc; cat /sys/fs/cgroup/memory.max; grep MemTotal /proc/meminfo"]
    cpus, memory, total = micropod.ok("run", "--rm", *words).splitlines()
    assert (cpus, memory) == ("1", str(256 << 20)) and 900000 < int(total.split()[1]) < 1 << 20


def test_life_of_a_detached_one(micropod):
    script = "trap 'echo bye; exit 9' TERM; echo begun; while :; do sleep 0.2; done"
    box = micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", script).strip()
    assert re.fullmatch("[0-9a-f]{32}", box)
    until(lambda: micropod.ok("logs", "box") == "begun\n")
    assert "Up " in micropod.ok("ps")
    one = micropod.inspect("box")
    assert one["State"]["Running"] and one["Micropod"]["AgentConnected"] and one["Micropod"]["AgentVersion"]
    assert one["Micropod"]["Transport"] in (("virtio-serial", "vsock") if micropod.vm else ("tunnel",)) and one["Micropod"]["GuestKernel"]
    assert micropod.ok("exec", "box", "cat", "/proc/1/cmdline").startswith("sh\0-c" if micropod.vm else "/.micropod/agent\0start\0--\0sh\0-c")
    waiter = micropod.popen("wait", "box", stdout=subprocess.PIPE)
    began = time.monotonic()
    assert micropod.ok("stop", "box") == "box\n" and time.monotonic() - began < 20
    assert waiter.communicate(timeout=10)[0] == b"9\n"
    assert micropod.ok("logs", "box") == "begun\nbye\n" and "Exited (9)" in micropod.ok("ps", "-a")
    micropod.ok("start", "box")
    until(lambda: micropod.ok("logs", "box") == "begun\nbye\nbegun\n")
    assert micropod.ok("kill", "box") == "box\n" and micropod.ok("wait", "box") == "137\n"
    system = micropod.ok("logs", "--system", "box")
    assert re.search(r"shim info rpc id=\d+ /micropod.sandbox.v1.Sandbox/Wait status=OK ms=", system)
    assert re.search(rf"shim info agent id=\d+ /micropod.agent.v1.Agent/{'Resumed' if micropod.vm else 'Info'} status=OK ms=", system)
    assert "==> console.log" in system and "begun" not in system


def test_files_last_until_removal(micropod):
    micropod.ok("run", "--name", "box", micropod.busybox, "sh", "-c", "echo 1 >> /count; cat /count")
    micropod.ok("start", "-a", "box")
    assert micropod.ok("logs", "box") == "1\n1\n1\n"


def test_exec(micropod):
    micropod.ok("run", "-d", "--name", "box", "-e", "FROM=container", micropod.busybox, "sleep", "1000")
    done = micropod("exec", "-i", "box", "sh", "-c", "cat; printf err >&2; exit 3", input=RANDOM)
    assert done.returncode == 3 and done.stderr == b"err" and done.stdout == RANDOM
    out = micropod.ok("exec", "-e", "A=1", "-u", "nobody:www-data", "-w", "/tmp", "box", "sh", "-c", "echo $FROM $A $(id -u):$(id -g) $PWD")
    assert out == "container 1 65534:33 /tmp\n"
    assert micropod("exec", "box", "printf", "%s", b"\xff\xfe").stdout == b"\xff\xfe"
    assert micropod.error(micropod("exec", "box", "nosuchprogram"), 127)
    assert micropod.error(micropod("exec", "box", "/etc/passwd"), 126)
    assert micropod("exec", "box", "sh", "-c", "kill -TERM $$").returncode == 143
    micropod.ok("exec", "-d", "box", "sh", "-c", "echo done > /made")
    until(lambda: micropod("exec", "box", "cat", "/made").stdout == b"done\n")
    long = "x" * 65536
    assert micropod.ok("exec", "box", "echo", long) == long + "\n"


def test_signals_go_through(micropod):
    script = "trap 'echo usr1; exit 5' USR1; echo ready; while :; do sleep 0.2; done"
    for words in (["run", "--name", "box", micropod.busybox], ["exec", "box"]):
        if words[0] == "exec":
            micropod.ok("start", "box")
        child = micropod.popen(*words, "sh", "-c", script, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGUSR1)
        assert child.communicate(timeout=20)[0] == b"usr1\n" and child.returncode == 5


class Terminal:
    def __init__(self, micropod, *words):
        self.master, self.slave = pty.openpty()
        self.resize(30, 100)
        self.before = termios.tcgetattr(self.slave)
        self.child = micropod.popen(*words, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
                                    preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.seen = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def write(self, data):
        os.write(self.master, data)

    def expect(self, pattern, seconds=BOOT):
        deadline = time.monotonic() + seconds
        while not (hit := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            assert left > 0, (pattern, self.seen)
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65536)
        self.seen = self.seen[hit.end():]

    def end(self):
        code = self.child.wait(30)
        assert termios.tcgetattr(self.slave) == self.before
        os.close(self.slave)
        os.close(self.master)
        return code


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_terminal(micropod, verb):
    if verb == "exec":
        micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000")
    words = ["run", "--rm", "-it", micropod.busybox] if verb == "run" else ["exec", "-it", "box"]
    term = Terminal(micropod, *words, "sh")
    term.expect(rb"# ")
    term.write(b"stty size; echo $TERM\r")
    term.expect(rb"30 100\r\nxterm\r\n")
    term.resize(40, 120)
    time.sleep(1)
    term.write(b"stty size\r")
    term.expect(rb"40 120\r\n")
    term.write(b"sleep 1000\r")
    time.sleep(1)
    term.write(b"\x03")
    term.expect(rb"# ")
    term.write(b"exit 4\r")
    assert term.end() == 4


def test_leaving_a_terminal_and_coming_back(micropod):
    term = Terminal(micropod, "run", "-it", "--name", "box", micropod.busybox, "sh")
    term.expect(rb"# ")
    # One of the keys alone is a key like any other.
    term.write(b"cat -v\r")
    term.expect(rb"cat -v\r\n")
    time.sleep(1)
    term.write(b"a\x10b\r")
    term.expect(rb"a\^Pb\r\na\^Pb\r\n")
    term.write(b"\x04")
    term.expect(rb"# ")
    term.write(b"\x10\x11")
    term.expect(rb"read escape sequence")
    assert term.end() == 0
    assert micropod.inspect("box")["State"]["Running"]
    first, second = (Terminal(micropod, "attach", "--detach-keys", "ctrl-a,x", "box") for _ in range(2))
    # Who attaches sees what comes from then on.
    for term in (first, second):
        term.write(b"\r")
        term.expect(rb"# ")
    first.write(b"echo $((6 * 7))\r")
    first.expect(rb"42\r\n")
    second.expect(rb"42\r\n")
    second.write(b"\x01x")
    assert second.end() == 0
    first.resize(40, 120)
    time.sleep(1)
    first.write(b"stty size; exit 5\r")
    first.expect(rb"40 120\r\n")
    assert first.end() == 5
    micropod.ok("rm", "box")


def test_leaving_an_exec(micropod):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000")
    term = Terminal(micropod, "exec", "-it", "box", "sh")
    term.expect(rb"# ")
    term.write(b"sleep 4444\r")
    time.sleep(1)
    term.write(b"\x10\x11")
    term.expect(rb"read escape sequence")
    assert term.end() == 0
    assert "sleep 4444" in micropod.ok("exec", "box", "ps")
    micropod.ok("rm", "-f", "box")


def test_attach_without_a_terminal(micropod):
    micropod.ok("run", "-d", "-i", "--name", "box", micropod.busybox, "sh", "-c", "trap 'echo told' USR1; while read x; do echo got $x; done; exit 6")
    children = [micropod.popen("attach", "box", stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    time.sleep(1)
    for word, child in zip((b"one", b"two"), children):
        child.stdin.write(word + b"\n")
        child.stdin.flush()
        for reader in children:
            assert reader.stdout.readline() == b"got " + word + b"\n"
    # The end of one's input is not the end of the process'.
    children[0].stdin.close()
    children[1].stdin.write(b"three\n")
    children[1].stdin.flush()
    assert [child.stdout.readline() for child in children] == [b"got three\n"] * 2
    children[0].send_signal(signal.SIGUSR1)
    # busybox' read fails when a signal comes.
    assert [child.stdout.readline() for child in children] == [b"told\n"] * 2
    assert [child.wait(30) for child in children] == [6, 6]
    assert micropod.error(micropod("attach", "box")) == "sandbox 'box' is not running: start it first (micropod start box)"
    micropod.ok("rm", "box")
    micropod.ok("run", "-dit", "--name", "box", micropod.busybox, "sh")
    assert "not a terminal" in micropod.error(micropod("attach", "box"))
    assert "option '--detach-keys'" in micropod.error(micropod("attach", "--detach-keys", "ctrl-1", "box"))
    micropod.ok("rm", "-f", "box")


@pytest.mark.parametrize("who", ["ShimPid", "VMMPid", "NetPid"])
def test_killed_processes_are_told(micropod, who):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000")
    pid = micropod.inspect("box")["Micropod"][who]
    assert pid > 1
    os.kill(pid, signal.SIGKILL)
    until(lambda: not micropod.inspect("box")["State"]["Running"])
    state = micropod.inspect("box")["State"]
    if who == "ShimPid":
        assert state["Status"] == "dead" and "is dead" in micropod.error(micropod("stop", "box"))
    else:
        assert state["Status"] == "exited" and state["Error"]
    until(lambda: not micropod.processes())
    micropod.ok("start", "box")
    assert micropod.ok("exec", "box", "echo", "again") == "again\n"


def test_a_killed_command_line_harms_nothing(micropod):
    child = micropod.popen("run", "--name", "box", micropod.busybox, "sh", "-c", "echo ready; exec sleep 1000", stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    child.kill()
    child.communicate()
    assert micropod.ok("exec", "box", "echo", "up") == "up\n"


def test_taken_port(micropod):
    micropod.ok("run", "-d", "--name", "one", "-p", "127.0.0.1:0:80", micropod.busybox, "sleep", "1000")
    port = micropod.inspect("one")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
    assert f"port {port}" in micropod.error(micropod("run", "-d", "--name", "two", "-p", f"127.0.0.1:{port}:80", micropod.busybox, "true"))
    assert "two" not in micropod.ok("ps", "-a")


@pytest.fixture
def registry(tmp_path):
    child = subprocess.Popen([TOP / "scripts/test-registry.sh", tmp_path, IMAGES / "nginx"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline().startswith(b"ready ")
    yield {"CONTAINERS_REGISTRIES_CONF": str(tmp_path / "registries.conf")}
    child.communicate()


def fetch(port, path="/"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return answer.read()


def test_nginx_from_a_registry(micropod, registry):
    ports = []
    for name in ("web", "other"):
        micropod.ok("run", "-d", "--name", name, "-p", "127.0.0.1:0:80", "nginx", env=registry)
        ports.append(micropod.inspect(name)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])

    def answers(port):
        try:
            return b"nginx" in fetch(port)
        except OSError:
            return False

    for port in ports:
        until(lambda: answers(port), 60)
    fetch(ports[0], "/?seen-by-the-log")
    until(lambda: "GET /?seen-by-the-log" in micropod.ok("logs", "web"))
    assert "seen-by-the-log" not in micropod.ok("logs", "other")
    micropod.ok("stop", "-t", "20", "web")
    assert "Exited (0)" in micropod.ok("ps", "-a", "--format", "table")
    assert answers(ports[1])


def test_terminal_has_its_size_from_the_first_moment(micropod):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    run = micropod.popen("run", "--rm", "-t", micropod.busybox, "stty", "size", stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    text = b""
    while b"\n" not in text:
        text += os.read(master, 4096)
    assert run.wait(60) == 0
    os.close(master)
    assert re.search(rb"33 101\r+\n", text), text


def test_output_of_one_that_ends_at_once(micropod):
    """The program may be gone before the command line comes to read: nothing is lost."""
    for _ in range(5):
        run = micropod("run", "--rm", micropod.busybox, "sh", "-c", "echo out; echo err >&2; exit 9")
        assert (run.returncode, run.stdout, run.stderr) == (9, b"out\n", b"err\n")


def test_run_for_as_long_as_it_may(micropod):
    words = [micropod.busybox, "sh", "-c", "echo before; (setsid sleep 4444 &); sleep 4444; echo after"]
    began = time.monotonic()
    done = micropod("run", "--name", "box", "--timeout", "1500ms", *words)
    assert 1.5 < time.monotonic() - began < 30
    assert done.stdout == b"before\n"
    assert micropod.error(done, 124) == "sandbox 'box': it was killed: it ran longer than --timeout says"
    assert micropod.inspect("box")["State"]["ExitCode"] == 124 and micropod.ok("logs", "box") == "before\n"
    # Each start has its time.
    micropod.ok("start", "box")
    assert micropod.ok("wait", "box") == "124\n" and micropod.ok("logs", "box") == "before\nbefore\n"
    micropod.ok("rm", "box")
    assert micropod("run", "--rm", "--timeout", "1", *words).returncode == 124
    # One that is quicker is not touched, nor one without a limit.
    assert micropod("run", "--rm", "--timeout", "60", micropod.busybox, "sh", "-c", "exit 7").returncode == 7
    assert micropod("run", "--rm", "--timeout", "0", micropod.busybox, "sh", "-c", "sleep 2; exit 8").returncode == 8


def test_exec_for_as_long_as_it_may(micropod):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000")
    done = micropod("exec", "--timeout", "1", "box", "sh", "-c", "echo before; (setsid sleep 4444 &); sleep 4444; echo after")
    assert done.stdout == b"before\n"
    assert micropod.error(done, 124) == "sandbox 'box': the command was killed: it took longer than --timeout says"
    # Its children too, wherever they went; nothing else.
    assert "4444" not in micropod.ok("exec", "box", "ps") and micropod.inspect("box")["State"]["Running"]
    assert micropod("exec", "--timeout", "60", "box", "sh", "-c", "exit 7").returncode == 7
    # A detached one too, though nobody waits for it.
    micropod.ok("exec", "-d", "--timeout", "1", "box", "sleep", "4444")
    deadline = time.monotonic() + 20
    while "4444" in micropod.ok("exec", "box", "ps"):
        assert time.monotonic() < deadline
    micropod.ok("rm", "-f", "box")


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_time_limits_are_times(micropod, verb):
    for value in ("soon", "-1", "1x", ""):
        assert "option '--timeout'" in micropod.error(micropod(verb, "--timeout", value, "box", "true"))
