# SPDX-License-Identifier: Apache-2.0
"""The agent for arm64, under an emulator that the kernel starts for its file (binfmt_misc), by the tests of the other one: as an
injected agent, which is what it is for. Programs that it starts are this machine's own. Left out are tests of a container runtime,
whose filters of system calls would be for the emulated machine, and one that looks into the emulator's memory."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
from agent_fixture import BUILD, TOP

AGENT = BUILD / "agents/agent-arm64"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
NAME = f"micropod-test-{os.getpid()}"
HEAD = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="an emulator is registered with the kernel by root"),
              pytest.mark.skipif(not AGENT.exists(), reason="the agent for arm64 was not built (make agents)")]


@pytest.fixture(scope="module")
def emulator():
    program = subprocess.run([TOP / "scripts/test-emulator.sh"], check=True, capture_output=True, text=True).stdout.strip()
    mounted = not (BINFMT / "register").exists()
    if mounted:
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=True)
    # F: opened now, so that it is there in any root; the newest that fits is the one that is used.
    (BINFMT / "register").write_text(f":{NAME}:M::{HEAD}:{MASK}:{program}:OCF")
    yield
    (BINFMT / NAME).write_text("-1")
    if mounted:
        subprocess.run(["umount", BINFMT], check=True)


def test_it_is_static_and_for_arm64(emulator):
    header = subprocess.run(["readelf", "-hlW", AGENT], check=True, capture_output=True, text=True).stdout
    assert "AArch64" in header and "INTERP" not in header
    done = subprocess.run([AGENT, "start", "--", "sh", "-c", "echo fine; exit 3"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "fine\n", "")


@pytest.mark.parametrize("file,left_out", [("test_takeover.py", ""), ("test_agent_forward.py", ""),
                                           ("test_tunnel.py", "not secrets_are_nowhere and not was_paused")])
def test_the_same_tests(emulator, file, left_out):
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-ra", "-k", left_out, Path(__file__).parent / file],
                          env={**os.environ, "MICROPOD_AGENT": str(AGENT)}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and " passed" in done.stdout and " skipped" not in done.stdout, done.stdout + done.stderr
