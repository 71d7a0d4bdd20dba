# SPDX-License-Identifier: Apache-2.0
"""Sandboxes in real VMs: a root of its own for each test module, the prepared guest and the test images shared, and
after each test a count of everything that belongs to the root: nothing may be left."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MICROPOD_BUILD", TOP / "build"))
GUEST = pathlib.Path(os.environ.get("MICROPOD_TEST_GUEST", BUILD / "test-guest"))
IMAGES = pathlib.Path(os.environ.get("MICROPOD_TEST_IMAGES", BUILD / "test-images"))
ACCEL = os.environ.get("MICROPOD_TEST_ACCEL", "auto")
BOOT = 120  # seconds: an emulated guest on a busy host


class Micropod:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.root = self.folder / "root"
        self.env = {**os.environ, "MICROPOD_ROOT": str(self.root), "MICROPOD_ACCEL": ACCEL, "XDG_CONFIG_HOME": str(self.folder / "config")}
        self.env.pop("MICROPOD_LOG", None)
        self.program = BUILD / "src/cli/micropod"
        self.ok("ps")
        (self.root / "guest").symlink_to(GUEST / "guest")
        (self.root / "cache/notice").write_text("")
        self.busybox = f"oci:{IMAGES}/busybox:latest"
        # Says the notice on KVM once, here.
        self.ok("run", "--rm", self.busybox, "true")

    def __call__(self, *words, env=None, **kwargs):
        kwargs.setdefault("timeout", BOOT)
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([self.program, *words], env={**self.env, **(env or {})}, capture_output=True, **kwargs)

    def ok(self, *words, **kwargs):
        done = self(*words, **kwargs)
        assert done.returncode == 0, done
        return done.stdout.decode()

    def popen(self, *words, **kwargs):
        return subprocess.Popen([self.program, *words], env=self.env, **kwargs)

    def inspect(self, box):
        return json.loads(self.ok("inspect", box))[0]

    def error(self, done, code=125):
        """The last line of a failure; a guest's console may stand above it."""
        assert done.returncode == code, done
        return done.stderr.decode().splitlines()[-1].removeprefix("micropod: ")

    def processes(self):
        """Everything that runs with this root in its arguments or open files."""
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if int(folder.name) == os.getpid():
                    continue
                command = (folder / "cmdline").read_bytes()
                links = [os.readlink(link) for link in (folder / "fd").iterdir()]
            except OSError:
                continue
            if os.fsencode(self.root) in command or any(link.startswith(str(self.root)) for link in links):
                found.append(f"{folder.name}: {command.replace(bytes(1), b' ').decode(errors='replace')[:200]}")
        return found

    def leaks(self):
        left = self.processes()
        left += [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if str(self.root) in line]
        left += [f"sandboxes/{name}" for name in os.listdir(self.root / "sandboxes")]
        left += [f"names/{name}" for name in os.listdir(self.root / "names") if name != ".lock"]
        left += [f"images/tmp/{name}" for name in os.listdir(self.root / "images/tmp")]
        doctor = [json.loads(line) for line in self("doctor", "--format", "json").stdout.decode().splitlines()]
        run = next(row["Detail"] for row in doctor if row["ID"] == "run-folder").split("'")[1]
        left += [f"{run}/{name}" for name in os.listdir(run)]
        return left

    def clean(self):
        ids = self.ok("ps", "-aq").split()
        if ids:
            self.ok("rm", "-f", *ids)
        self.ok("prune", "-f")


@pytest.fixture(scope="module")
def micropod_root():
    folder = tempfile.mkdtemp(prefix="micropod-e2e-")
    micropod = Micropod(folder)
    yield micropod
    shutil.rmtree(folder)


@pytest.fixture
def micropod(micropod_root):
    yield micropod_root
    micropod_root.clean()
    deadline = time.monotonic() + 10
    while (left := micropod_root.leaks()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, left
