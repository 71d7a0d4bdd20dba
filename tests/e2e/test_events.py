# SPDX-License-Identifier: Apache-2.0
"""events: what happened, in order, also what was short; also with the other driver and over a server."""
import datetime
import json
import subprocess
import threading

from test_run import until

LIMIT = 4 << 20  # LIMIT_EVENTS_LOG


class Watch:
    """Reads along from now on, however long it takes to be there."""

    def __init__(self, micropod, *words):
        now = datetime.datetime.now(datetime.timezone.utc).isoformat()
        self.child = micropod.popen("events", "--since", now, *words, stdout=subprocess.PIPE)
        self.lines = []
        self.thread = threading.Thread(target=lambda: self.lines.extend(line.decode() for line in self.child.stdout))
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Not SIGINT, which is ignored by what a shell has started in the background.
        self.child.terminate()
        self.child.wait(timeout=20)
        self.thread.join()
        self.child.stdout.close()


def actions(lines):
    return [json.loads(line)["Action"] for line in lines]


def test_what_happens_is_told_as_it_happens(micropod):
    with Watch(micropod, "--format", "json", "--filter", "container=box", "--filter", "container=other") as watch:
        micropod("run", "--rm", "--name", "box", micropod.busybox, "sh", "-c", "exit 3")
        micropod.ok("run", "-d", "--name", "unseen", micropod.busybox, "true")
        until(lambda: micropod.inspect("unseen")["State"]["Status"] == "exited")
        micropod.ok("rm", "unseen")
        micropod.ok("run", "-d", "--name", "other", micropod.busybox, "sh", "-c", "trap : USR2; echo ready; while true; do sleep 0.1; done")
        until(lambda: micropod.ok("logs", "other") == "ready\n")
        micropod.ok("kill", "-s", "USR2", "other")
        micropod.ok("stop", "-t", "0", "other")
        micropod.ok("rm", "other")
        until(lambda: len(watch.lines) >= 10)
    lines = watch.lines
    events = [json.loads(line) for line in lines]
    assert [(e["Actor"]["Attributes"]["name"], e["Action"]) for e in events[:4]] == [("box", action) for action in ("create", "start", "die", "destroy")]
    assert events[2]["Actor"]["Attributes"]["exitCode"] == "3" and events[0]["Actor"]["Attributes"]["image"] and events[0]["Type"] == "container"
    rest = [e["Action"] for e in events[4:]]
    assert [a for a in rest if a != "die"] == ["create", "start", "kill", "stop", "destroy"] and rest.count("die") == 1
    assert events[6]["Actor"]["Attributes"]["signal"] == "12"
    assert all(e["timeNano"] // 10**9 == e["time"] for e in events) and [e["timeNano"] for e in events] == sorted(e["timeNano"] for e in events)


def test_the_past_and_filters(micropod):
    began = datetime.datetime.now(datetime.timezone.utc).isoformat()
    for name in ("one", "two"):
        micropod("run", "--rm", "--name", name, micropod.busybox, "true")
    past = ["--since", began, "--until", "0s"]
    text = micropod.ok("events", *past)
    assert text.count("container create ") == 2 and text.count("exitCode=0") == 2 and "name=two)" in text
    assert actions(micropod.ok("events", *past, "--format", "json", "-f", "container=two").splitlines()) == ["create", "start", "die", "destroy"]
    assert micropod.ok("events", *past, "-f", "event=die", "-f", "event=start", "-f", "container=one").count("\n") == 2
    assert micropod.ok("events", *past, "-f", "image=other") == "" and micropod.ok("events", *past, "-f", "type=network") == ""
    assert micropod.ok("events", "--until", "1h") == ""
    for word in ("nonsense", "colour=red", "containers=x", "=x"):
        assert f"option '--filter' is '{word}': give KEY=VALUE" in micropod.error(micropod("events", "-f", word))


def test_a_full_file_is_put_aside(micropod):
    """Readers read to its end and go on in the next one."""
    log = micropod.root / "events.log"
    old = micropod.root / "events.log.1"
    line = json.dumps({"Action": "old", "Type": "container", "Actor": {"ID": "x", "Attributes": {"name": "filler"}}, "timeNano": 2 * 10**9}) + "\n"
    log.write_text(line * (LIMIT // len(line) + 1))
    with Watch(micropod, "--format", "json") as watch:
        # Not of the old file's, which was written by another clock.
        micropod("run", "--rm", "--name", "box", micropod.busybox, "true")
        until(lambda: len(watch.lines) == 4)
    lines = watch.lines
    assert actions(lines) == ["create", "start", "die", "destroy"]
    assert log.stat().st_size < 4000 and old.stat().st_size > LIMIT
    assert micropod.ok("events", "--since", "1", "--until", "0s").count(" old x") == LIMIT // len(line) + 1
    # Who reads along and goes does no harm, and a broken line none either.
    with open(log, "a", encoding="ascii") as file:
        file.write('{"Action": "cut\n[]\n\n')
    assert micropod.ok("events", "--since", "1h", "--until", "0s").count("\n") == 4
    old.unlink()
