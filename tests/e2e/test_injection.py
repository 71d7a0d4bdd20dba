# SPDX-License-Identifier: Apache-2.0
"""An agent put into a container, phase by phase, as somebody who has an engine and an agent's binary would try it. With an engine of the
tests' own; or alone, with those that are named:

    E2E_TEST=true AGENT_BINARY_PATH=bin/agent CODEPOD_DOCKER_HOST=unix:///var/run/docker.sock pytest tests/e2e/test_injection.py
"""
import json
import os
import pathlib
import shutil
import tempfile

import pytest

from conftest import BUILD, Micropod
from engine import Engine
from test_run import until

ALONE = os.environ.get("E2E_TEST") == "true"
BINARY = pathlib.Path(os.environ.get("AGENT_BINARY_PATH") or BUILD / "guest/agent").resolve()
IMAGE = "micropod-injection-test"


class Given(Engine):
    """One that is there already: nothing of it is started or stopped."""

    def __init__(self):  # pylint: disable=super-init-not-called
        self.host = os.environ["CODEPOD_DOCKER_HOST"]


@pytest.fixture(scope="module")
def place(request):
    """The engine, with an image of the tests'."""
    given = ALONE and os.environ.get("CODEPOD_DOCKER_HOST")
    engine = Given() if given else request.getfixturevalue("engine")
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        (tree / "bin").mkdir()
        shutil.copy("/bin/busybox", tree / "bin/busybox")
        for applet in ("sh", "sleep", "echo", "env", "cat", "ps"):
            (tree / "bin" / applet).symlink_to("busybox")
        engine.make(IMAGE, tree, 'ENTRYPOINT ["/bin/sh", "-c", "trap \'echo bye; exit 3\' TERM; echo hello; while true; do sleep 0.05; done"]')
    yield engine
    engine.ok("rmi", "-f", IMAGE)


@pytest.fixture
def box(place):
    folder = tempfile.mkdtemp(prefix="micropod-e2e-")
    micropod = Micropod(folder, engine=place)
    micropod.ok("run", "-d", "--name", "micropod-injected", "--agent-binary", BINARY, "--agent-path", "/tmp/agent", IMAGE)
    yield micropod
    micropod.ok("rm", "-f", "micropod-injected")
    micropod.close()
    shutil.rmtree(folder)


def test_three_phases(place, box, tmp_path):
    inspected = json.loads(place.ok("inspect", "micropod-injected"))[0]
    # Copied: the very binary, where it is said to be, for all to execute.
    place.ok("cp", "micropod-injected:/tmp/agent", tmp_path / "agent")
    assert (tmp_path / "agent").read_bytes() == BINARY.read_bytes() and (tmp_path / "agent").stat().st_mode & 0o777 == 0o755
    # Taken over: it is what the engine runs, and the image's own command is its child.
    assert inspected["Config"]["Entrypoint"][:3] == ["/tmp/agent", "start", "--"] and inspected["Config"]["Entrypoint"][3:5] == ["/bin/sh", "-c"]
    assert box.ok("exec", "micropod-injected", "sh", "-c", "echo $PPID") in ("1\n", "0\n")
    until(lambda: place.ok("logs", "micropod-injected") == "hello\n")
    # Dialled out: it answers, and what it was told stays with it.
    assert box.ok("exec", "micropod-injected", "echo", "through the tunnel") == "through the tunnel\n"
    token = next(word for word in inspected["Config"]["Env"] if word.startswith("AGENT_TOKEN=")).partition("=")[2]
    assert token not in box.ok("exec", "micropod-injected", "sh", "-c", "env; cat /proc/1/environ 2>/dev/null; true")
    assert inspected["NetworkSettings"]["Ports"] in ({}, None)
    # The engine's own verbs reach the image's command.
    place.ok("stop", "micropod-injected")
    assert place.ok("logs", "micropod-injected") == "hello\nbye\n"
    assert box.ok("wait", "micropod-injected") == "3\n"


def test_a_binary_that_is_none(place, box, tmp_path):
    (tmp_path / "script").write_text("#!/bin/sh\n")
    error = box.error(box("run", "-d", "--name", "micropod-refused", "--agent-binary", tmp_path / "script", IMAGE))
    assert "is no program of Linux" in error
    assert "micropod-refused" not in place.ok("ps", "-a")
