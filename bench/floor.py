# SPDX-License-Identifier: Apache-2.0
"""What a start would take without micropod: bare QEMU from a saved VM, the least guest, a disk, an overlay, one program.

Nothing of micropod's is in it: no agent, no gRPC, no network process, no confinement, no state. It uses the same kernel.
"""
import json
import pathlib
import socket
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
DISK = 8 << 30


class Qmp:
    def __init__(self, sock):
        self.file = sock.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, name, **arguments):
        self.file.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "error" in answer:
                raise RuntimeError(f"{name}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def ignore_shared(self):
        self("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])


class Floor:
    """kernel: one with everything built in."""

    def __init__(self, kernel, tsc_khz):
        self.folder = tempfile.TemporaryDirectory(prefix="floor-")
        self.work = pathlib.Path(self.folder.name)
        self.kernel, self.tsc_khz = kernel, tsc_khz
        root = self.work / "initramfs"
        (root / "dev").mkdir(parents=True)
        subprocess.run(["gcc", "-Os", "-static", "-s", "-D_GNU_SOURCE", "-o", root / "init", HERE / "floor-guest.c"], check=True)
        subprocess.run("find . | cpio --quiet -o -H newc > ../initramfs.cpio", shell=True, cwd=root, check=True)
        tree = self.work / "image"
        (tree / "bin").mkdir(parents=True)
        subprocess.run(["cp", "/bin/busybox", tree / "bin/true"], check=True)
        for name, options in (("disk", ["-d", tree]), ("empty", [])):
            subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", *options, self.work / name, "64M"], check=True,
                           stdout=subprocess.DEVNULL)
            with open(self.work / name, "r+b") as file:
                file.truncate(DISK)
        for name in ("ram", "other"):
            with open(self.work / name, "wb") as file:
                file.truncate(256 << 20)
        self.cold_seconds = self.save()

    def close(self):
        self.folder.cleanup()

    def boot(self, kernel, initramfs):
        """Seconds from exec to the first word of micropod's own init."""
        before = time.monotonic()
        vm, port, control = self.spawn("on", "empty", kernel=kernel, initramfs=initramfs, more_line="micropod.trace", memory="other")
        while b"micropod-trace" not in (line := vm.stdout.readline()):
            if not line:
                raise RuntimeError("the kernel does not come to init")
        seconds = time.monotonic() - before
        self.end(vm, port, control)
        return seconds

    def spawn(self, share, disk, *more, kernel=None, initramfs=None, more_line="", memory="ram"):
        ours, theirs = zip(*(socket.socketpair() for _ in range(2)))
        line = (f"console=ttyS0 quiet reboot=t panic=-1 cryptomgr.notests no_timer_check tsc=reliable mitigations=off "
                f"tsc_early_khz={self.tsc_khz} {more_line}")
        vm = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=64", "-cpu", "Nehalem,-spec-ctrl,+arat", "-nodefaults",
             "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", "-global", "virtio-mmio.force-legacy=false",
             "-M", "microvm,isa-serial=on,rtc=on,acpi=on,memory-backend=ram", "-m", "256", "-smp", "1",
             "-object", f"memory-backend-file,id=ram,size=256M,mem-path={self.work}/{memory},share={share}",
             "-kernel", kernel or self.kernel, "-initrd", initramfs or f"{self.work}/initramfs.cpio", "-append", line,
             "-chardev", f"socket,id=port,fd={theirs[0].fileno()}", "-device", "virtio-serial-device",
             "-device", "virtserialport,chardev=port,name=floor",
             "-chardev", f"socket,id=qmp,fd={theirs[1].fileno()}", "-mon", "chardev=qmp,mode=control",
             "-drive", f"file={self.work}/{disk},if=none,id=disk,format=raw,readonly=on", "-device", "virtio-blk-device,drive=disk",
             *more], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pass_fds=[one.fileno() for one in theirs])
        for one in theirs:
            one.close()
        return vm, ours[0], ours[1]

    def save(self):
        """Boots, saves; returns the seconds from exec to init."""
        before = time.monotonic()
        vm, port, control = self.spawn("on", "empty")
        for line in vm.stdout:
            if b"READY" in line:
                break
        seconds = time.monotonic() - before
        qmp = Qmp(control)
        qmp.ignore_shared()
        qmp("migrate", uri=f"exec:cat > {self.work}/state")
        while qmp("query-migrate").get("status") != "completed":
            time.sleep(0.01)
        self.end(vm, port, control)
        return seconds

    @staticmethod
    def end(vm, *sockets):
        vm.kill()
        vm.wait()
        vm.stdout.close()
        for sock in sockets:
            sock.close()

    def start(self):
        """Seconds from exec to the program's exit status."""
        before = time.monotonic()
        vm, port, control = self.spawn("off", "disk", "-incoming", "defer")
        port.sendall(b"RUN\n")
        qmp = Qmp(control)
        qmp.ignore_shared()
        qmp("migrate-incoming", uri=f"exec:cat {self.work}/state")
        port.settimeout(30)
        answer = b""
        while b"\n" not in answer:
            answer += port.recv(64)
        seconds = time.monotonic() - before
        self.end(vm, port, control)
        if answer != b"EXIT 0\n":
            raise RuntimeError(f"the floor's guest said {answer!r}")
        return seconds
