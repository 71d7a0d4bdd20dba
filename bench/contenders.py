# SPDX-License-Identifier: Apache-2.0
"""Who is measured: each has a name, start() and exec(), which take no arguments and return seconds, and close()."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time


def seconds(words, **kwargs):
    before = time.monotonic()
    subprocess.run([str(word) for word in words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **kwargs)
    return time.monotonic() - before


class Micropod:
    """options: of run. The image is an OCI layout."""

    def __init__(self, name, build, root, image, *options):
        self.name, self.image, self.options = name, f"oci:{image}:latest", options
        self.program = pathlib.Path(build) / "src/cli/micropod"
        self.env = {**os.environ, "MICROPOD_ROOT": str(root)}
        self.box = None
        settings = [word for word in options if word != "--cold"]
        subprocess.run([self.program, "template", "build", "-q", *settings], check=True, env=self.env, stdout=subprocess.DEVNULL)
        self.start()

    def run(self, *words):
        return seconds([self.program, *words], env=self.env)

    def start(self):
        return self.run("run", "--rm", "-q", *self.options, self.image, "true")

    def exec(self):
        if not self.box:
            self.box = subprocess.run([self.program, "run", "-d", "-q", *self.options, self.image, "sleep", "100000"], check=True,
                                      env=self.env, capture_output=True, text=True).stdout.strip()
            self.run("exec", self.box, "true")
        return self.run("exec", self.box, "true")

    def close(self):
        if self.box:
            self.run("rm", "-f", self.box)


class Runtime:
    """runc or crun alone, on an unpacked image: no image store, no network, no log."""

    def __init__(self, name, program, image):
        self.name, self.program = name, program
        self.folder = tempfile.TemporaryDirectory(prefix=f"bench-{name}-")
        self.bundle = pathlib.Path(self.folder.name) / "bundle"
        subprocess.run(["umoci", "unpack", "--image", f"{image}:latest", self.bundle], check=True, capture_output=True)
        spec = json.loads((self.bundle / "config.json").read_text())
        spec["process"].update(terminal=False, args=["true"])
        # Where v1 and v2 groups are mounted side by side runtimes refuse limits; there are none here.
        spec["linux"].pop("resources", None)
        (self.bundle / "config.json").write_text(json.dumps(spec))
        self.count = 0

    def start(self):
        self.count += 1
        return seconds([self.program, "--root", f"{self.folder.name}/state", "run", "--bundle", self.bundle, f"b{self.count}"])

    exec = None

    def close(self):
        self.folder.cleanup()


class Docker:
    """An engine of our own in a network namespace of its own."""
    name = "docker (bridge)"

    def __init__(self, image):
        self.folder = tempfile.TemporaryDirectory(prefix="bench-docker-")
        self.space = f"bench-{os.getpid()}"
        self.box = None
        self.socket = f"unix://{self.folder.name}/sock"
        subprocess.run(["ip", "netns", "add", self.space], check=True)
        subprocess.run(["ip", "-n", self.space, "link", "set", "lo", "up"], check=True)
        self.log = open(f"{self.folder.name}/log", "wb")
        self.engine = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.space}", "dockerd", "--data-root", f"{self.folder.name}/data", "--exec-root",
             f"{self.folder.name}/exec", "-H", self.socket, "-p", f"{self.folder.name}/pid"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        try:
            self.wait()
            tree = pathlib.Path(self.folder.name) / "image"
            subprocess.run(["umoci", "unpack", "--image", f"{image}:latest", tree], check=True, capture_output=True)
            tar = subprocess.Popen(["tar", "-C", tree / "rootfs", "-c", "."], stdout=subprocess.PIPE)
            subprocess.run(["docker", "-H", self.socket, "import", "-", "bench"], stdin=tar.stdout, check=True, capture_output=True)
            tar.wait()
            self.start()
        except BaseException:
            self.close()
            raise

    def wait(self):
        deadline = time.monotonic() + 60
        while subprocess.run(["docker", "-H", self.socket, "version"], capture_output=True).returncode != 0:
            if self.engine.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd does not start: {pathlib.Path(self.log.name).read_text()[-300:]}")
            time.sleep(0.2)

    def start(self):
        return seconds(["docker", "-H", self.socket, "run", "--rm", "bench", "true"])

    def exec(self):
        if not self.box:
            self.box = subprocess.run(["docker", "-H", self.socket, "run", "-d", "bench", "sleep", "100000"], check=True,
                                      capture_output=True, text=True).stdout.strip()
        return seconds(["docker", "-H", self.socket, "exec", self.box, "true"])

    def close(self):
        if self.box:
            subprocess.run(["docker", "-H", self.socket, "rm", "-f", self.box], capture_output=True)
        self.engine.send_signal(signal.SIGTERM)
        self.engine.wait(30)
        self.log.close()
        subprocess.run(["ip", "netns", "del", self.space], check=True)
        shutil.rmtree(self.folder.name, ignore_errors=True)


class FloorStart:
    name = "floor (bare QEMU, small kernel)"
    exec = None

    def __init__(self, floor):
        self.start, self.close = floor.start, floor.close
