# SPDX-License-Identifier: Apache-2.0
"""The same with Podman in Docker's place: its service speaks the engine's API, too."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from conftest import IMAGES, Micropod
from test_restart import test_it_is_started_again  # noqa: F401
from test_run import test_attach_without_a_terminal, test_exec, test_exec_for_as_long_as_it_may, test_exit_codes  # noqa: F401
from test_run import test_files_last_until_removal, test_leaving_a_terminal_and_coming_back, test_life_of_a_detached_one  # noqa: F401
from test_run import test_output_of_one_that_ends_at_once, test_run_carries_bytes, test_run_for_as_long_as_it_may  # noqa: F401
from test_run import test_signals_go_through, test_terminal, until  # noqa: F401

# Where this runs limits may not be raised; runc, since crun refuses hosts with cgroups of both kinds.
CONFIG = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Podman:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="podman-"))
        self.host = f"unix://{self.folder}/sock"
        (self.folder / "config").write_text(CONFIG)
        self.env = {**os.environ, "CONTAINERS_CONF": str(self.folder / "config")}
        self.words = ["podman", "--root", self.folder / "root", "--runroot", self.folder / "run"]
        subprocess.run(["skopeo", "copy", "-q", f"oci:{IMAGES}/busybox:latest", f"oci-archive:{self.folder}/image.tar:docker.io/library/busybox:latest"], check=True)
        self("load", "-i", self.folder / "image.tar")
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen([*self.words, "system", "service", "--time=0", self.host], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: (self.folder / "sock").exists())

    def __call__(self, *words):
        done = subprocess.run([*self.words, *words], env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done
        return done.stdout

    def stop(self):
        self("rm", "-fa")
        self.process.kill()
        self.process.wait()
        self("system", "reset", "-f")
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def podman():
    if os.geteuid() != 0:
        pytest.skip("Podman as a service beside no other needs root here")
    podman = Podman()
    yield podman
    podman.stop()


@pytest.fixture(scope="module")
def micropod_root(podman):
    folder = tempfile.mkdtemp(prefix="micropod-e2e-")
    micropod = Micropod(folder, engine=podman)
    yield micropod
    micropod.close()
    assert podman("ps", "-aq") == ""
    shutil.rmtree(folder)


def test_places_and_networks(micropod, podman):
    for options in (["--agent-path", "/tmp/agent"], ["--read-only"], ["--tmpfs", "/tmp:noexec"], ["--network", "none"], ["--network", "host"], ["--network", "made"]):
        done = micropod("run", "--rm", *options, micropod.busybox, "echo", "hello")
        assert (done.returncode, done.stdout) == (0, b"hello\n"), (options, done)
    assert podman("network", "ls", "--format", "{{.Name}}").split() == ["podman"]
    error = micropod.error(micropod("run", "--rm", "--pull", "always", "localhost:1/nosuch", "true"))
    assert "the engine says: " in error
