# SPDX-License-Identifier: Apache-2.0
"""Who is measured: each has a name, start() and exec(), which take no arguments and return seconds, and close()."""
import json
import os
import pathlib
import resource
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

    def output(self, *words):
        return subprocess.run([self.program, *words], check=True, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout

    def start(self):
        return self.run("run", "--rm", "-q", *self.options, self.image, "true")

    def exec(self):
        if not self.box:
            self.box = self.output("run", "-d", "-q", *self.options, self.image, "sleep", "100000").strip()
            self.run("exec", self.box, "true")
        return self.run("exec", self.box, "true")

    def cp(self, source):
        """In and out again; the sandbox is the one that exec() has."""
        target = f"{source}.back"
        taken = self.run("cp", source, f"{self.box}:/tmp/in") + self.run("cp", f"{self.box}:/tmp/in", target)
        subprocess.run(["rm", "-r", target], check=True)
        self.run("exec", self.box, "rm", "-r", "/tmp/in")
        return taken

    def leave(self):
        """Nothing of it runs any more."""
        if self.box:
            self.run("rm", "-f", self.box)
        self.box = None

    close = leave


def unpack(image, folder):
    subprocess.run(["umoci", "unpack", "--image", f"{image}:latest", folder], check=True, capture_output=True)
    return pathlib.Path(folder)


class Runtime:
    """runc or crun alone, on an unpacked image: no image store, no network, no log."""

    def __init__(self, name, program, image, *options):
        self.name, self.program, self.options = name, program, options
        self.folder = tempfile.TemporaryDirectory(prefix="bench-runtime-")
        self.bundle = unpack(image, f"{self.folder.name}/bundle")
        spec = json.loads((self.bundle / "config.json").read_text())
        spec["process"].update(terminal=False, args=["true"])
        # Where v1 and v2 groups are mounted side by side runtimes refuse limits; there are none here.
        spec["linux"].pop("resources", None)
        (self.bundle / "config.json").write_text(json.dumps(spec))
        self.count = 0

    def command(self):
        self.count += 1
        return [self.program, "--root", f"{self.folder.name}/state", *self.options, "run", "--bundle", self.bundle, f"b{self.count}"]

    def start(self):
        return seconds(self.command())

    exec = None

    def close(self):
        self.folder.cleanup()


class Crun(Runtime):
    """It refuses hosts with v1 and v2 groups side by side: there it gets a mount namespace with v2 alone, entered by nsenter."""

    def __init__(self, name, program, image):
        super().__init__(name, program, image, "--cgroup-manager=disabled")
        self.space = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", "umount -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && echo && exec sleep 100000"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.space.stdout.readline()

    def command(self):
        return ["nsenter", "--mount", "--target", str(self.space.pid), *super().command()]

    def close(self):
        self.space.kill()
        self.space.wait()
        self.space.stdout.close()
        super().close()


class Engine:
    """docker and podman, in a network namespace of their own: words() goes before the verb."""

    def __init__(self, name):
        self.name = f"{name} (bridge)"
        self.folder = tempfile.TemporaryDirectory(prefix="bench-engine-")
        self.box = None
        self.space = f"bench-{name}-{os.getpid()}"
        subprocess.run(["ip", "netns", "add", self.space], check=True)
        subprocess.run(["ip", "-n", self.space, "link", "set", "lo", "up"], check=True)

    def leave(self):
        subprocess.run(["ip", "netns", "del", self.space], check=True)
        shutil.rmtree(self.folder.name, ignore_errors=True)

    def load(self, image):
        tree = unpack(image, f"{self.folder.name}/image")
        with subprocess.Popen(["tar", "-C", tree / "rootfs", "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run([*self.words(), "import", "-", "bench"], stdin=tar.stdout, check=True, capture_output=True)

    def start(self):
        return seconds([*self.words(), "run", "--rm", *self.limits(), "bench", "true"])

    def exec(self):
        if not self.box:
            self.box = subprocess.run([*self.words(), "run", "-d", *self.limits(), "bench", "sleep", "100000"], check=True,
                                      capture_output=True, text=True).stdout.strip()
        return seconds([*self.words(), "exec", self.box, "true"])

    def cp(self, source):
        target = f"{source}.back"
        taken = seconds([*self.words(), "cp", source, f"{self.box}:/tmp/in"]) + seconds([*self.words(), "cp", f"{self.box}:/tmp/in", target])
        subprocess.run(["rm", "-r", target], check=True)
        subprocess.run([*self.words(), "exec", self.box, "rm", "-r", "/tmp/in"], check=True)
        return taken

    def limits(self):
        return []

    def close(self):
        if self.box:
            subprocess.run([*self.words(), "kill", self.box], capture_output=True)
            subprocess.run([*self.words(), "rm", "-f", self.box], capture_output=True)


class Docker(Engine):
    """An engine of our own."""

    def __init__(self, image):
        super().__init__("docker")
        self.socket = f"unix://{self.folder.name}/sock"
        self.log = open(f"{self.folder.name}/log", "wb")
        self.engine = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.space}", "dockerd", "--data-root", f"{self.folder.name}/data", "--exec-root",
             f"{self.folder.name}/exec", "-H", self.socket, "-p", f"{self.folder.name}/pid"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        try:
            self.wait()
            self.load(image)
            self.start()
        except BaseException:
            self.close()
            raise

    def words(self):
        return ["docker", "-H", self.socket]

    def wait(self):
        deadline = time.monotonic() + 60
        while subprocess.run([*self.words(), "version"], capture_output=True).returncode != 0:
            if self.engine.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd does not start: {pathlib.Path(self.log.name).read_text()[-300:]}")
            time.sleep(0.2)

    def close(self):
        super().close()
        self.engine.send_signal(signal.SIGTERM)
        self.engine.wait(30)
        self.log.close()
        self.leave()


class Podman(Engine):
    """With a storage of its own."""

    def __init__(self, image):
        super().__init__("podman")
        try:
            self.load(image)
            self.start()
        except BaseException:
            self.close()
            raise

    def words(self):
        return ["nsenter", f"--net=/run/netns/{self.space}", "podman", "--root", f"{self.folder.name}/root", "--runroot",
                f"{self.folder.name}/run", "--cgroup-manager=cgroupfs", "--runtime=runc", "--events-backend=none"]

    def limits(self):
        """Its own are higher than what some hosts let root have."""
        return [f"--ulimit={word}={min(resource.getrlimit(which)[1], 1024)}"
                for word, which in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))]

    def close(self):
        super().close()
        subprocess.run(["umount", "-q", f"{self.folder.name}/root/overlay"], check=False)
        self.leave()


class FloorStart:
    name = "floor (bare QEMU, small kernel)"
    exec = None

    def __init__(self, floor):
        self.start, self.close = floor.start, floor.close


class Boot:
    """Bare QEMU until a kernel has started micropod's own initramfs: what a cold start cannot be quicker than."""
    exec = None

    def __init__(self, name, floor, kernel, initramfs):
        self.name, self.floor, self.kernel, self.initramfs = name, floor, kernel, initramfs

    def start(self):
        return self.floor.boot(self.kernel, self.initramfs)

    def close(self):
        pass
