# SPDX-License-Identifier: Apache-2.0
"""MICROPOD_TRACE: where the time of a start goes."""
import re
import xml.etree.ElementTree as tree

LINE = re.compile(r"^ *(\d+\.\d) +(\d+\.\d)  (cli|shim|agent) +(\S.*)$", re.M)


def traced(micropod, value, *words):
    run = micropod("run", "--rm", "-q", micropod.busybox, *words, env={"MICROPOD_TRACE": value})
    return run, [(float(at), float(step), who, what) for at, step, who, what in LINE.findall(run.stderr.decode())]


def test_steps_of_a_start_in_order(micropod):
    run, steps = traced(micropod, "1", "sh", "-c", "echo out; exit 3")
    assert run.returncode == 3 and run.stdout == b"out\n"
    times = [at for at, *_ in steps]
    assert times == sorted(times)
    names = [what for *_, what in steps]
    for earlier, later in zip(*(2 * [["begin", "image found", "sandbox made", "shim begins", "VMM forked", "agent greeted",
                                      "request read", "root entered", "user found", "rights dropped", "program started",
                                      "program has ended", "VM is gone", "end"]][i:] for i in range(2))):
        assert names.index(earlier) < names.index(later), (earlier, later)
    assert "disks mounted" in names
    assert {who for _, _, who, _ in steps} == {"cli", "shim", "agent"}


def test_a_picture_with_a_bar_for_each_step(micropod, tmp_path):
    picture = tmp_path / "start.svg"
    run, steps = traced(micropod, str(picture), "true")
    assert run.returncode == 0
    bars = tree.parse(picture).getroot().findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == len(steps) - 1


def test_off_and_wrong_values(micropod):
    run = micropod("run", "--rm", "-q", micropod.busybox, "true", env={"MICROPOD_TRACE": ""})
    assert run.returncode == 0 and run.stderr == b""
    run = micropod("version", env={"MICROPOD_TRACE": "yes"})
    assert run.returncode == 125 and run.stderr.startswith(b"micropod: variable MICROPOD_TRACE is 'yes': give 1, or")


def test_workloads_do_not_see_the_trace(micropod):
    run, _ = traced(micropod, "1", "env")
    assert b"TRACE" not in run.stdout


def test_container_is_made_before_it_is_asked_for(micropod):
    """From a template its disks are mounted already when the request comes; one that is too large for that (LIMIT_STAGE_REQUEST) is
    made anew."""
    _, steps = traced(micropod, "1", "true")
    names = [what for *_, what in steps]
    assert names.index("disks mounted") < names.index("first process has the request")
    run = micropod("run", "--rm", "-q", "-e", "BIG=" + 70000 * "x", micropod.busybox, "sh", "-c", "echo ${#BIG}",
                   env={"MICROPOD_TRACE": "1"})
    assert run.returncode == 0 and run.stdout == b"70000\n"
    names = [what for *_, what in LINE.findall(run.stderr.decode())]
    assert names.index("first process has the request") < names.index("disks mounted")
