# SPDX-License-Identifier: Apache-2.0
"""Programs that people run, from a distribution's packages."""
import pathlib
import shutil
import subprocess
import time

import pytest

from conftest import IMAGES
from ordinary import ROOT

SOFTWARE = f"oci:{IMAGES}/software:latest"
LONG = 300  # seconds: all of it is emulated

POSTGRES = r"""
set -e
PATH=/usr/lib/postgresql/15/bin:$PATH
if [ ! -e /data/db/PG_VERSION ]; then
    mkdir -p /data/db
    chown -R postgres /data
    su postgres -c "PATH=$PATH initdb -D /data/db -A trust -N" >/dev/null
    echo 'host all all 0.0.0.0/0 trust' >> /data/db/pg_hba.conf
fi
exec su postgres -c "PATH=$PATH exec postgres -D /data/db -h 0.0.0.0 -k /tmp"
"""


@pytest.mark.skipif(not ROOT, reason="an ordinary user's volumes know one owner, and PostgreSQL wants to be another")
def test_postgresql(micropod):
    """psql on this host, and data that survive the sandbox."""
    def sql(text):
        port = micropod.ok("port", "db", "5432/tcp").rsplit(":", 1)[1].strip()
        command = ["psql", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-At", "-c", text]
        deadline = time.monotonic() + LONG
        while (done := subprocess.run(command, capture_output=True, text=True)).returncode and time.monotonic() < deadline:
            time.sleep(1)
        assert done.returncode == 0, (done, micropod.ok("logs", "db"))
        return done.stdout

    words = ["run", "-d", "--name", "db", "-v", "pgdata:/data", "-p", "127.0.0.1:0:5432", SOFTWARE, "bash", "-c", POSTGRES]
    try:
        micropod.ok(*words)
        sql("create table t(i int); insert into t select generate_series(1, 1000)")
        micropod.ok("stop", "-t", "60", "db", timeout=LONG)
        micropod.ok("rm", "db")
        micropod.ok(*words)
        assert sql("select count(*), sum(i) from t") == "1000|500500\n"
    finally:
        micropod("rm", "-f", "db")
        micropod("volume", "rm", "pgdata")


def test_redis(micropod):
    out = micropod.ok("run", "--rm", SOFTWARE, "sh", "-c",
                      "redis-server --daemonize yes --save '' >/dev/null; until redis-cli ping >/dev/null 2>&1; do sleep 0.2; done; "
                      "redis-benchmark --csv -n 500 -c 5 -t set,get; redis-cli shutdown", timeout=LONG)
    lines = [line.split(",") for line in out.splitlines() if line.startswith('"')]
    assert [line[0] for line in lines] == ['"test"', '"SET"', '"GET"'] and all(float(line[1].strip('"')) > 10 for line in lines[1:])


def test_python_with_modules_of_others(micropod, tmp_path):
    """On a bind mount, as somebody has them in a project."""
    modules = pathlib.Path("/usr/lib/python3/dist-packages")
    for name in ("packaging", "pluggy", "iniconfig"):
        shutil.copytree(modules / name, tmp_path / "lib" / name)
    (tmp_path / "program.py").write_text("""
import iniconfig, json, packaging.version, pluggy
spec = pluggy.HookspecMarker("x")
print(json.dumps([str(max(map(packaging.version.Version, ["1.9", "1.10", "1.2"]))), iniconfig.IniConfig("x", "[a]\\nb=c")["a"]["b"], bool(spec)]))
open("/w/out", "w").write("done")
""")
    out = micropod.ok("run", "--rm", "-v", f"{tmp_path}:/w", "-e", "PYTHONPATH=/w/lib", SOFTWARE, "python3", "/w/program.py", timeout=LONG)
    assert out == '["1.10", "c", true]\n' and (tmp_path / "out").read_text() == "done"


def test_a_build_with_gcc(micropod, tmp_path):
    (tmp_path / "Makefile").write_text("all: program\nprogram: main.o part.o\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -O1 -Wall -Werror -c -o $@ $<\n")
    (tmp_path / "main.c").write_text('#include <stdio.h>\nint part(int);\nint main(void) { printf("%d\\n", part(20)); return 0; }\n')
    (tmp_path / "part.c").write_text("int part(int n) { return n < 2 ? n : part(n - 1) + part(n - 2); }\n")
    out = micropod.ok("run", "--rm", "-v", f"{tmp_path}:/w", "-w", "/w", SOFTWARE, "sh", "-c", "make -s -j2 && ./program", timeout=LONG)
    assert out == "6765\n"
    # What was built there runs here.
    assert subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True).stdout == "6765\n"


def test_strace_and_gdb(micropod):
    out = micropod.ok("run", "--rm", SOFTWARE, "sh", "-c", "strace -f -e trace=execve,exit_group sh -c 'true; exit 3' 2>&1 | tail -3; "
                      "gdb -q -batch -ex 'break _exit' -ex run -ex bt /bin/true 2>&1", timeout=LONG)
    assert "exit_group(3)" in out and "+++ exited with 3 +++" in out and "#0 " in out, out


def test_systemd(micropod):
    """As a container's command it wants to be privileged, and told to be one."""
    micropod.ok("run", "-d", "--name", "box", "--privileged", "--tmpfs", "/run:rw,mode=755", "-e", "container=docker", "--stop-signal", "RTMIN+3",
                SOFTWARE, "/sbin/init")
    deadline = time.monotonic() + LONG
    state = ""
    while state not in ("running", "degraded") and time.monotonic() < deadline:
        state = micropod("exec", "box", "systemctl", "is-system-running").stdout.decode().strip()
        time.sleep(1)
    assert state in ("running", "degraded"), micropod.ok("logs", "box")
    assert micropod.ok("exec", "box", "systemctl", "start", "redis-server") == ""
    assert micropod.ok("exec", "box", "systemctl", "is-active", "redis-server") == "active\n"
    micropod.ok("stop", "-t", "60", "box", timeout=LONG)
    assert micropod.inspect("box")["State"]["ExitCode"] in (0, 130)
