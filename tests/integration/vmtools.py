# SPDX-License-Identifier: Apache-2.0
"""Driving build/tests/tools/vm-run from tests: one VM, its events as lines, its session as lines."""
import contextlib
import json
import os
import pathlib
import queue
import select
import shutil
import subprocess
import tempfile
import threading
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MICROPOD_BUILD", SOURCE / "build"))
TOOLS = BUILD / "tests" / "tools"
USER = 1000  # the ordinary user that tests become when they run as root


@contextlib.contextmanager
def open_folder():
    """A temporary folder that every user can enter: pytest's own are closed to others, and by any run at any time again."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="micropod-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def as_user(argv):
    """The command line as an ordinary user without groups; unchanged where we are one."""
    if os.geteuid() != 0:
        return [str(a) for a in argv]
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"] + [str(a) for a in argv]


def prepare_guest(folder):
    """The distribution's kernel and an initramfs with vm-guest as its init: (kernel, initramfs), readable by all."""
    files = folder / "files"
    files.mkdir()
    shutil.copy(TOOLS / "vm-guest", files / "agent")
    shutil.copy("/bin/true", files / "crun")
    # The kernel is downloaded once; the initramfs is made anew whenever vm-guest has changed.
    root = BUILD / "vm-guest-root"
    subprocess.run([SOURCE / "scripts" / "prepare-guest.sh", "--files", files, root], check=True)
    current = json.loads((root / "guest" / "current.json").read_text())
    out = []
    for key in ("kernel", "initramfs"):
        target = folder / key
        shutil.copy(current[key], target)
        target.chmod(0o644)
        out.append(target)
    return out


class Lines:
    """Lines of a pipe, read by a thread so that waiting has a deadline."""

    def __init__(self, pipe):
        self.all = []
        self.queue = queue.Queue()
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe):
        for line in pipe:
            self.queue.put(line.decode(errors="replace").rstrip("\n"))
        self.queue.put(None)

    def wait(self, *prefixes, timeout=60):
        """The next line that starts with one of the prefixes; others are passed over (all are kept in .all)."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self.queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"no line with {prefixes} came; these did: {self.all[-40:]}")
            self.all.append(line)
            if line.startswith(prefixes):
                return line


class Vm:
    def __init__(self, kernel, initramfs, *args, user=False, wrap=(), **popen):
        argv = [TOOLS / "vm-run", "--kernel", kernel, "--initramfs", initramfs, *args]
        argv = as_user(argv) if user else [str(a) for a in argv]
        self.process = subprocess.Popen([*wrap, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **popen)
        self.lines = Lines(self.process.stdout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def wait(self, *prefixes, timeout=60):
        return self.lines.wait(*prefixes, timeout=timeout)

    def pid(self):
        return int(self.wait("pid ").split()[1])

    def greeted(self):
        line = self.wait("greeted ", "error ", "exited ")
        assert line.startswith("greeted "), f"{line}: {self.lines.all[-40:]}"
        return float(line.split()[1])

    def send(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, line, timeout=60):
        self.send(line)
        answer = self.wait("session ", "error ", "exited ", timeout=timeout)
        assert answer.startswith("session "), f"{answer}: {self.lines.all[-40:]}"
        return answer[len("session "):].strip()


def gone(pid, timeout=10):
    """Whether the process has ended by the deadline."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], timeout)[0])
    finally:
        os.close(fd)
