# SPDX-License-Identifier: Apache-2.0
"""Containers of a Docker Engine with the agent put into them: the takeover in images of every kind, the phases and how each
fails, and every way in which such a container is started, killed, restarted and found again."""
import hashlib
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from conftest import BUILD, IMAGES
from engine import Engine
from test_run import until

HELLO = """#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) { printf("%s %d %d\\n", argc > 1 ? argv[1] : "none", (int)getuid(), (int)getgid()); return 0; }
"""


@pytest.fixture(scope="module")
def micropod_root(docker_root):
    return docker_root


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    (folder / "hello.c").write_text(HELLO)
    subprocess.run(["gcc", "-static", "-o", folder / "static", folder / "hello.c"], check=True)
    subprocess.run(["musl-gcc", "-o", folder / "musl", folder / "hello.c"], check=True)
    return folder


def make(engine, tmp_path, name, files, *changes):
    tree = tmp_path / name
    for path, source in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tree / path)
    engine.make(name, tree, *changes)
    return name


# Takeover: what runs is what Docker would run


@pytest.mark.parametrize("options,words,out", [
    ([], [], "one two"), ([], ["three"], "one three"), (["--entrypoint", "/bin/echo"], [], ""), (["--entrypoint", "/bin/echo"], ["x"], "x"),
    (["--entrypoint", ""], ["/bin/echo", "bare"], "bare"),
])
def test_entrypoint_and_command(micropod, engine, tmp_path, options, words, out):
    engine.make("entry", busybox_tree(tmp_path), 'ENTRYPOINT ["/bin/echo", "one"]', 'CMD ["two"]', "ONBUILD RUN false")
    assert micropod.ok("run", "--rm", *options, "entry", *words) == out + "\n"
    assert engine.ok("run", "--rm", *options, "entry", *words) == out + "\n"


def busybox_tree(tmp_path):
    tree = tmp_path / "tree"
    if not tree.exists():
        (tree / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", tree / "bin/busybox")
        for applet in ("sh", "echo", "cat", "env", "id", "pwd", "ls", "sleep", "touch", "test", "rm", "ps", "mount"):
            (tree / "bin" / applet).symlink_to("busybox")
    return tree


def test_shell_form_and_none(micropod, engine, tmp_path):
    engine.make("shell", busybox_tree(tmp_path), "CMD echo $((1+1)) from a shell")
    assert micropod.ok("run", "--rm", "shell") == "2 from a shell\n"
    engine.make("nothing", busybox_tree(tmp_path))
    assert "no command" in micropod.error(micropod("run", "--rm", "nothing"))
    assert micropod.ok("run", "--rm", "nothing", "echo", "given") == "given\n"


def test_one_static_program(micropod, engine, tmp_path, programs):
    """No shell, no /tmp, no /etc/passwd, and nobody to be but a number."""
    name = make(engine, tmp_path, "only", {"hello": programs / "static"}, 'ENTRYPOINT ["/hello"]', "USER 1234:567")
    assert micropod.ok("run", "--rm", name, "static") == "static 1234 567\n"
    assert micropod.ok("run", "--rm", "-u", "0", name) == "none 0 0\n"
    assert "unable to find user anna" in micropod.error(micropod("run", "--rm", "-u", "anna", name))
    micropod.ok("run", "-d", "--name", "box", "--read-only", name)
    assert micropod.ok("wait", "box") == "0\n" and micropod.ok("logs", "box") == "none 1234 567\n"


def test_a_dynamic_musl_loader(micropod, engine, tmp_path, programs):
    shutil.copy("/lib/ld-musl-x86_64.so.1", tmp_path / "loader")
    (tmp_path / "loader").chmod(0o755)
    name = make(engine, tmp_path, "musl", {"hello": programs / "musl", "lib/ld-musl-x86_64.so.1": tmp_path / "loader"}, 'ENTRYPOINT ["/hello"]')
    assert micropod.ok("run", "--rm", name, "musl") == "musl 0 0\n"


def test_debian_and_a_user_of_its_own(micropod, engine):
    engine.load("debian")
    assert micropod.ok("run", "--rm", "-u", "www-data", "-w", "/made/here", "-e", "A=b c", "debian", "sh", "-c",
                       'echo "$(id -un) $PWD $A $HOME"') == "www-data /made/here b c /var/www\n"


@pytest.mark.parametrize("options,changes", [
    ([], ["VOLUME /tmp"]), (["--read-only"], []), (["--tmpfs", "/tmp:noexec"], []), (["--tmpfs", "/tmp"], []), (["-v", "VOLUME:/tmp"], []),
    (["--init"], []), (["--init", "--read-only"], []), (["-u", "1000:1000", "--read-only"], []), (["--network", "none"], []),
    (["--network", "host"], []), (["--agent-path", "/opt/here/agent"], []), (["--agent-path", "/.micropod/agent"], []), (["--agent-path", "/tmp/agent"], []),
    (["--agent-path", "/tmp/agent"], ["VOLUME /tmp"]), (["--agent-path", "/tmp/agent", "--read-only"], []), (["--agent-path", "/tmp/agent", "--tmpfs", "/tmp:noexec"], []),
])
def test_where_the_agent_would_be_hidden(micropod, engine, tmp_path, options, changes):
    """The engine's log has the workload's output and nothing else."""
    (tmp_path / "shared").mkdir()
    options = [word.replace("VOLUME", str(tmp_path / "shared")) for word in options]
    engine.make("places", busybox_tree(tmp_path), *changes)
    done = micropod("run", "--name", "box", *options, "places", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    log = engine("logs", "box")
    assert (log.stdout, log.stderr) == ("out\n", "err\n")
    micropod.ok("start", "box")
    micropod.ok("rm", "-f", "box")


def test_the_agents_file_may_go(micropod):
    micropod.ok("run", "-d", "--name", "box", "--agent-path", "/tmp/agent", micropod.busybox, "sh", "-c", "rm /tmp/agent && echo gone; sleep 1000")
    until(lambda: micropod.ok("logs", "box") == "gone\n")
    assert micropod.ok("exec", "box", "echo", "still here") == "still here\n"
    micropod.ok("stop", "-t", "1", "box")
    # Where nothing is copied, it may not.
    micropod.ok("rm", "box")
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", "exec 2>&1; rm -rf /.micropod; echo x >/.micropod/agent; test -x /.micropod/agent && echo there; sleep 1000")
    until(lambda: "there\n" in micropod.ok("logs", "box"))
    assert "Read-only file system" in micropod.ok("logs", "box") and micropod.ok("exec", "box", "echo", "here") == "here\n"


def test_orphans_signals_and_status(micropod):
    script = "i=0; while [ $i -lt 1000 ]; do (sh -c 'exit 1' & true) & i=$((i+1)); done; wait; (exit 5); echo $?; kill -TERM $$"
    done = micropod("run", "--name", "box", micropod.busybox, "sh", "-c", script)
    assert (done.returncode, done.stdout) == (143, b"5\n")


def test_stop_reaches_the_workload(micropod, engine):
    for stop in (lambda: engine.ok("stop", "box"), lambda: micropod.ok("stop", "box")):
        micropod.ok("run", "-d", "--name", "box", "--stop-signal", "USR1", micropod.busybox, "sh", "-c",
                    "trap 'echo asked; exit 6' USR1; echo up; while :; do sleep 0.1; done")
        until(lambda: micropod.ok("logs", "box") == "up\n")
        began = time.monotonic()
        stop()
        assert time.monotonic() - began < 8
        assert micropod.ok("wait", "box") == "6\n" and micropod.ok("logs", "box") == "up\nasked\n"
        assert engine.ok("inspect", "-f", "{{.State.ExitCode}}", "box") == "6\n"
        micropod.ok("rm", "box")


def test_out_of_memory_is_told(micropod):
    done = micropod("run", "--name", "box", "-m", "32m", micropod.busybox, "sh", "-c", "tail /dev/zero")
    assert done.returncode == 137, done
    state = micropod.inspect("box")["State"]
    assert state["OOMKilled"] and "memory" in state["Error"]


def test_secrets_are_not_in_the_container(micropod, engine):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", "env; sleep 1000")
    (token,) = re.findall(r"AGENT_TOKEN=([0-9a-f]{64})", engine.ok("inspect", "box"))
    until(lambda: "PATH=" in micropod.ok("logs", "box"))
    seen = [micropod.ok("logs", "box"), micropod.ok("logs", "--system", "box"), micropod.ok("exec", "box", "cat", "/proc/self/environ"),
            micropod.ok("inspect", "box")]
    for folder, _, names in os.walk(micropod.root / "sandboxes"):
        seen += [open(os.path.join(folder, name), errors="replace").read() for name in names if name.endswith((".json", ".log"))]
    assert all(token not in text for text in seen)
    assert "Permission denied" in micropod("exec", "box", "cat", "/proc/1/environ").stderr.decode()
    (pid,) = engine.ok("inspect", "-f", "{{.State.Pid}}", "box").split()
    assert b"AGENT" not in open(f"/proc/{pid}/environ", "rb").read()
    # Whoever may use the engine can read it; it is of no use any more.
    thief = subprocess.Popen(["docker", "-H", engine.host, "exec", "box", "/.micropod/agent", "start", "sleep", "1000"])
    try:
        until(lambda: "audit: the token was used a second time" in micropod.ok("logs", "--system", "box"))
        assert micropod.ok("exec", "box", "echo", "still mine") == "still mine\n"
    finally:
        thief.kill()
        thief.wait()
        micropod.ok("rm", "-f", "box")


# Phases


def test_each_phase_says_what_failed(micropod, engine, tmp_path):
    def error(*words, code=125):
        said = micropod.error(micropod("run", *words), code)
        assert engine.containers() == [] and micropod.ok("ps", "-aq") == ""
        return said

    assert error("--network", "container:nosuch", micropod.busybox, "true") == "cannot start the container: the engine says: No such container: nosuch"
    assert "127 before its agent had registered: micropod-agent: cannot execute nosuch: not found in PATH" in error(micropod.busybox, "nosuch", code=127)
    assert "cannot execute /etc/passwd: Permission denied" in error(micropod.busybox, "/etc/passwd", code=126)
    assert "the engine has no image 'nosuch:1'" in error("--pull", "never", "nosuch:1", "true")
    assert "cannot take 'oci:/x'" in error("oci:/x", "true")
    (tmp_path / "text").write_text("#!/bin/sh\n")
    assert "is no program of Linux" in error("--agent-binary", tmp_path / "text", micropod.busybox, "true")
    assert "is not static" in error("--agent-binary", "/bin/ls", micropod.busybox, "true")
    assert "cannot find the agent" in error("--agent-binary", tmp_path / "nosuch", micropod.busybox, "true")
    arm = bytearray((BUILD / "guest/agent").read_bytes())
    arm[18] = 183
    (tmp_path / "arm").write_bytes(arm)
    assert "is not for amd64" in error("--agent-binary", tmp_path / "arm", micropod.busybox, "true")
    # One that never registers.
    (tmp_path / "hello.c").write_text("#include <unistd.h>\nint main(void) { sleep(1000); return 0; }\n")
    subprocess.run(["gcc", "-static", "-o", tmp_path / "mute", tmp_path / "hello.c"], check=True)
    done = micropod("run", "--agent-binary", tmp_path / "mute", micropod.busybox, "true", env={"MICROPOD_START_TIMEOUT": "2"})
    assert micropod.error(done) == "the container runs: the agent did not register in time"
    assert engine.containers() == [] and micropod.ok("ps", "-aq") == ""


def test_a_name_that_the_engine_has(micropod, engine):
    engine.ok("create", "--name", "box", "busybox", "true")
    try:
        assert 'Conflict. The container name "/box" is already in use' in micropod.error(micropod("run", "--name", "box", micropod.busybox, "true"))
        assert micropod.ok("ps", "-aq") == ""
    finally:
        engine.ok("rm", "box")


def test_options_of_the_other_driver(micropod):
    for option in (["--cold"], ["--host-access"], ["--runtime", "runc"], ["--storage-opt", "size=1g"], ["--platform", "linux/amd64"]):
        assert f"option '{option[0]}' is for VMs" in micropod.error(micropod("run", *option, micropod.busybox, "true"))
    for option in (["--agent-binary", "/x"], ["--agent-path", "/x"]):
        assert f"option '{option[0]}' needs '--driver docker'" in micropod.error(micropod("run", "--driver", "vm", *option, "busybox", "true"))
    for value in ("agent", "/", "/tmp/", "/a/../b"):
        assert "option '--agent-path'" in micropod.error(micropod("run", "--agent-path", value, micropod.busybox, "true"))


def test_engines_that_are_not_there(micropod, tmp_path):
    def error(host, **env):
        return micropod.error(micropod("run", micropod.busybox, "true", env={"DOCKER_HOST": host, **env}))

    assert error("unix:///nosuch") == "cannot reach the engine at unix:///nosuch: No such file or directory (is it running, and may you use it?)"
    assert "is not on this host" in error("tcp://192.0.2.1:2375")
    assert "is not on this host" in error("nonsense")
    # The older name goes first.
    assert "cannot reach the engine at unix:///other" in error("unix:///nosuch", CODEPOD_DOCKER_HOST="unix:///other")
    # Something else listens there.
    import http.server
    import socketserver

    class Wrong(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"<html>hello</html>"
            self.send_response(200)
            if old:
                self.send_header("Api-Version", "1.12")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self):
            return "?"

        def log_message(self, *args):
            pass

    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "wrong"), Wrong) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        old = False
        assert "is no Docker Engine" in error(f"unix://{tmp_path}/wrong")
        old = True
        assert "too old" in error(f"unix://{tmp_path}/wrong")
        server.shutdown()


# Life


def test_ports_networks_and_limits(micropod, engine):
    engine.ok("network", "create", "mine")
    try:
        micropod.ok("run", "-d", "--name", "box", "--network", "mine", "-p", "0:80", "-m", "64m", "--cpus", "0.5", "-h", "here", micropod.busybox, "sleep", "1000")
        port = micropod.inspect("box")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
        assert int(port) > 0 and f":{port}->80/tcp" in engine.ok("ps")
        found = json.loads(engine.ok("inspect", "box"))[0]
        assert (found["HostConfig"]["Memory"], found["HostConfig"]["NanoCpus"]) == (64 << 20, 500_000_000)
        one = micropod.inspect("box")
        assert (one["Driver"], one["HostConfig"]["NetworkMode"], one["Micropod"]["Engine"]) == ("docker", "mine", engine.host)
        assert one["State"]["Pid"] == found["State"]["Pid"] > 0 and one["State"]["StartedAt"] == found["State"]["StartedAt"]
        assert list(found["NetworkSettings"]["Networks"]) == ["mine"] and micropod.ok("exec", "box", "hostname") == "here\n"
        micropod.ok("rm", "-f", "box")
        assert "mine" in engine.ok("network", "ls"), "one that was there stays"
    finally:
        engine.ok("network", "rm", "mine")


def numbers(text):
    lines = text.splitlines()
    assert lines == [f"line {i}" for i in range(len(lines))], "lost or doubled"
    return len(lines)


COUNT = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done"


def kill_shim(micropod, box):
    pid = micropod.inspect(box)["Micropod"]["ShimPid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}") or "Z" in open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0])


def test_a_dead_shim_is_started_again_by_the_next_verb(micropod):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", COUNT)
    for verb in (["exec", "box", "true"], ["ps"], ["logs", "box"], ["inspect", "box"], ["stats", "--no-stream", "box"]):
        kill_shim(micropod, "box")
        time.sleep(0.3)
        micropod.ok(*verb)
        assert "Up " in micropod.ok("ps")
    before = numbers(micropod.ok("logs", "box"))
    until(lambda: numbers(micropod.ok("logs", "box")) > before)
    assert micropod.inspect("box")["State"]["StartedAt"].startswith(time.strftime("%Y-"))
    kill_shim(micropod, "box")
    micropod.ok("stop", "-t", "1", "box")
    assert micropod.ok("wait", "box") == "143\n"
    micropod.ok("start", "box")
    kill_shim(micropod, "box")
    micropod.ok("rm", "-f", "box")


def test_a_container_that_ended_without_a_shim(micropod, engine):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", "sleep 1; exit 9")
    kill_shim(micropod, "box")
    until(lambda: engine.ok("inspect", "-f", "{{.State.Running}}", "box") == "false\n")
    assert "Dead" in micropod.ok("ps", "-a") and "is dead" in micropod.error(micropod("exec", "box", "true"))
    micropod.ok("start", "box")
    assert micropod.ok("wait", "box") == "9\n"


def test_killed_at_any_moment_of_the_start(micropod, engine):
    """Whatever a shim has left, the next start goes on from there, or rm takes it away."""
    for i in range(14):
        child = micropod.popen("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 20
        while not (shims := [int(p.split()[0]) for p in micropod.processes() if "docker-shim --root" in p]) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05 * i)
        for pid in shims:
            os.kill(pid, signal.SIGKILL)
        child.communicate(timeout=60)
        if i % 2 and micropod.ok("ps", "-aq"):
            micropod("start", "box")
            assert micropod.ok("exec", "box", "echo", "up") == "up\n"
        if micropod.ok("ps", "-aq"):
            micropod.ok("rm", "-f", "box")
        assert engine.containers() == [], i


@pytest.mark.parametrize("how", ["restart", "kill and start", "restart while the shim is dead"])
def test_started_by_others(micropod, engine, how):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", COUNT)
    if "dead" in how:
        kill_shim(micropod, "box")
    if "kill" in how and "dead" not in how:
        engine.ok("kill", "box")
        until(lambda: "Exited (137)" in micropod.ok("ps", "-a"))
        engine.ok("start", "box")
    else:
        engine.ok("restart", "-t", "1", "box")
    assert micropod.ok("exec", "box", "echo", "mine again") == "mine again\n"
    assert "Up " in micropod.ok("ps")
    runs = micropod.ok("logs", "box").split("line 0\n")
    assert len(runs) in (2, 3) and numbers("line 0\n" + runs[-1]) > 0


def test_restart(micropod, engine):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", "echo begun; sleep 1000")
    first = engine.ok("inspect", "-f", "{{.Id}}", "box")
    for i in range(3):
        micropod.ok("restart", "-t", "1", "box")
        assert micropod.ok("exec", "box", "echo", "up") == "up\n"
    assert engine.ok("inspect", "-f", "{{.Id}}", "box") == first and micropod.ok("logs", "box") == "begun\n" * 4


def test_removed_by_others(micropod, engine):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000")
    engine.ok("rm", "-f", "box")
    until(lambda: "Exited" in micropod.ok("ps", "-a"))
    micropod.ok("start", "box")
    assert micropod.ok("exec", "box", "echo", "made anew") == "made anew\n"
    engine.ok("rm", "-f", "box")
    until(lambda: "Exited" in micropod.ok("ps", "-a"))
    micropod.ok("rm", "box")


def test_the_engine_restarts(micropod):
    """It ends its containers, and comes back."""
    engine = Engine()
    env = {"DOCKER_HOST": engine.host}
    try:
        engine.load("busybox")
        micropod.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", "trap 'exit 4' TERM; echo begun; while :; do sleep 0.1; done", env=env)
        engine.end()
        until(lambda: "Exited" in micropod.ok("ps", "-a"), 60)
        assert "cannot reach the engine" in micropod.error(micropod("start", "box"))
        assert "cannot reach the engine" in micropod.error(micropod("rm", "-f", "box"))
        engine.start()
        micropod.ok("start", "box")
        assert micropod.ok("exec", "box", "echo", "again") == "again\n"
        micropod.ok("rm", "-f", "box")
        assert engine.containers() == []
    finally:
        engine.stop()


def test_bytes_through_an_outage(micropod, engine):
    """A shim that is killed while 50 MB come: what is logged is what was said, to the byte."""
    script = "i=0; while [ $i -lt 500 ]; do head -c 100000 /dev/zero | tr '\\0' 'x'; echo; i=$((i+1)); usleep 3000; done"
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", script)
    for _ in range(3):
        time.sleep(0.4)
        kill_shim(micropod, "box")
        micropod.ok("exec", "box", "true")
    assert micropod.ok("wait", "box") == "0\n"
    text = micropod("logs", "box").stdout
    want = (b"x" * 100000 + b"\n") * 500
    lost = re.findall(rb"\[micropod: (\d+) bytes of stdout lost\]", micropod("logs", "box").stderr)
    assert len(text) + sum(int(n) for n in lost) == len(want)
    if not lost:
        assert hashlib.sha256(text).digest() == hashlib.sha256(want).digest()


# Networks


def networks(engine):
    return set(engine.ok("network", "ls", "--format", "{{.Name}}").split()) - {"bridge", "host", "none"}


def test_a_network_is_made_and_goes_with_the_last(micropod, engine):
    done = micropod("run", "-d", "--name", "one", "--network", "together", micropod.busybox, "sh", "-c", "while true; do echo hello | nc -l -p 80; done")
    assert done.returncode == 0 and b"network 'together' was not there: it is made" in done.stderr, done
    done = micropod("run", "--rm", "--network", "together", micropod.busybox, "sh", "-c", "nc one 80 </dev/null")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")
    micropod.ok("create", "--name", "two", "--network", "together", micropod.busybox, "true")
    micropod.ok("rm", "-f", "one")
    assert networks(engine) == {"together"}, "another is made for it"
    micropod.ok("start", "-a", "two")
    micropod.ok("rm", "two")
    assert networks(engine) == set()
    micropod.ok("run", "--rm", "--network", "for.one", micropod.busybox, "true")
    assert networks(engine) == set()


def test_a_network_that_was_there_stays(micropod, engine):
    engine.ok("network", "create", "theirs")
    try:
        done = micropod("run", "--rm", "--network", "theirs", micropod.busybox, "true")
        assert (done.returncode, done.stderr) == (0, b"")
        assert networks(engine) == {"theirs"}
    finally:
        engine.ok("network", "rm", "theirs")
    # On the network of another container there is nothing to make.
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000")
    micropod.ok("run", "--rm", "--network", "container:box", micropod.busybox, "true")
    assert networks(engine) == set()


# Registries


@pytest.fixture
def private(engine, tmp_path):
    """A registry that lets only one user in, on the engine's loopback."""
    crypt = pytest.importorskip("crypt")
    (tmp_path / "users").write_text("someone:" + crypt.crypt("secret:word", crypt.mksalt(crypt.METHOD_BLOWFISH)) + "\n")
    (tmp_path / "config.yml").write_text(f"""
version: 0.1
storage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}
http: {{addr: "127.0.0.1:5000"}}
auth: {{htpasswd: {{realm: tests, path: {tmp_path}/users}}}}
""")
    enter = ["nsenter", f"--net=/run/netns/{engine.network}"]
    with open(tmp_path / "registry.log", "wb") as log:
        child = subprocess.Popen([*enter, "docker-registry", "serve", tmp_path / "config.yml"], stdout=log, stderr=log)
    push = [*enter, "skopeo", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", "someone:secret:word", f"oci:{IMAGES}/busybox:latest", "docker://localhost:5000/mine:1"]
    try:
        until(lambda: subprocess.run(push, capture_output=True, check=False).returncode == 0)
        yield "localhost:5000/mine:1"
        engine("rmi", "localhost:5000/mine:1")
    finally:
        child.kill()
        child.wait()


def test_a_login_goes_along(micropod, private, tmp_path):
    home = tmp_path / "home"
    (home / ".docker").mkdir(parents=True)
    (home / ".config/containers").mkdir(parents=True)
    env = {"HOME": str(home)}
    auth = base64.b64encode(b"someone:secret:word").decode()

    def run():
        return micropod("run", "--rm", "--pull", "always", private, "echo", "fetched", env=env)

    def logged_in(file, content):
        (home / file).write_text(json.dumps(content))
        done = run()
        (home / file).unlink()
        return done

    for file, content in ((".docker/config.json", {"auths": {"localhost:5000": {"auth": auth}}}),
                          (".docker/config.json", {"auths": {"https://localhost:5000/v1/": {"auth": auth}}}),
                          (".config/containers/auth.json", {"auths": {"localhost:5000": {"auth": auth}}})):
        done = logged_in(file, content)
        assert (done.returncode, done.stdout) == (0, b"fetched\n"), done
    helper = tmp_path / "bin/docker-credential-tests"
    helper.parent.mkdir()
    helper.write_text('#!/bin/sh\n[ "$1" = get ] && [ "$(cat)" = localhost:5000 ] || { echo "credentials not found"; exit 1; }\n'
                      'echo \'{"ServerURL": "localhost:5000", "Username": "someone", "Secret": "secret:word"}\'\n')
    helper.chmod(0o755)
    env["PATH"] = f"{helper.parent}:{os.environ['PATH']}"
    for content in ({"credsStore": "tests"}, {"credHelpers": {"localhost:5000": "tests"}}):
        done = logged_in(".docker/config.json", content)
        assert (done.returncode, done.stdout) == (0, b"fetched\n"), done
    # What is wrong with it is told, and a refusal in the engine's words.
    for content, words in (({"auths": {"localhost:5000": {"auth": "???"}}}, "cannot use the login for 'localhost:5000'"),
                           ({"credsStore": "none-such"}, "docker-credential-none-such"), ({"credsStore": "../x"}, "is no name of a helper"),
                           ({"auths": {"localhost:5000": {"auth": base64.b64encode(b"someone:else").decode()}}}, "no basic auth credentials|unauthorized"),
                           ({"auths": {"other:5000": {"auth": auth}}}, "no basic auth credentials|unauthorized")):
        error = micropod.error(logged_in(".docker/config.json", content))
        assert re.search(words, error), error
        assert "secret:word" not in error and auth not in error
