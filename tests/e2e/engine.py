# SPDX-License-Identifier: Apache-2.0
"""A Docker Engine of the tests' own: its socket, its data and its network namespace are nobody else's."""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from conftest import IMAGES

READY = 60  # seconds


class NoEngine(Exception):
    pass


def run(*words, **kwargs):
    return subprocess.run(words, capture_output=True, text=True, timeout=120, **kwargs)


class Engine:
    made = 0

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="engine-"))
        self.host = f"unix://{self.folder}/docker.sock"
        Engine.made += 1
        self.network = f"engine-{os.getpid()}-{Engine.made}"
        self.process = None
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.stop()
            raise

    def prepare(self):
        done = run("ip", "netns", "add", self.network)
        if done.returncode:
            raise NoEngine(f"no network namespace: {done.stderr.strip()}")
        run("ip", "-n", self.network, "link", "set", "lo", "up")

    def start(self):
        """nsenter and not `ip netns exec`, which hides the cgroups below /sys."""
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.network}", "dockerd", "--data-root", self.folder / "data", "--exec-root",
                 self.folder / "exec", "--pidfile", self.folder / "pid", "-H", self.host, "--storage-driver", os.environ.get("ENGINE_STORAGE", "overlay2")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + READY
        while self("version").returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise NoEngine((self.folder / "log").read_text(errors="replace").strip().splitlines()[-1][-300:])
            time.sleep(0.1)

    def __call__(self, *words, **kwargs):
        return run("docker", "-H", self.host, *words, **kwargs)

    def ok(self, *words, **kwargs):
        done = self(*words, **kwargs)
        assert done.returncode == 0, done
        return done.stdout

    def load(self, name):
        """One of the test images."""
        done = run("skopeo", "copy", "-q", "--dest-daemon-host", self.host, f"oci:{IMAGES}/{name}:latest", f"docker-daemon:{name}:latest")
        assert done.returncode == 0, done

    def make(self, name, tree, *changes):
        """An image out of a folder."""
        tar = subprocess.Popen(["tar", "-C", tree, "-c", "."], stdout=subprocess.PIPE)
        words = [word for change in changes for word in ("--change", change)]
        done = subprocess.run(["docker", "-H", self.host, "import", *words, "-", name], stdin=tar.stdout, capture_output=True, timeout=120)
        assert tar.wait() == 0 and done.returncode == 0, done

    def containers(self):
        return self.ok("ps", "-aq").split()

    def end(self):
        """The daemon, which ends its containers."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def stop(self):
        self.end()
        for line in reversed(pathlib.Path("/proc/self/mountinfo").read_text().splitlines()):
            place = line.split()[4]
            if place.startswith(str(self.folder)):
                run("umount", "-l", place)
        with contextlib.suppress(FileNotFoundError):
            run("ip", "netns", "del", self.network)
        shutil.rmtree(self.folder, ignore_errors=True)
