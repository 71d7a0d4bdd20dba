# SPDX-License-Identifier: Apache-2.0
"""--restart; some also with the other driver and over a server (test_docker_same.py, test_server_same.py)."""
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from conftest import BUILD
from test_run import until


def state(micropod, box="box"):
    return micropod.inspect(box)["State"]


def restarts(micropod):
    return micropod.inspect("box")["RestartCount"]


def test_it_is_started_again(micropod):
    """What it has written stays, its process is another, and who stops it is obeyed."""
    micropod.ok("run", "-d", "--name", "box", "--restart", "always", micropod.busybox, "sh", "-c", "echo run >>/runs; wc -l </runs; sleep 1000; exit 1")
    until(lambda: micropod.ok("logs", "box") == "1\n")
    assert micropod.inspect("box")["HostConfig"]["RestartPolicy"] == {"Name": "always", "MaximumRetryCount": 0} and restarts(micropod) == 0
    micropod.ok("exec", "box", "killall", "-9", "sleep")
    until(lambda: micropod.ok("logs", "box") == "1\n2\n")
    assert restarts(micropod) == 1 and state(micropod)["Status"] == "running"
    assert micropod.ok("exec", "box", "cat", "/runs") == "run\nrun\n"
    micropod.ok("stop", "-t", "0", "box")
    assert state(micropod)["Status"] == "exited"
    # A start by hand counts anew, and so does who kills it.
    micropod.ok("start", "box")
    until(lambda: micropod.ok("logs", "box") == "1\n2\n3\n")
    assert restarts(micropod) == 0
    micropod.ok("kill", "box")
    until(lambda: state(micropod)["Status"] == "exited")
    assert state(micropod)["ExitCode"] == 137 and restarts(micropod) == 0
    micropod.ok("rm", "box")


def test_only_after_failures_and_so_often(micropod):
    micropod.ok("run", "-d", "--name", "box", "--restart", "on-failure:2", micropod.busybox, "sh", "-c", "echo run; exit 3")
    until(lambda: state(micropod)["Status"] == "exited" and restarts(micropod) == 2, 60)
    assert state(micropod)["ExitCode"] == 3 and micropod.ok("logs", "box") == "run\n" * 3
    micropod.ok("rm", "box")
    micropod.ok("run", "-d", "--name", "box", "--restart", "on-failure", micropod.busybox, "sh", "-c", "test -e /was && exit 0; touch /was; exit 1")
    until(lambda: state(micropod)["Status"] == "exited" and restarts(micropod) == 1, 60)
    assert state(micropod)["ExitCode"] == 0


def test_while_it_waits(micropod):
    """The pause doubles; meanwhile it is seen, refuses what needs a running one, and can be stopped and removed."""
    micropod.ok("run", "-d", "--name", "box", "--restart", "unless-stopped", micropod.busybox, "false")
    until(lambda: state(micropod)["Status"] == "restarting" and restarts(micropod) >= 3, 60)
    until(lambda: "Restarting (1) " in micropod.ok("ps"), 60)
    done = micropod("exec", "box", "true")
    if done.returncode == 125:
        assert "is restarting: wait until it runs" in micropod.error(done) or "is not running" in micropod.error(done), done
    assert micropod("rm", "box").returncode == 125
    micropod.ok("stop", "box")
    assert state(micropod)["Status"] == "exited"
    micropod.ok("start", "box")
    until(lambda: restarts(micropod) >= 1, 60)
    micropod.ok("rm", "-f", "box")
    assert micropod.ok("ps", "-aq") == ""


def test_who_is_there_sees_one_run(micropod):
    done = micropod("run", "--name", "box", "--restart", "always", micropod.busybox, "sh", "-c", "echo once; exit 7")
    assert (done.returncode, done.stdout) == (7, b"once\n"), done
    until(lambda: restarts(micropod) >= 1, 60)
    micropod.ok("rm", "-f", "box")


def test_wrong_words(micropod):
    for word in ("sometimes", "always:3", "on-failure:x", "on-failure:", ""):
        assert f"option '--restart' is '{word}': give no, on-failure" in micropod.error(micropod("run", "--restart", word, micropod.busybox, "true"))
    assert "'--restart' and '--rm'" in micropod.error(micropod("run", "--rm", "--restart", "always", micropod.busybox, "true"))
    assert micropod.ok("run", "--rm", "--restart", "no", micropod.busybox, "echo", "fine") == "fine\n"
    # A program that is not there is told, not tried again.
    done = micropod("run", "-d", "--name", "box", "--restart", "always", micropod.busybox, "/nothing")
    assert done.returncode == 127, done


def test_a_vm_that_dies_is_replaced(micropod):
    micropod.ok("run", "-d", "--name", "box", "--restart", "always", micropod.busybox, "sleep", "1000")
    shim = micropod.inspect("box")["Micropod"]["ShimPid"]
    for n in (1, 2):
        os.kill(state(micropod)["Pid"], signal.SIGKILL)
        until(lambda n=n: state(micropod)["Status"] == "running" and restarts(micropod) == n, 60)
    # The same process, and nothing of the runs before is left in it.
    assert micropod.inspect("box")["Micropod"]["ShimPid"] == shim
    children = [pid for pid in os.listdir("/proc") if pid.isdigit() and parent(pid) == shim]
    assert state(micropod)["Pid"] in map(int, children)
    assert not [pid for pid in children if pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"]
    fds = len(os.listdir(f"/proc/{shim}/fd"))
    os.kill(state(micropod)["Pid"], signal.SIGKILL)
    until(lambda: state(micropod)["Status"] == "running" and restarts(micropod) == 3, 60)
    assert len(os.listdir(f"/proc/{shim}/fd")) <= fds
    os.kill(shim, signal.SIGTERM)
    until(lambda: state(micropod)["Status"] == "exited")


def parent(pid):
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_after_a_boot(micropod):
    """What a unit calls. A shim that is killed leaves what a host that goes down does: a sandbox that ran, and runs no more."""
    for policy in ("always", "unless-stopped", "on-failure", "no"):
        for end in ("killed", "stopped"):
            name = f"{policy}-{end}"
            micropod.ok("run", "-d", "--name", name, "--restart", policy, micropod.busybox, "sleep", "1000")
            if end == "stopped":
                micropod.ok("stop", "-t", "0", name)
            else:
                vmm = micropod.inspect(name)["Micropod"]["VMMPid"]
                os.kill(int(pathlib.Path(f"/proc/{vmm}/stat").read_text().rsplit(")", 1)[1].split()[1]), signal.SIGKILL)
                until(lambda: micropod.inspect(name)["State"]["Status"] == "dead", 20)
    assert sorted(micropod.ok("start", "--policy").split()) == ["always-killed", "always-stopped", "on-failure-killed", "unless-stopped-killed"]
    assert micropod.ok("start", "--policy") == ""
    running = micropod.ok("ps", "--filter", "status=running", "--format", "{{.Names}}").split()
    assert sorted(running) == ["always-killed", "always-stopped", "on-failure-killed", "unless-stopped-killed"]
    assert "goes with no sandbox" in micropod.error(micropod("start", "--policy", "always-killed"))
    assert "at least one sandbox" in micropod.error(micropod("start"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_units_are_valid(tmp_path):
    for manager in ("system", "user"):
        unit = tmp_path / manager / "micropod-restart.service"
        unit.parent.mkdir()
        text = (BUILD / f"packaging/systemd/micropod-restart.{manager}").read_text()
        unit.write_text(re.sub(r"ExecStart=\S+", f"ExecStart={BUILD}/src/cli/micropod", text))
        done = subprocess.run(["systemd-analyze", "verify", *(["--user"] if manager == "user" else []), "--man=no", unit],
                              capture_output=True, text=True, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})
        assert done.returncode == 0 and "micropod-restart" not in done.stderr, done
