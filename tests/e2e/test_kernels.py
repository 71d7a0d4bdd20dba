# SPDX-License-Identifier: Apache-2.0
"""What must be the same under either kernel, whether a VM boots or goes on from a template. All other tests run with the
kernel that is the usual one."""
import json
import os
import pathlib
import re
import subprocess
import time

import pytest
from conftest import GUEST, IMAGES
from test_run import until

KINDS = ("cloud", "small")
DEBIAN = f"oci:{IMAGES}/debian:latest"


def version(kind):
    return json.loads((pathlib.Path(GUEST) / f"guest/{kind}.json").read_text())["version"]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_kernel_is_the_one_asked_for(micropod, kind):
    for way in ([], ["--cold"]):
        assert micropod.ok("run", "--rm", *way, "--kernel", kind, micropod.busybox, "uname", "-r").strip() == version(kind)
    # By the environment and by the file of settings too.
    assert micropod("run", "--rm", micropod.busybox, "uname", "-r", env={"MICROPOD_KERNEL": kind}).stdout.decode().strip() == version(kind)
    settings = pathlib.Path(micropod.env["XDG_CONFIG_HOME"]) / "micropod/micropod.yaml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(f"kernel: {kind}\n")
    try:
        assert micropod.ok("run", "--rm", micropod.busybox, "uname", "-r").strip() == version(kind)
    finally:
        settings.unlink()
    assert "nosuch" in micropod.error(micropod("run", "--rm", "--kernel", "nosuch", micropod.busybox, "true"))


def test_clocks_on_every_way_to_start(micropod):
    """Within 1 % of the host's over 10 s. Each is asked over one exec, so that a question takes no longer than a line there
    and back; the quickest of a few counts."""
    script = "$|=1; while (<STDIN>) { printf qq{%.6f %.6f\\n}, clock_gettime(CLOCK_MONOTONIC), clock_gettime(CLOCK_REALTIME) }"
    clocks = {}
    for name in KINDS:
        for way in ("template", "cold"):
            box = f"{name}-{way}"
            micropod.ok("run", "-d", "--name", box, "--kernel", name, *(["--cold"] if way == "cold" else []), DEBIAN, "sleep", "1000")
            clocks[box] = micropod.popen("exec", "-i", box, "perl", "-MTime::HiRes=:DEFAULT,clock_gettime,CLOCK_MONOTONIC,CLOCK_REALTIME",
                                         "-e", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def ask(child):
        tries = []
        for _ in range(10):
            before = time.monotonic()
            child.stdin.write(b"\n")
            guest = [float(word) for word in child.stdout.readline().split()]
            after = time.monotonic()
            tries.append((after - before, (before + after) / 2, time.time() - (after - before) / 2, *guest))
        return min(tries)[1:]

    first = {box: ask(child) for box, child in clocks.items()}
    time.sleep(10)
    second = {box: ask(child) for box, child in clocks.items()}
    for box, child in clocks.items():
        child.stdin.close()
        assert child.wait(20) == 0
        host, host_real, mono, real = (b - a for a, b in zip(first[box], second[box]))
        assert abs(first[box][3] - first[box][1]) < 2, box
        assert abs(mono / host - 1) < 0.01 and abs(real / host_real - 1) < 0.01, (box, mono / host, real / host_real)


def test_life_of_a_container(micropod, kind):
    script = "trap 'echo bye; exit 9' TERM; echo begun; while :; do sleep 0.2; done"
    micropod.ok("run", "-d", "--name", "box", "--kernel", kind, "-m", "200m", "--cpus", "1", DEBIAN, "bash", "-c", script)
    until(lambda: micropod.ok("logs", "box") == "begun\n")
    data = os.urandom(1 << 20)
    assert micropod("exec", "-i", "box", "sh", "-c", "cat > /kept; sync; cat /kept", input=data).stdout == data
    facts = micropod.ok("exec", "box", "sh", "-c", "nproc; cat /sys/fs/cgroup/memory.max; grep -E 'Seccomp:|CapEff' /proc/self/status; stat -f -c %T /")
    assert facts.split() == ["1", str(200 << 20), "CapEff:", "00000000a80425fb", "Seccomp:", "2", "overlayfs"]
    assert micropod("exec", "box", "perl", "-e", "my @x; push @x, 'a' x 1_000_000 while 1").returncode == 137
    # Device rules are BPF programs of the cgroup.
    assert micropod("exec", "box", "sh", "-c", "mknod /d b 254 0 && cat /d").returncode != 0
    assert micropod.ok("exec", "box", "sh", "-c", "cat /proc/net/if_inet6 | grep -c lo").strip() == "1"
    micropod.ok("stop", "box")
    assert micropod.inspect("box")["State"]["ExitCode"] == 9
    micropod.ok("start", "box")
    assert micropod("exec", "box", "cat", "/kept").stdout == data


def test_published_port(micropod, kind):
    micropod.ok("run", "-d", "--name", "web", "--kernel", kind, "-p", "127.0.0.1:0:80", f"oci:{IMAGES}/nginx:latest")
    ports = micropod.inspect("web")["NetworkSettings"]["Ports"]
    port = int(re.search(r"'HostPort': '(\d+)'", str(ports))[1])
    until(lambda: subprocess.run(["curl", "-sf", "-m", "2", f"http://127.0.0.1:{port}/"], capture_output=True).stdout[:15] != b"")


def test_runtimes(micropod, kind):
    for runtime in ("crun", "runc"):
        out = micropod.ok("run", "--rm", "--kernel", kind, "--runtime", runtime, micropod.busybox, "sh", "-c", "id -u; echo $0")
        assert out == "0\nsh\n"
