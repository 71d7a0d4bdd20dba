# SPDX-License-Identifier: Apache-2.0
"""Sandboxes that exist, changed and looked at: pause, update, rename, top, port, ps with filters and templates."""
import json
import time

import pytest

from test_run import until

COUNTER = "trap 'exit 7' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"


def written(micropod, box):
    return len(micropod.ok("logs", box).splitlines())


def test_standing_still(micropod):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", COUNTER)
    until(lambda: written(micropod, "box") > 2)
    assert micropod.ok("pause", "box") == "box\n"
    assert micropod.inspect("box")["State"]["Status"] == "paused" and micropod.inspect("box")["State"]["Paused"]
    assert "(Paused)" in micropod.ok("ps", "--filter", "name=box") and "running" not in micropod.ok("ps", "--filter", "status=paused", "--format", "{{.State}}")
    time.sleep(0.5)
    before = written(micropod, "box")
    time.sleep(1)
    assert written(micropod, "box") == before
    assert "is paused: let it go on first" in micropod.error(micropod("exec", "box", "true"))
    assert "is paused already" in micropod.error(micropod("pause", "box"))
    micropod.ok("unpause", "box")
    until(lambda: written(micropod, "box") > before)
    assert micropod.ok("exec", "box", "echo", "again") == "again\n"
    assert "is not paused" in micropod.error(micropod("unpause", "box"))
    # Stopping lets it go on, so that it can act on the signal.
    micropod.ok("pause", "box")
    micropod.ok("stop", "box")
    assert micropod.ok("wait", "box") == "7\n" and not micropod.inspect("box")["State"]["Paused"]
    assert "is not running" in micropod.error(micropod("pause", "box"))
    actions = [json.loads(line)["Action"] for line in micropod.ok("events", "--since", "5m", "--until", "0s", "--format", "json", "--filter", "container=box").splitlines()]
    assert actions.count("pause") == 2 and actions.count("unpause") == 2
    # Killed while it stands still.
    micropod.ok("start", "box")
    micropod.ok("pause", "box")
    micropod.ok("kill", "box")
    assert micropod.ok("wait", "box") == "137\n"


def test_other_limits(micropod):
    micropod.ok("run", "-d", "--name", "box", "-m", "256m", micropod.busybox, "sh", "-c", COUNTER)
    assert micropod.ok("update", "-m", "128m", "--pids-limit", "20", "--cpus", "0.5", "box") == "box\n"
    host = micropod.inspect("box")["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["NanoCpus"]) == (128 << 20, 20, 500000000)
    if micropod.vm:
        group = micropod.ok("exec", "box", "cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/cpu.max")
        assert group == f"{128 << 20}\n20\n50000 100000\n"
        assert "stop it first to give it more" in micropod.error(micropod("update", "-m", "8g", "box"))
        assert micropod.inspect("box")["HostConfig"]["Memory"] == 128 << 20
    assert "an't fork" in micropod("exec", "box", "sh", "-c", "for i in $(seq 40); do sleep 5 & done").stderr.decode()
    micropod.ok("update", "--restart", "on-failure:3", "box")
    assert micropod.inspect("box")["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    micropod.ok("update", "--restart", "no", "box")
    micropod.ok("stop", "box")
    if not micropod.vm:
        assert "are changed while it runs" in micropod.error(micropod("update", "-m", "64m", "box"))
    else:
        # For the next start; and then as large as it wants.
        micropod.ok("update", "-m", "512m", "--pids-limit", "-1", "--cpus", "1", "--cpuset-cpus", "0", "box")
        micropod.ok("start", "box")
        assert micropod.ok("exec", "box", "cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/cpuset.cpus") == f"{512 << 20}\nmax\n0\n"


@pytest.mark.parametrize("options,words", [(["-m", "1k"], "memory"), (["--pids-limit", "x"], "give a number"), (["--restart", "sometimes"], "give no"),
                                           (["--cpuset-cpus", "7"], "CPU 7")], ids=lambda value: value[0] if isinstance(value, list) else None)
def test_limits_that_cannot_be(micropod, options, words):
    micropod.ok("create", "--name", "box", micropod.busybox, "true")
    before = micropod.inspect("box")["HostConfig"]
    assert words in micropod.error(micropod("update", *options, "box"))
    assert micropod.inspect("box")["HostConfig"] == before


def test_another_name(micropod):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", COUNTER)
    micropod.ok("create", "--name", "other", micropod.busybox, "true")
    assert "taken" in micropod.error(micropod("rename", "box", "other"))
    assert "is no name" in micropod.error(micropod("rename", "box", "a/b"))
    micropod.ok("rename", "box", "more")
    assert micropod.ok("exec", "more", "echo", "here") == "here\n"
    assert "no such sandbox" in micropod.error(micropod("exec", "box", "true"))
    micropod.ok("rename", "other", "box")
    assert micropod.inspect("box")["State"]["Status"] == "created"
    micropod.ok("stop", "more")
    micropod.ok("start", "more")
    assert sorted(micropod.ok("ps", "-a", "--format", "{{.Names}}").split()) == ["box", "more"]
    assert "rename" in micropod.ok("events", "--since", "5m", "--until", "0s", "--filter", "event=rename")


def test_processes(micropod):
    micropod.ok("run", "-d", "--name", "box", "-u", "7", micropod.busybox, "sh", "-c", "sleep 1001 & exec sleep 1002")
    micropod.ok("exec", "-d", "box", "sh", "-c", "sleep 1003; : '\x1b[31m'")
    until(lambda: micropod.ok("top", "box").count("1003") == 2)
    rows = micropod.ok("top", "box").splitlines()
    assert rows[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    commands = {row.split(None, 7)[7]: row.split() for row in rows[1:]}
    assert {"sleep 1001", "sleep 1002"} <= set(commands) and "\x1b" not in "".join(commands)
    assert commands["sleep 1001"][0] == "7" and commands["sleep 1001"][2] == commands["sleep 1002"][1]
    assert len(rows) == 5
    assert {json.loads(line)["UID"] for line in micropod.ok("top", "--format", "json", "box").splitlines()} == {"7"}
    micropod.ok("stop", "-t", "0", "box")
    assert "is not running" in micropod.error(micropod("top", "box"))


def test_more_processes_than_are_listed(micropod):
    """LIMIT_TASKS of them, each with LIMIT_TASK_ARGS of its command line."""
    if not micropod.vm:
        return
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", "i=0; while [ $i -lt 1050 ]; do sleep 1000 & i=$((i+1)); done; exec sleep 1000 " + "0" * 9000)
    until(lambda: "there are more processes than 1024" in micropod("top", "box").stderr.decode(), 60)
    rows = micropod.ok("top", "box").splitlines()
    assert len(rows) == 1025 and 4000 < max(map(len, rows)) < 4200


def test_ports(micropod):
    micropod.ok("run", "-d", "--name", "box", "-p", "127.0.0.1::80", "-p", "127.0.0.1::53/udp", micropod.busybox, "sleep", "1000")
    one, two = sorted(micropod.ok("port", "box").splitlines())
    assert one.startswith("53/udp -> 127.0.0.1:") and two.startswith("80/tcp -> 127.0.0.1:")
    assert micropod.ok("port", "box", "80") == micropod.ok("port", "box", "80/tcp") == two.removeprefix("80/tcp -> ") + "\n"
    assert "no public port for 81/tcp" in micropod.error(micropod("port", "box", "81"))
    assert "is no port" in micropod.error(micropod("port", "box", "http"))


def test_which_are_listed(micropod):
    micropod.ok("create", "--name", "red-one", "--label", "colour=red", micropod.busybox, "true")
    micropod.ok("run", "--name", "blue-one", "--label", "colour=blue", "--label", "big", "--network", "none", micropod.busybox, "true")
    assert micropod("run", "--name", "blue-two", "--label", "colour=blue", micropod.busybox, "false").returncode == 1

    def names(*filters):
        words = [word for one in filters for word in ("--filter", one)]
        return set(micropod.ok("ps", "-a", *words, "--format", "{{.Names}}").split())

    assert names() == {"red-one", "blue-one", "blue-two"}
    assert names("label=colour=blue") == {"blue-one", "blue-two"} and names("label=big") == {"blue-one"} and names("label=col") == set()
    assert names("name=one") == {"red-one", "blue-one"} and names("name=one", "label=colour=blue") == {"blue-one"}
    assert names("status=created", "status=exited") == names() and names("status=running") == set()
    assert names("exited=1") == {"blue-two"} and names("network=none") == {"blue-one"}
    assert names(f"id={micropod.inspect('red-one')['Id'][:8]}") == {"red-one"} and names(f"ancestor={micropod.inspect('red-one')['Image']}") == names()
    # Without -a too, since nothing else could be meant.
    assert micropod.ok("ps", "-q", "--filter", "exited=0").strip() == micropod.inspect("blue-one")["Id"][:12]
    for wrong in ("colour=red", "name", "status=well", "exited=x"):
        assert "option '--filter'" in micropod.error(micropod("ps", "--filter", wrong))


def test_templates(micropod):
    micropod.ok("create", "--name", "box", "--label", "a.b=c", "-e", "X=1", micropod.busybox, "true")
    assert micropod.ok("inspect", "-f", "{{.State.Status}} {{.Name}} {{.State.Running}} {{.State.ExitCode}}", "box") == "created box false 0\n"
    assert micropod.ok("inspect", "-f", '{{index .Config.Labels "a.b"}}\\t{{json .Config.Cmd}}{{.Config.Cmd}}', "box") == 'c\t["true"][true]\n'
    assert json.loads(micropod.ok("inspect", "-f", "{{json .}}", "box"))["Name"] == "box"
    assert micropod.ok("ps", "-a", "--format", "table {{.Names}}\\t{{.Status}}").split() == ["NAMES", "STATUS", "box", "Created"]
    assert micropod.ok("ps", "-aq", "--format", "{{.Names}}").strip() == micropod.inspect("box")["Id"][:12]
    for wrong, words in (("{{.Nothing}}", "there is no '.Nothing'"), ("{{range .}}", "is not understood"), ("{{.Name", "is not closed"), ("{{json .X}}", "no '.X'")):
        assert words in micropod.error(micropod("inspect", "-f", wrong, "box"))
        assert words in micropod.error(micropod("ps", "-a", "--format", wrong))
