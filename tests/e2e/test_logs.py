# SPDX-License-Identifier: Apache-2.0
"""The container's log: cut by size, followed across the cuts, or not kept at all."""
import subprocess

COUNT = "i=0; while [ $i -lt {n} ]; do i=$((i+1)); echo line number $i; done"


def files(micropod, box="box"):
    folder = micropod.root / "sandboxes" / micropod.inspect(box)["Id"]
    return {path.name: path.stat().st_size for path in folder.glob("container.log*")}


def numbers(text):
    return [int(line.split()[2]) for line in text.splitlines()]


def test_it_is_cut_and_the_oldest_goes(micropod):
    micropod.ok("run", "--name", "box", "--log-opt", "max-size=4k", "--log-opt", "max-file=3", micropod.busybox, "sh", "-c", COUNT.format(n=600))
    sizes = files(micropod)
    assert set(sizes) == {"container.log", "container.log.1", "container.log.2"} and max(sizes.values()) <= 4096
    kept = numbers(micropod.ok("logs", "box"))
    assert kept == list(range(kept[0], 601)) and 100 < len(kept) < 300
    assert numbers(micropod.ok("logs", "-n", "70", "box")) == list(range(531, 601))  # more than the newest file has
    assert micropod.inspect("box")["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "4096", "max-file": "3"}}
    micropod.ok("start", "box")
    micropod("wait", "box")
    assert numbers(micropod.ok("logs", "box"))[-1] == 600 and len(files(micropod)) == 3


def test_one_file_begins_anew(micropod):
    micropod.ok("run", "--name", "box", "--log-opt", "max-size=4k", "--log-opt", "max-file=1", micropod.busybox, "sh", "-c", COUNT.format(n=300))
    assert set(files(micropod)) == {"container.log"} and max(files(micropod).values()) <= 4096
    kept = numbers(micropod.ok("logs", "box"))
    assert kept == list(range(kept[0], 301))


def test_who_follows_misses_nothing(micropod):
    slow = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo line number $i; [ $((i % 20)) = 0 ] && sleep 0.1; done"
    micropod.ok("run", "-d", "--name", "box", "--log-opt", "max-size=4k", "--log-opt", "max-file=20", micropod.busybox, "sh", "-c", slow)
    follower = micropod.popen("logs", "-f", "box", stdout=subprocess.PIPE)
    out, _ = follower.communicate(timeout=60)
    assert numbers(out.decode()) == list(range(1, 401))
    assert len(files(micropod)) > 3


def test_the_usual_size(micropod):
    """LIMIT_CONTAINER_LOG of five files; up to LIMIT_LOG_FILES can be asked for."""
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sh", "-c", f"yes {'0123456789' * 7} | head -c 24000000")
    micropod("wait", "box", timeout=120)
    assert len(files(micropod)) == 2 and max(files(micropod).values()) <= 20 << 20
    assert micropod.inspect("box")["HostConfig"]["LogConfig"]["Config"] == {"max-size": str(20 << 20), "max-file": "5"}
    micropod.ok("create", "--name", "many", "--log-opt", "max-file=100", micropod.busybox, "true")


def test_none(micropod):
    assert micropod.ok("run", "--name", "box", "--log-driver", "none", micropod.busybox, "echo", "hello") == "hello\n"
    assert micropod.error(micropod("logs", "box")) == "sandbox 'box' keeps no log: it was made with --log-driver none"
    assert files(micropod) == {}


def test_oom_score(micropod):
    for way in ([], ["--runtime", "crun"]):
        assert micropod.ok("run", "--rm", *way, "--oom-score-adj", "321", micropod.busybox, "cat", "/proc/self/oom_score_adj") == "321\n"


def test_wrong_input(micropod):
    for words, error in ((("--log-opt", "max-size=1"), "option '--log-opt' is 'max-size=1': give max-size=SIZE, of 4k or more, or max-file=N, of 1 to 100"),
                         (("--log-opt", "max-file=101"), "option '--log-opt' is 'max-file=101': give max-size=SIZE, of 4k or more, or max-file=N, of 1 to 100"),
                         (("--log-driver", "syslog"), "option '--log-driver' is 'syslog': give one of json-file, local, none"),
                         (("--oom-score-adj", "1001"), "option '--oom-score-adj' is '1001': give -1000 to 1000")):
        assert micropod.error(micropod("run", *words, micropod.busybox)) == error
