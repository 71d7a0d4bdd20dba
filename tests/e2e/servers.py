# SPDX-License-Identifier: Apache-2.0
"""A server and runners of the tests' own."""
import os
import signal
import subprocess
import time

from conftest import BUILD, Micropod

PROGRAM = BUILD / "src/cli/micropod"


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, folder, prefix=(), address=None, url=None, extra=()):
        self.folder, self.data, self.prefix, self.extra = folder, folder / "data", list(prefix), list(extra)
        port = free_port()
        self.address = address or f"127.0.0.1:{port}"
        self.url = url or f"http://{self.address}"
        self.metrics = f"127.0.0.1:{free_port()}"
        self.log = folder / "server.log"
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("MICROPOD_S")}
        self.process = None
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, PROGRAM, "server", "--listen", self.address, "--data", self.data, "--metrics", f"tcp:{self.metrics}", *self.extra],
                stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, env=self.env)
        assert self.process.stdout.readline() == f"listening at {self.address}\n".encode(), self.log.read_text()

    def kill(self, sig=signal.SIGKILL):
        self.process.send_signal(sig)
        code = self.process.wait(timeout=20)
        self.process.stdout.close()
        return code

    def token(self, *words):
        done = subprocess.run([PROGRAM, "token", "create", "--data", self.data, *words], capture_output=True, text=True, env=self.env, timeout=20)
        assert done.returncode == 0, done
        return done.stdout.strip()

    def tokens(self, *words):
        return subprocess.run([PROGRAM, "token", *words[:1], "--data", self.data, *words[1:]], capture_output=True, text=True, env=self.env, timeout=20)

    def token_id(self, subject):
        (line,) = [line for line in self.tokens("ls").stdout.splitlines() if line.split()[2] == subject]
        return line.split()[0]


class Runner:
    def __init__(self, server, folder, name, root, prefix=(), env=None, url=None, extra=()):
        self.server, self.name, self.prefix, self.root, self.url, self.extra = server, name, list(prefix), root, url or server.url, list(extra)
        self.file = folder / f"{name}.token"
        self.file.write_text(server.token("--host", name) + "\n")
        self.log = folder / f"{name}.log"
        self.env = {**{key: value for key, value in os.environ.items() if not key.startswith("MICROPOD_S")}, **(env or {})}
        self.process = None
        self.start()

    def start(self, wait=True):
        before = self.log.read_text().count("runner info joined") if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, PROGRAM, "runner", "--server", self.url, "--token-file", self.file, "--name", self.name, "--root", self.root, *self.extra],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        if wait:
            self.joined(before + 1)

    def joined(self, times=1):
        deadline = time.monotonic() + 40
        while self.log.read_text().count("runner info joined") < times:
            assert time.monotonic() < deadline and self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def kill(self, sig=signal.SIGKILL):
        self.process.send_signal(sig)
        return self.process.wait(timeout=20)


class Remote:
    """The command line over a server; what a host keeps is a Micropod's."""

    def __init__(self, host: Micropod, server: Server, token):
        self.host = host
        self.env = {**host.env, "MICROPOD_SERVER": server.url, "MICROPOD_TOKEN": token}
        self.env.pop("MICROPOD_ROOT")
        self.program, self.vm, self.busybox = PROGRAM, host.vm, host.busybox

    __call__, ok, popen, error, inspect = Micropod.__call__, Micropod.ok, Micropod.popen, Micropod.error, Micropod.inspect
