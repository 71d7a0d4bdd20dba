# SPDX-License-Identifier: Apache-2.0
"""stats: what a sandbox uses, and what it costs the host."""
import json
import os
import pty
import re
import subprocess
import time

import pytest

from conftest import BUILD

MIB = 1 << 20
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 1000, "MB": 10 ** 6}


def size(text):
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]+)", text).groups()
    return float(number) * UNITS[unit]


def percent(text):
    return float(text.removesuffix("%"))


def stats(micropod, *words):
    rows = [json.loads(line) for line in micropod.ok("stats", "--no-stream", "--format", "json", *words).splitlines()]
    return {row["Name"]: row for row in rows}


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return int(re.search(r"\nPss:\s+(\d+) kB", file.read())[1]) << 10


def test_use_and_cost(micropod):
    micropod.ok("run", "-d", "--name", "busy", "-m", "300m", micropod.busybox, "sh", "-c", "while :; do :; done")
    micropod.ok("run", "-d", "--name", "idle", micropod.busybox, "sleep", "1000")
    rows = stats(micropod)
    assert set(rows) == {"busy", "idle"}
    assert 50 < percent(rows["busy"]["CPUPerc"]) < 130 and 50 < percent(rows["busy"]["HostCPUPerc"]) < 220
    assert percent(rows["idle"]["CPUPerc"]) < 20
    used, limit = rows["busy"]["MemUsage"].split(" / ")
    assert 0 < size(used) < 20 * MIB and size(limit) == 300 * MIB
    assert rows["idle"]["PIDs"] == "1" and rows["idle"]["ID"] == micropod.inspect("idle")["Id"][:12]
    # What it costs is what the kernel says of its processes.
    pids = re.findall(r'"(?:ShimPid|VMMPid|NetPid)": (\d+)', micropod.ok("inspect", "idle"))
    assert len(pids) == 3
    expected = sum(pss(pid) for pid in pids)
    assert abs(size(rows["idle"]["HostMem"]) - expected) < 0.25 * expected
    micropod.ok("rm", "-f", "busy", "idle")


@pytest.mark.parametrize("kernel", ["prepared", "cloud"])
def test_idle_ones_hardly_wake(micropod, kernel):
    """What wakes a guest for nothing, or its VMM, is paid by every sandbox that there is."""
    micropod.ok("run", "-d", "--name", "idle", *(["--kernel=cloud"] if kernel == "cloud" else []), micropod.busybox, "sleep", "1000")
    vmm = vmm_of(micropod, "idle")

    # It has done what starting left to do.
    time.sleep(3)
    before = cpu_seconds(vmm)
    time.sleep(6)
    assert cpu_seconds(vmm) - before < 0.02 * 6
    micropod.ok("rm", "-f", "idle")


def vmm_of(micropod, box):
    return micropod.inspect(box)["Micropod"]["VMMPid"]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        return sum(int(n) for n in file.read().rpartition(")")[2].split()[11:13]) / os.sysconf("SC_CLK_TCK")


def translated(micropod, box):
    """Bytes of code that QEMU keeps translated."""
    total, code = 0, False
    with open(f"/proc/{vmm_of(micropod, box)}/smaps") as file:
        for line in file:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                code = line.split()[1] == "rwxp"
            elif code and line.startswith("Rss:"):
                total += int(line.split()[1]) << 10
    return total


def emulated(micropod, box):
    return micropod.inspect(box)["Micropod"]["Accel"] == "tcg"


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_idle_ones_give_back_translated_code(micropod):
    """As often as one has worked and is idle again; and what it computes stays right."""
    script = "i=0; while read x; do seq 1 30000 | md5sum; done"
    want = subprocess.run("seq 1 30000 | md5sum", shell=True, capture_output=True, text=True, check=True).stdout
    box = micropod.popen("run", "-i", "--name", "box", micropod.busybox, "sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_for(lambda: micropod("exec", "box", "true").returncode == 0, 60)
    if not emulated(micropod, "box"):
        pytest.skip("needs an emulated VM")
    vmm = vmm_of(micropod, "box")
    for _ in range(3):
        # Two seconds of CPU time make it worth giving back (driver/trim.c), however quick the CPU is.
        before = cpu_seconds(vmm)
        while cpu_seconds(vmm) - before < 3:
            box.stdin.write(b"go\n")
            box.stdin.flush()
            assert box.stdout.readline().decode() == want
        worked = translated(micropod, "box")
        wait_for(lambda: translated(micropod, "box") < worked / 2, 20)
        assert micropod.ok("exec", "box", "echo", "fine") == "fine\n"
    box.stdin.close()
    assert box.wait(60) == 0
    micropod.ok("rm", "-f", "box")


@pytest.mark.parametrize("plugin", ["missing", "broken"])
def test_a_vmm_without_the_plugin_runs_all_the_same(micropod, tmp_path, plugin):
    programs = tmp_path / "libexec"
    programs.mkdir()
    for path in (BUILD / "src/shim/micropod-shim", BUILD / "src/net/micropod-net", BUILD / "guest/prepare-guest"):
        (programs / path.name).symlink_to(path)
    if plugin == "broken":
        (programs / "micropod-trim.so").write_text("no library")
        (programs / "micropod-trim.so").chmod(0o755)
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000", env={"MICROPOD_LIBEXEC": str(programs)})
    with open(f"/proc/{vmm_of(micropod, 'box')}/cmdline") as file:
        assert "-plugin" not in file.read().split("\0")
    assert micropod.ok("exec", "box", "echo", "fine") == "fine\n"
    assert ("does not load" in micropod.ok("logs", "--system", "box")) == (plugin == "broken" and emulated(micropod, "box"))
    micropod.ok("rm", "-f", "box")


def test_memory_of_the_workload_counts(micropod):
    """Measured once the translated code of the start has been given back, and once all of the workload's is in use."""
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000")

    def host():
        return size(stats(micropod, "box")["box"]["HostMem"])

    # The order to give it back comes within two seconds.
    before, since = host(), time.monotonic()
    while time.monotonic() - since < 3:
        if (now := host()) < before - MIB / 2:
            before, since = now, time.monotonic()
    holder = micropod.popen("exec", "box", "sh", "-c", "dd if=/dev/zero bs=100M count=1 2>/dev/null | (sleep 1000)")
    try:
        wait_for(lambda: size(stats(micropod, "box")["box"]["MemUsage"].split()[0]) > 90 * MIB, 20)
        wait_for(lambda: host() - before > 90 * MIB, 20)
    finally:
        micropod.ok("rm", "-f", "box")
        holder.wait(30)


def test_those_that_do_not_run(micropod):
    micropod.ok("create", "--name", "new", micropod.busybox, "true")
    assert stats(micropod) == {}
    assert stats(micropod, "-a")["new"]["HostMem"] == "--"
    assert stats(micropod, "new")["new"]["CPUPerc"] == "--"
    assert micropod.error(micropod("stats", "--no-stream", "nobody")) == "no such sandbox: nobody"


def test_table_is_drawn_again_and_again(micropod):
    micropod.ok("run", "-d", "--name", "box", micropod.busybox, "sleep", "1000")
    master, slave = pty.openpty()
    run = micropod.popen("stats", stdin=subprocess.DEVNULL, stdout=slave)
    os.close(slave)
    text = b""
    while text.count(b"\x1b[H\x1b[J") < 2:
        text += os.read(master, 4096)
    run.terminate()
    run.wait(10)
    os.close(master)
    assert text.count(b"CONTAINER ID   NAME   CPU %") >= 1 and b"box" in text
