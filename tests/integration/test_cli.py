# SPDX-License-Identifier: Apache-2.0
"""The command line without a VM: wrong input, and everything that it does itself, against the fake shim."""
import fcntl
import hashlib
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time

import pytest

import cli_fixture

RANDOM = os.urandom(10 << 20)


@pytest.fixture(scope="module")
def module_cli():
    folder = tempfile.mkdtemp(prefix="test-cli-")
    cli = cli_fixture.Cli(folder)
    yield cli
    shutil.rmtree(cli.run_folder(), ignore_errors=True)
    shutil.rmtree(folder)


@pytest.fixture
def cli(module_cli):
    yield module_cli
    module_cli.clean()
    assert module_cli.boxes() == [] and os.listdir(module_cli.root / "names") in ([], [".lock"])
    until(lambda: not os.path.exists(module_cli.run_folder()))


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)


def error(done, code=125):
    """The one line of a failure."""
    assert done.returncode == code, done
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1 and lines[0].startswith("micropod: "), lines
    return lines[0].removeprefix("micropod: ")


# Wrong input: what is wrong and what to do on one line, exit 125, nothing made

WRONG = [
    (["runn"], "unknown command 'runn': did you mean 'run'? See 'micropod --help'"),
    (["frobnicate"], "unknown command 'frobnicate': see 'micropod --help'"),
    (["--nope", "ps"], "unknown option '--nope': see 'micropod --help'"),
    (["ps", "--al"], "unknown option '--al': did you mean '--all'? See 'micropod ps --help'"),
    (["run", "--nmae", "x", "IMAGE"], "unknown option '--nmae': did you mean '--name'? See 'micropod run --help'"),
    (["run", "-itz", "IMAGE"], "unknown option '-z' in '-itz': see 'micropod run --help'"),
    (["run"], "'micropod run' needs an argument: micropod run [OPTIONS] IMAGE [COMMAND [ARG...]]"),
    (["run", "--name"], "option '--name' needs a value: --name NAME"),
    (["run", "-m", "lots", "IMAGE"], "option '-m' (--memory) is 'lots': give bytes, or a number with k, m, g or t, such as 512m"),
    (["run", "-m", "1m", "IMAGE"], "memory of 1 MiB is out of range: give from 64 MiB to 1024 GiB"),
    (["run", "--cpus", "0", "IMAGE"], "option '--cpus' is '0': give a number above 0 with at most three decimals, such as 1.5"),
    (["run", "--cpus", "65", "IMAGE"], "65 CPUs are too many: give 64 at most"),
    (["run", "-p", "http", "IMAGE"], "option '--publish' is 'http': give [IP:][HOST:]CONTAINER[/tcp|udp], such as 8080:80"),
    (["run", "--driver", "docker", "-p", "80:80", "--network", "none", "IMAGE"], "option '--publish' needs a network: leave '--network none' out"),
    (["run", "-p", "80:80/udp", "--network", "none", "IMAGE"], "port 80/udp cannot be published without a network: only TCP goes by the agent"),
    (["run", "--network", "host", "IMAGE"], "option '--network' is 'host': a VM has a network of its own; publish ports with -p, reach the host's loopback with --host-access"),
    (["run", "--accel", "hax", "IMAGE"], "option '--accel' is 'hax': give one of auto, tcg, kvm"),
    (["run", "--pull", "often", "IMAGE"], "option '--pull' is 'often': give one of missing, always, never"),
    (["run", "--runtime", "kata", "IMAGE"], "option '--runtime' is 'kata': give one of builtin, crun, runc"),
    (["run", "--name", "a/b", "IMAGE"],
     "'a/b' is no name: use 2 to 64 letters, digits, '_', '.', '-', the first a letter or digit"),
    (["run", "-w", "tmp", "IMAGE"], "option '--workdir' is 'tmp': give an absolute path"),
    (["run", "-h", "a_b", "IMAGE"], "option '--hostname' is 'a_b': use at most 63 letters, digits, '-' and '.'"),
    (["run", "-e", "=1", "IMAGE"], "option '--env' is '=1': a variable has no name: give KEY=VALUE"),
    (["run", "--env-file", "/nope", "IMAGE"], "cannot read env file '/nope': No such file or directory"),
    (["run", "--stop-signal", "BANG", "IMAGE"], "option '--stop-signal' is 'BANG': give a signal's name or number, such as TERM"),
    (["run", "--kernel", "/nope", "IMAGE"], "cannot read the kernel '/nope': No such file or directory"),
    (["run", "--kernel", "/tmp", "IMAGE"], "the kernel '/tmp' is not a file with something in it"),
    (["run", "-it", "IMAGE"], "the input is not a terminal: leave '-t' out, or call from a terminal"),
    (["rm"], "'micropod rm' needs an argument: micropod rm [OPTIONS] SANDBOX..."),
    (["rm", "nope"], "no such sandbox: nope"),
    (["start", "nope"], "no such sandbox: nope"),
    (["stop", "nope"], "no such sandbox: nope"),
    (["stop", "-t", "soon", "nope"], "option '-t' (--time) is 'soon': give seconds, or -1 to wait for ever"),
    (["kill", "-s", "BANG", "nope"], "option '--signal' is 'BANG': give a signal's name or number, such as TERM"),
    (["restart", "nope"], "no such sandbox: nope"),
    (["wait", "nope"], "no such sandbox: nope"),
    (["logs", "nope"], "no such sandbox: nope"),
    (["logs", "--tail", "-1", "nope"], "option '--tail' is '-1': give a number of lines, or all"),
    (["logs", "--since", "once", "nope"],
     "option '--since' is 'once': give a time such as 2026-01-31T12:00:00Z, or how long ago, such as 42m"),
    (["exec", "nope", "ls"], "no such sandbox: nope"),
    (["exec", "nope"], "'micropod exec' needs more arguments: micropod exec [OPTIONS] SANDBOX COMMAND [ARG...]"),
    (["exec", "-w", "x", "nope", "ls"], "option '--workdir' is 'x': give an absolute path"),
    (["ps", "x"], "'micropod ps' takes no arguments: micropod ps [OPTIONS]"),
    (["ps", "--format", "xml"], "option '--format' is 'xml': give table, json, or a template such as '{{.ID}}'"),
    (["logs", "a", "b"], "'micropod logs' takes fewer arguments: micropod logs [OPTIONS] SANDBOX"),
]


@pytest.mark.parametrize("words, message", WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_input(cli, words, message):
    done = cli(*[cli.image if word == "IMAGE" else word for word in words])
    assert error(done) == message
    assert done.stdout == b""
    assert cli.boxes() == []


def test_inspect_of_nothing(cli):
    done = cli("inspect", "nope")
    assert error(done) == "no such sandbox or image: nope" and json.loads(done.stdout) == []


def test_missing_image(cli):
    assert "nosuch" in error(cli("run", "--pull", "never", "nosuch"))
    assert "/nope" in error(cli("run", "oci:/nope:latest"))
    assert error(cli("run", "UPPER"))
    assert error(cli("rmi", "nosuch"))
    assert cli.boxes() == []


def test_taken_name(cli):
    box = cli.ok("create", "--name", "taken", cli.image).strip()
    message = f"name 'taken' is taken by sandbox {box[:12]}: remove it (micropod rm taken) or choose another name"
    assert error(cli("run", "--name", "taken", cli.image)) == message
    assert error(cli("create", "--name", "taken", cli.image)) == message
    assert cli.boxes() == [box]


def test_settings(cli):
    path = cli.folder / "config/micropod/micropod.yaml"
    path.parent.mkdir(parents=True)
    try:
        path.write_text("memory: 256m\nkernl: /x\n")
        assert error(cli("ps")) == \
            f"{path}:2: unknown key 'kernl': the keys are builder, cloud_hypervisor, firecracker, accel, agent_rootfs, cpus, driver, enable_virtio_fs, enable_vsock, kernel, memory, template_limit, vmm"
        path.write_text("memory: 256m\ncpus: 1.5\n")

        def made(*words, **env):
            cli.ok("create", "--name", "box", *words, cli.image, env=env)
            host = json.loads(cli.ok("inspect", "box"))[0]["HostConfig"]
            cli.ok("rm", "box")
            return host["Memory"], host["NanoCpus"]

        assert made() == (256 << 20, 1500000000)
        assert made(MICROPOD_MEMORY="128m") == (128 << 20, 1500000000)
        assert made("-m", "96m", "--cpus", "1", MICROPOD_MEMORY="128m") == (96 << 20, 1000000000)
        assert error(cli("ps", env={"MICROPOD_ACCEL": "x"})) == "variable MICROPOD_ACCEL is 'x': give one of auto, tcg, kvm"
    finally:
        shutil.rmtree(path.parents[1])
    assert error(cli("ps", env={"MICROPOD_LOG": "loud"})) == \
        "variable MICROPOD_LOG is 'loud': give one of error, warning, info, debug"


def test_root_that_cannot_be(cli, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in error(cli("--root", str(tmp_path / "file/root"), "ps"))
    assert "file" in error(cli("--root", str(tmp_path / "file"), "ps"))


def test_help_of_every_verb(cli):
    verbs = re.findall(r"^  ([a-z-]+(?: [a-z]+)?) +[A-Z]", cli.ok("--help").split("Commands:")[1].split("Options:")[0], re.M)
    assert {"run", "create", "start", "stop", "kill", "restart", "pause", "unpause", "update", "rename", "extend", "events", "rm", "ps", "list", "exec", "attach", "cp", "logs",
            "top", "port", "port-forward", "wait", "inspect", "pull", "push", "images", "rmi", "tag", "load", "save", "history", "image prune", "login", "logout",
            "volume create", "volume ls", "volume inspect", "volume rm", "volume prune", "network create", "network ls", "network inspect", "network rm",
            "network prune", "pod create", "pod ls", "pod inspect", "pod start", "pod stop", "pod rm", "build", "diff", "commit", "export", "prune", "system df", "doctor", "setup", "stats", "template", "version", "server",
            "runner", "token", "context", "config show", "completion"} == set(verbs)
    # Three are programs of their own, which this installation of parts does not have.
    for verb in set(verbs) - {"server", "runner", "token"}:
        assert cli.ok(*verb.split(), "--help").startswith(f"Usage: micropod {verb} ")
    assert cli.ok("version") == cli.ok("--version") == cli.ok("-v")


def test_output_that_cannot_be_written(cli):
    with open("/dev/full", "w") as full:
        done = subprocess.run([cli_fixture.MICROPOD, "ps"], env=cli.env, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 125 and b"cannot write the output" in done.stderr


# Images

def test_images(cli):
    image = f"oci:{cli.folder}/layout:latest"
    assert cli.ok("pull", "-q", image).strip()
    rows = cli.ok("images").splitlines()
    assert rows[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"] and len(rows) == 2
    one = json.loads(cli.ok("images", "--format", "json"))
    assert cli.ok("images", "-q").strip() == one["ID"] and len(one["ID"]) == 12
    details = json.loads(cli.ok("inspect", "--type", "image", one["ID"]))[0]
    assert details["Id"].startswith("sha256:" + one["ID"]) and details["Config"]["Env"] == ["IMAGE=yes"]
    box = cli.ok("create", image).strip()
    assert "use" in error(cli("rmi", one["ID"]))
    cli.ok("rm", box)
    cli.ok("rmi", one["ID"])
    assert cli.ok("images", "-q") == ""


# Life of a sandbox

def test_ps_columns(cli):
    assert cli.ok("ps").split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    box = cli.ok("run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:53:53/udp", cli.image, "sleep", "1000").strip()
    assert re.fullmatch("[0-9a-f]{32}", box)
    row = cli.ok("ps").splitlines()[1]
    assert re.fullmatch(rf'{box[:12]}   {re.escape(cli.image)}   "sleep 1000"   \S.* ago   Up \S.*   '
                        r"0\.0\.0\.0:8080->80/tcp, 127\.0\.0\.1:53->53/udp   web", row), row
    assert cli.ok("ps", "-q") == box[:12] + "\n" and cli.ok("ps", "-q", "--no-trunc") == box + "\n"
    one = json.loads(cli.ok("ps", "--format", "json"))
    assert one["ID"] == box[:12] and one["Names"] == "web" and one["State"] == "running" and one["Command"] == '"sleep 1000"'
    cli.ok("create", "--name", "later", cli.image)
    assert "later" not in cli.ok("ps") and "Created" in cli.ok("ps", "-a") and "later" in cli.ok("ps", "-l")
    assert len(cli.ok("ps", "-an", "1", "-q").split()) == 1
    assert cli.ok("stop", "-t", "1", "web") == "web\n"
    assert re.search(r"Exited \(143\) .* ago", cli.ok("ps", "-a"))
    assert cli.ok("stop", "web") == "web\n", "stopping what has ended is no failure"


def test_detached_life(cli):
    cli.ok("run", "-d", "--name", "box", cli.image, "sh", "-c", "echo begun; trap 'echo bye; exit 9' TERM; while :; do sleep 0.05; done")
    until(lambda: cli.ok("logs", "box") == "begun\n")
    assert cli.ok("start", "box") == "box\n", "starting what runs is no failure"
    waiter = cli.popen("wait", "box", stdout=subprocess.PIPE)
    time.sleep(0.3)
    cli.ok("stop", "box")
    assert waiter.communicate(timeout=10)[0] == b"9\n"
    assert cli.ok("wait", "box") == "9\n" and cli.ok("logs", "box") == "begun\nbye\n"
    assert error(cli("exec", "box", "true")) == "sandbox 'box' is not running: start it first (micropod start box)"
    assert error(cli("kill", "box")).startswith("sandbox 'box' is not running")
    cli.ok("start", "box")
    assert cli.ok("kill", "box") == "box\n"
    assert cli.ok("wait", "box") == "137\n"
    cli.ok("restart", "-t", "5", "box")
    cli.ok("restart", "-t", "5", "box")
    assert "is running: stop it first" in error(cli("rm", "box"))
    assert cli.ok("rm", "-f", "box") == "box\n"
    done = cli("rm", "-f", "box")
    assert done.returncode == 0 and done.stderr == b"micropod: no such sandbox: box\n"


def test_inspect_running(cli):
    cli.ok("run", "-d", "--name", "box", "-e", "A=b", "-u", "1:2", "-w", "/x", "-p", "80:81", "--hostname", "hoho", cli.image, "sleep", "1000")
    one = json.loads(cli.ok("inspect", "box"))[0]
    assert one["Name"] == "box" and one["State"]["Running"] and one["State"]["Status"] == "running" and one["Path"] == "sleep"
    assert one["Config"]["User"] == "1:2" and one["Config"]["WorkingDir"] == "/x" and one["Config"]["Hostname"] == "hoho"
    assert "A=b" in one["Config"]["Env"] and "IMAGE=yes" in one["Config"]["Env"] and one["Config"]["Cmd"] == ["sleep", "1000"]
    assert one["NetworkSettings"]["Ports"] == {"81/tcp": [{"HostIp": "0.0.0.0", "HostPort": "80"}]}
    ours = one["Micropod"]
    assert ours["AgentConnected"] is True and ours["Transport"] == "virtio-serial" and ours["AgentVersion"] == "fake 1"
    assert ours["VMM"] == "fake 2" and ours["Accel"] == "tcg" and os.path.exists(ours["Rootfs"]["ImageDisk"]) and ours["CID"] == 0
    os.kill(ours["ShimPid"], signal.SIGSTOP)
    began = time.monotonic()
    stuck = json.loads(cli.ok("inspect", "box"))[0]["Micropod"]
    assert stuck["AgentConnected"] is False and stuck["ShimConnected"] is False and time.monotonic() - began < 10
    os.kill(ours["ShimPid"], signal.SIGCONT)


def test_dead_shim_is_told(cli):
    cli.ok("run", "-d", "--name", "box", cli.image, "sleep", "1000")
    one = json.loads(cli.ok("inspect", "box"))[0]
    assert one["Micropod"]["ShimPid"] > 1
    os.kill(one["Micropod"]["ShimPid"], signal.SIGKILL)
    until(lambda: "Dead" in cli.ok("ps"))
    dead = "sandbox 'box' is dead, its shim was killed: start it again (micropod start box) or remove it (micropod rm box)"
    for words in (["stop", "box"], ["kill", "box"], ["exec", "box", "true"]):
        assert error(cli(*words)) == dead
    assert cli.ok("wait", "box") == "137\n"
    one = json.loads(cli.ok("inspect", "box"))[0]
    assert one["State"]["Status"] == "dead" and not one["State"]["Running"] and not one["Micropod"]["ShimConnected"]
    cli.ok("start", "box")
    assert "Up " in cli.ok("ps")
    cli.ok("rm", "-f", "box")


def test_deaf_shim_is_told(cli):
    cli.ok("run", "-d", "--name", "box", cli.image, "sleep", "1000", env={"FAKE_SHIM": "deaf"})
    stopper = cli.popen("stop", "box", stderr=subprocess.PIPE)
    time.sleep(0.5)
    cli.ok("rm", "-f", "box")
    stopper.communicate(timeout=20)
    assert cli.ok("ps", "-aq") == ""


def test_prune(cli):
    cli.ok("run", "--name", "ended", cli.image, "true")
    cli.ok("run", "-d", "--name", "runs", cli.image, "sleep", "1000")
    cli.ok("create", "--name", "fresh", cli.image)
    (cli.root / "sandboxes/.new-0123456789abcdef0123456789abcdef").mkdir()
    assert "[y/N]" in cli.ok("prune", input=b"n\n") and "ended" in cli.ok("ps", "-a")
    cli.ok("prune", input=b"y\n")
    names = cli.ok("ps", "-a")
    assert "ended" not in names and "runs" in names and "fresh" in names
    assert not (cli.root / "sandboxes/.new-0123456789abcdef0123456789abcdef").exists()
    cli.ok("prune", "-f")


# Logs

def test_logs(cli):
    script = "echo one; printf three; sleep 0.2; echo ' more'; printf end"
    cli.ok("run", "--name", "box", cli.image, "sh", "-c", script)
    done = cli("logs", "box")
    assert done.stdout == b"one\nthree more\nend" and done.stderr == b""
    assert cli("logs", "--tail", "1", "box").stdout == b"end"
    assert cli("logs", "-n2", "box").stdout == b"three more\nend"
    assert cli("logs", "-n0", "box").stdout == b""
    stamped = cli("logs", "-t", "box")
    assert re.fullmatch(rb"\S+Z one\n\S+Z three more\n\S+Z end", stamped.stdout)
    assert cli("logs", "--since", "1h", "box").stdout == b"one\nthree more\nend"
    assert cli("logs", "--until", "1h", "box").stdout == b"" and cli("logs", "--since", "2200-01-01", "box").stdout == b""
    cli.ok("run", "--name", "other", cli.image, "sh", "-c", "echo two >&2")
    done = cli("logs", "-t", "other")
    assert done.stdout == b"" and re.fullmatch(rb"\S+Z two\n", done.stderr)
    assert "==> shim.log <==" in cli.ok("logs", "--system", "box")
    assert error(cli("logs", "--system", "-f", "box")).startswith("option '--system' goes with no other option")


def test_logs_follow(cli):
    cli.ok("run", "-d", "--name", "box", cli.image, "sh", "-c", "echo a; sleep 0.5; echo b; sleep 0.5; printf c")
    follower = cli.popen("logs", "-f", "box", stdout=subprocess.PIPE)
    assert follower.communicate(timeout=20)[0] == b"a\nb\nc"
    cli.ok("rm", "box")
    cli.ok("run", "-d", "--name", "box", cli.image, "sh", "-c", "echo a; exec sleep 1000")
    follower = cli.popen("logs", "-f", "box", stdout=subprocess.PIPE)
    time.sleep(0.5)
    os.kill(json.loads(cli.ok("inspect", "box"))[0]["Micropod"]["ShimPid"], signal.SIGKILL)
    assert follower.communicate(timeout=20)[0] == b"a\n"


# Foreground

def test_exit_codes(cli):
    assert cli("run", "--rm", cli.image).stdout == b"from the image\n"
    for code in (0, 7, 255):
        assert cli("run", "--rm", cli.image, "sh", "-c", f"exit {code}").returncode == code
    assert cli("run", "--rm", cli.image, "sh", "-c", "kill -9 $$").returncode == 137
    assert cli.boxes() == []
    for code in (126, 127):
        assert error(cli("run", cli.image, "prog", env={"FAKE_SHIM": f"refuse={code}"}), code).endswith("': cannot start 'prog'")
        assert cli.boxes() == [], "what never ran leaves nothing"
        assert error(cli("run", "-d", cli.image, "prog", env={"FAKE_SHIM": f"verdict={code}"}), code)
        assert cli.boxes() == []
    assert error(cli("run", "--name", "box", cli.image, "prog", env={"FAKE_SHIM": "refuse=127"}), 127) == \
        "sandbox 'box': cannot start 'prog'"


def test_streams_are_apart_and_whole(cli):
    done = cli("run", "--rm", "-i", cli.image, "sh", "-c", "cat; printf err >&2; exit 3", input=RANDOM)
    assert done.returncode == 3 and done.stderr == b"err" and done.stdout == RANDOM
    done = cli("run", "--rm", cli.image, "cat", input=b"not for it")
    assert done.returncode == 0 and done.stdout == b""


def test_exec_streams(cli):
    cli.ok("run", "-d", "--name", "box", cli.image, "sleep", "1000")
    done = cli("exec", "-i", "box", "sh", "-c", "cat; printf err >&2; exit 3", input=RANDOM)
    assert done.returncode == 3 and done.stderr == b"err" and done.stdout == RANDOM
    with tempfile.TemporaryFile() as file:
        file.write(RANDOM)
        file.seek(0)
        with tempfile.NamedTemporaryFile() as out:
            subprocess.run([cli_fixture.MICROPOD, "exec", "-i", "box", "cat"], env=cli.env, stdin=file, stdout=out, check=True)
            assert pathlib.Path(out.name).read_bytes() == RANDOM
    assert cli.ok("exec", "-e", "A=\xe9 b", "-u", "7:8", "-w", "/tmp", "--privileged", "box", "sh", "-c",
                  "echo $A $USER_SEEN $PRIVILEGED_SEEN $PWD") == "\xe9 b 7:8 True /tmp\n"
    assert cli.ok("exec", "box", "sh", "-c", "echo $USER_SEEN -d") == "unset -d\n"
    assert cli("exec", "box", "echo", b"\xff\xfe").stdout == b"\xff\xfe\n"
    assert error(cli("exec", "box", "/nonexistent"), 127) == "sandbox 'box': cannot run '/nonexistent': No such file or directory"
    assert error(cli("exec", "box", "/etc/passwd"), 126) == "sandbox 'box': cannot run '/etc/passwd': Permission denied"
    assert error(cli("exec", "-d", "box", "/nonexistent"), 127)
    with tempfile.TemporaryDirectory() as folder:
        assert cli.ok("exec", "-d", "box", "touch", folder + "/made") == ""
        until(lambda: os.path.exists(folder + "/made"))


def test_lost_sessions_lose_nothing(cli):
    digest = hashlib.sha256(RANDOM).hexdigest()
    done = cli("run", "--rm", "-i", cli.image, "sh", "-c", "cat; echo end >&2", input=RANDOM,
               env={"FAKE_SHIM": "cut-output=3000000 cut-input=700000"})
    assert done.returncode == 0 and done.stderr == b"end\n" and hashlib.sha256(done.stdout).hexdigest() == digest


def test_lost_shim(cli):
    done = cli("run", "--name", "box", cli.image, "sh", "-c", "echo x; sleep 1", env={"FAKE_SHIM": "die=1"})
    assert done.stdout == b"x\n" and "sandbox 'box' was lost (see micropod logs --system box)" in error(done)


def test_why_it_ended_is_told(cli):
    done = cli("run", "--name", "box", cli.image, "sh", "-c", "exit 137", env={"FAKE_SHIM": "error=too_little_memory"})
    assert error(done, 137) == "sandbox 'box': too little memory"


def test_gap_is_told(cli):
    done = cli("run", "--rm", cli.image, "echo", "x", env={"FAKE_SHIM": "gap"})
    assert done.stdout == b"x\n" and done.stderr == b"micropod: 7 bytes of stdout were lost\n"


def test_non_utf8_and_long_arguments(cli):
    assert cli("run", "--rm", "-e", b"V=\xff\x80", cli.image, "sh", "-c", b'printf %s "$V$1"', b"x", b"\xfe\n").stdout == b"\xff\x80\xfe\n"
    long = "x" * 65536
    assert cli.ok("run", "--rm", cli.image, "echo", long) == long + "\n"


def test_environment(cli, tmp_path):
    (tmp_path / "env").write_text("# no\nONE=1\nTWO\n")
    (tmp_path / "large").write_text("A=" + "x" * (2 << 20))  # LIMIT_ENV_FILE
    large = cli("run", "--rm", "--env-file", str(tmp_path / "large"), cli.image, "env")
    assert large.returncode == 125 and b"cannot read env file" in large.stderr
    out = cli.ok("run", "--rm", "--env-file", str(tmp_path / "env"), "-e", "THREE", "-e", "IMAGE", "-e", "ONE=over", cli.image,
                 "sh", "-c", 'echo "$ONE $TWO $THREE"', env={"TWO": "2", "THREE": "3"})
    assert out == "over 2 3\n"


def test_signals_go_to_the_process(cli):
    for words in (["run", "--name", "box", cli.image], ["exec", "box"]):
        if words[0] == "exec":
            cli.ok("start", "box")
        script = "trap 'echo usr1; exit 5' USR1; echo ready; while :; do sleep 0.05; done"
        child = cli.popen(*words, "sh", "-c", script, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGUSR1)
        assert child.communicate(timeout=10)[0] == b"usr1\n" and child.returncode == 5


def test_sandbox_outlives_a_killed_cli(cli):
    child = cli.popen("run", "--name", "box", cli.image, "sh", "-c", "echo ready; sleep 1000", stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    child.kill()
    child.wait()
    child.stdout.close()
    assert "Up " in cli.ok("ps")


def test_proxying_can_be_switched_off(cli):
    child = cli.popen("run", "--sig-proxy=false", "--name", "box", cli.image, "sh", "-c", "echo ready; sleep 1000", stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
    child.stdout.close()
    assert "Up " in cli.ok("ps")


def test_closed_output_is_a_broken_pipe(cli):
    child = cli.popen("run", "--name", "box", cli.image, "sh", "-c", "echo ready; while :; do echo more; sleep 0.01; done", stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    child.stdout.close()
    assert child.wait(10) == -signal.SIGPIPE
    assert "Up " in cli.ok("ps")


def test_slow_reader_does_not_grow_memory(cli):
    """100 MB for a reader that does not read: the call is paused, nothing piles up here."""
    cli.ok("run", "-d", "--name", "box", cli.image, "sleep", "1000")
    child = cli.popen("exec", "box", "head", "-c", "100000000", "/dev/zero", stdout=subprocess.PIPE)
    time.sleep(3)
    status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
    rss = int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1))
    limit = 24 << 10 if "san" not in str(cli_fixture.BUILD) else 200 << 10
    assert rss < limit, f"{rss} kB"
    assert len(child.communicate(timeout=60)[0]) == 100000000 and child.returncode == 0


# Terminals

class Terminal:
    """A micropod whose stdin, stdout and stderr are a terminal of ours."""

    def __init__(self, cli, *words, rows=30, columns=100, **kwargs):
        self.master, slave = pty.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave

        def take_terminal():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            # Tests under nohup have it ignored, and micropod leaves it at that.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)

        self.child = cli.popen(*words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=take_terminal, **kwargs)
        self.seen = b""

    def expect(self, pattern, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            hit = re.search(pattern, self.seen)
            if hit:
                self.seen = self.seen[hit.end():]
                return hit
            left = deadline - time.monotonic()
            assert left > 0, (pattern, self.seen)
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65536)

    def write(self, data):
        os.write(self.master, data)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self, seconds=20):
        code = self.child.wait(seconds)
        assert termios.tcgetattr(self.slave) == self.before, "the terminal is not as it was"
        os.close(self.slave)
        os.close(self.master)
        return code


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_terminal(cli, verb):
    if verb == "exec":
        cli.ok("run", "-d", "--name", "box", cli.image, "sleep", "1000")
    words = ["run", "--rm", "-it", cli.image] if verb == "run" else ["exec", "-it", "box"]
    script = "trap 'stty size' WINCH; sleep 0.3; stty size; while read line; do echo \"<$line>\"; test \"$line\" != quit || exit 4; done"
    term = Terminal(cli, *words, "bash", "-c", script)
    term.expect(rb"30 100\r\n")
    assert not termios.tcgetattr(term.slave)[3] & termios.ECHO, "raw while it runs"
    term.write(b"hello\r")
    term.expect(rb"hello\r\n<hello>\r\n")
    term.resize(40, 120)
    time.sleep(0.3)
    term.write(b"again\r")
    term.expect(rb"40 120")
    term.write(b"quit\r")
    term.expect(rb"<quit>")
    assert term.end() == 4


def test_control_c_goes_through_as_a_key(cli):
    term = Terminal(cli, "run", "--rm", "-it", cli.image, "sh", "-c", "trap 'echo int; exit 6' INT; echo ready; while :; do sleep 0.05; done")
    term.expect(rb"ready\r\n")
    term.write(b"\x03")
    term.expect(rb"int\r\n")
    assert term.end() == 6


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGHUP])
def test_terminal_is_restored_when_we_are_killed(cli, sig):
    term = Terminal(cli, "run", "--name", "box", "-it", cli.image, "sh", "-c", "echo ready; exec sleep 1000")
    term.expect(rb"ready\r\n")
    term.child.send_signal(sig)
    assert term.end() == -sig
    assert "Up " in cli.ok("ps")


def test_terminal_is_restored_when_the_shim_dies(cli):
    term = Terminal(cli, "run", "--name", "box", "-it", cli.image, "sh", "-c", "echo ready; exec sleep 1000", env={"FAKE_SHIM": "die=1"})
    term.expect(rb"ready\r\n")
    term.expect(rb"micropod: sandbox 'box' was lost")
    assert term.end() == 125


def test_start_attached(cli):
    cli.ok("create", "--name", "box", "-i", cli.image, "sh", "-c", "cat; exit 3")
    done = cli("start", "-ai", "box", input=b"hello")
    assert done.returncode == 3 and done.stdout == b"hello"
    cli.ok("create", "--name", "mute", cli.image, "sh", "-c", "cat; echo out; exit 4")
    done = cli("start", "-a", "mute", input=b"not for it")
    assert done.returncode == 4 and done.stdout == b"out\n"
    assert error(cli("start", "-a", "box", "box")) == "only one sandbox can be started and attached to at a time"


# Doctor

def test_doctor(cli):
    done = cli("doctor", "--format", "json")
    found = {row["ID"]: row for row in map(json.loads, done.stdout.decode().splitlines())}
    assert found["guest"]["State"] == "ok" and found["programs"]["State"] == "fail" and done.returncode == 1
    assert all(row["Remedy"] for row in found.values() if row["State"] != "ok")
    plain = cli("doctor").stdout.decode()
    assert all(name in plain for name in found)
    assert "no QEMU" in cli("doctor", "--vmm", "/nonexistent").stdout.decode() or \
        json.loads([line for line in cli("--vmm", "/nonexistent", "doctor", "--format", "json").stdout.splitlines()
                    if b'"qemu"' in line][0])["State"] == "fail"


def test_an_older_shim(cli):
    """What it knows works; what it does not is one line that says what to do."""
    cli.env["FAKE_SHIM"] = "old"
    cli.ok("run", "-d", "--name", "box", cli.image, "sleep", "1000")
    assert cli.ok("exec", "box", "echo", "hi") == "hi\n"
    assert error(cli("kill", "box")) == ("sandbox 'box' was started by an older micropod, which cannot do this: start it anew "
                                         "(micropod restart box)")
    cli.ok("stop", "-t", "1", "box")


# docs/docker-compatibility.md

def test_what_is_there_of_dockers_options():
    """The table is what micropod's own tables make of it today, and nothing of the installed Docker's is missing in it."""
    made = subprocess.run([cli_fixture.TOP / "scripts/docker-compatibility.py", cli_fixture.MICROPOD], check=True, capture_output=True, text=True).stdout
    assert (cli_fixture.TOP / "docs/docker-compatibility.md").read_text() == made
    run, _, exec_ = made.partition("## docker exec")
    for verb, part in (("run", run), ("exec", exec_)):
        text = subprocess.run(["docker", verb, "--help"], check=True, capture_output=True, text=True).stdout
        theirs = set(re.findall(r"^ +(?:-\w, +)?(--[a-z0-9-]+)", text, re.MULTILINE))
        assert len(theirs) > 5 and theirs <= set(re.findall(r"^\| `(--[a-z0-9-]+)`", part, re.MULTILINE))
