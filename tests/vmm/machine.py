# SPDX-License-Identifier: Apache-2.0
"""The VM behind a VMM's API in tests: a real guest, under emulation, by the tests' own vm-run."""
import os
import pathlib
import subprocess
import sys
import threading

BUILD = pathlib.Path(os.environ.get("MICROPOD_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build"))


class Machine:
    """What the guest writes to its console goes to stdout; ended() is called when it is over."""

    def __init__(self, kernel, cmdline, memory_mib, cpus, disks, vsock, initramfs=None, ended=lambda: None):
        # QEMU's microvm has no keyboard controller, and the kernel would look for it for a second.
        cmdline = cmdline.replace("reboot=k", "reboot=t")
        words = [BUILD / "tests/tools/vm-run", "--unconfined", "--memory", f"{memory_mib}m", "--cpus", str(cpus), "--kernel", kernel, "--cmdline", cmdline,
                 "--vsock", vsock]
        if initramfs:
            words += ["--initramfs", initramfs]
        for i, (path, read_only, *serial) in enumerate(disks):
            words += ["--disk", f"{path}:{serial[0] if serial else f'd{i}'}{':ro' if read_only else ''}"]
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace")
        threading.Thread(target=self.read, args=(ended,), daemon=True).start()

    def read(self, ended):
        for line in self.process.stdout:
            tag, _, text = line.rstrip("\n").partition(" ")
            if tag == "console":
                print(text, flush=True)
            elif tag in ("error", "exited"):
                print(f"machine: {line.rstrip()}", file=sys.stderr, flush=True)
        self.process.wait()
        ended()
