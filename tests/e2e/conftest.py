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

from leaks import Leaks

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MICROPOD_BUILD", TOP / "build"))
GUEST = pathlib.Path(os.environ.get("MICROPOD_TEST_GUEST", BUILD / "test-guest"))
IMAGES = pathlib.Path(os.environ.get("MICROPOD_TEST_IMAGES", BUILD / "test-images"))
ACCEL = os.environ.get("MICROPOD_TEST_ACCEL", "auto")
BOOT = 120  # seconds: an emulated guest on a busy host


class Micropod:
    open = []  # whose roots are counted after each test

    def __init__(self, folder, root=None, guest=GUEST, engine=None):
        self.folder = pathlib.Path(folder)
        self.root = pathlib.Path(root or self.folder / "root")
        self.env = {**os.environ, "MICROPOD_ROOT": str(self.root), "MICROPOD_ACCEL": ACCEL, "XDG_CONFIG_HOME": str(self.folder / "config")}
        self.env.pop("MICROPOD_LOG", None)
        self.program = BUILD / "src/cli/micropod"
        self.ok("ps")
        self.vm = not engine
        if engine:
            self.env.update(MICROPOD_DRIVER="docker", DOCKER_HOST=engine.host)
            self.busybox = "busybox"
        else:
            self.prepare(guest)
        self.leaks = Leaks(self.root, self.env)
        Micropod.open.append(self)

    def prepare(self, guest):
        # Kernel, guest and the templates made from them are shared: a start here goes on from a template.
        (guest / "templates").mkdir(mode=0o700, exist_ok=True)
        (guest / "cache").mkdir(mode=0o700, exist_ok=True)
        (self.root / "guest").symlink_to(guest / "guest")
        (self.root / "templates").symlink_to(guest / "templates")
        (self.root / "cache/tsc").symlink_to(guest / "cache/tsc")
        (self.root / "cache/notice").write_text("")
        self.busybox = f"oci:{IMAGES}/busybox:latest"
        # Says the notice on KVM once, here.
        self.ok("run", "--rm", self.busybox, "true")

    def close(self):
        Micropod.open.remove(self)

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
        return list(self.leaks.processes().values())

    def clean(self):
        ids = self.ok("ps", "-aq").split()
        if ids:
            self.ok("rm", "-f", *ids)
        pods = self.ok("pod", "ls", "-q").split() if self.vm else []
        if pods:
            self.ok("pod", "rm", "-f", *pods)
        self.ok("prune", "-f")

    def empty(self):
        """Removes everything; what files there were is remembered."""
        for _ in self.leaks.files():
            pass
        self.clean()

    def count(self):
        """Counts what is left of it: killed processes need a moment to be gone."""
        deadline = time.monotonic() + 15
        while (left := self.leaks.count()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, left

    def settle(self):
        self.empty()
        self.count()


@pytest.fixture(autouse=True)
def nothing_left():
    """After each test, whichever roots it used: rm -f and prune leave nothing. All are emptied before one is counted: a file
    of one may have the inode that a removed one of another had."""
    yield
    for micropod in list(Micropod.open):
        micropod.empty()
    for micropod in list(Micropod.open):
        micropod.count()


@pytest.fixture(scope="session")
def engine():
    """Imported here: it needs what this module says."""
    from engine import Engine
    if os.geteuid() != 0:
        pytest.skip("a Docker Engine of one's own needs root")
    engine = Engine()
    engine.load("busybox")
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def docker_root(engine):
    folder = tempfile.mkdtemp(prefix="micropod-e2e-")
    micropod = Micropod(folder, engine=engine)
    yield micropod
    micropod.close()
    assert engine.containers() == []
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def micropod_root():
    folder = tempfile.mkdtemp(prefix="micropod-e2e-")
    micropod = Micropod(folder)
    yield micropod
    micropod.close()
    shutil.rmtree(folder)


@pytest.fixture
def micropod(micropod_root):
    return micropod_root
