# SPDX-License-Identifier: Apache-2.0
"""How long a sandbox may be: lifetime, idle time, extend; some also with the other driver and over a server (test_docker_same.py, test_server_same.py)."""
import datetime
import time

from test_run import until

WORKLOAD = ("sh", "-c", "trap 'exit 9' TERM; echo ready; while true; do sleep 0.05; done")


def status(micropod, box):
    return micropod.inspect(box)["State"]["Status"]


def ended(micropod, box, seconds=20):
    until(lambda: status(micropod, box) == "exited", seconds)
    return micropod.inspect(box)["State"]


def start(micropod, *options):
    micropod.ok("run", "-d", "--name", "box", *options, micropod.busybox, *WORKLOAD)
    until(lambda: "ready" in micropod.ok("logs", "box"))


def deadline(micropod):
    return datetime.datetime.fromisoformat(micropod.inspect("box")["State"]["Deadline"].rstrip("Z")[:26]).timestamp()


def test_a_lifetime_ends_and_is_extended(micropod):
    start(micropod, "--lifetime", "4s")
    first = deadline(micropod)
    micropod.ok("extend", "-t", "1s", "box")
    assert deadline(micropod) == first, "an end is not moved to an earlier time"
    micropod.ok("extend", "-t", "6s", "box")
    assert deadline(micropod) > first + 1
    time.sleep(4.5)
    assert status(micropod, "box") == "running"
    state = ended(micropod, "box")
    assert (state["ExitCode"], state["StoppedBy"]) == (9, "lifetime")
    assert "is not running" in micropod.error(micropod("extend", "box"))
    # A new start has its own.
    micropod.ok("start", "box")
    assert deadline(micropod) > first and micropod.inspect("box")["State"]["StoppedBy"] == ""
    micropod.ok("extend", "--time", "0", "box")
    assert micropod.inspect("box")["State"]["Deadline"] == ""
    time.sleep(5)
    assert status(micropod, "box") == "running"


def test_who_uses_it_is_nobody_idle(micropod):
    start(micropod, "--idle-timeout", "3s")
    child = micropod.popen("exec", "box", "sleep", "5")
    time.sleep(4.5)
    assert child.poll() is None and status(micropod, "box") == "running"
    assert child.wait(timeout=20) == 0
    # Asking for more time is a use; looking at it is none.
    time.sleep(2)
    micropod.ok("extend", "box")
    time.sleep(2)
    assert status(micropod, "box") == "running"
    for _ in range(3):
        micropod.ok("stats", "--no-stream", "box")
    state = ended(micropod, "box")
    assert (state["ExitCode"], state["StoppedBy"]) == (9, "idle")


def test_removed_at_the_limit(micropod):
    start(micropod, "--idle-timeout", "1s", "--at-limit", "remove")
    until(lambda: micropod.ok("ps", "-aq") == "")


def test_wrong_words(micropod):
    start(micropod)
    assert "has no limit" in micropod.error(micropod("extend", "box"))
    # LIMIT_LIFETIME
    assert "ten years" in micropod.error(micropod("run", "--lifetime", "87601h", micropod.busybox, "true"))
    assert "give one of stop, remove" in micropod.error(micropod("run", "--at-limit", "explode", micropod.busybox, "true"))
    assert "no such sandbox" in micropod.error(micropod("extend", "nosuch"))
