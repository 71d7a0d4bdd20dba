# SPDX-License-Identifier: Apache-2.0
"""Counts what belongs to one root: processes, mounts, sockets, files, locks, memory.

A process belongs to it if its arguments, environment, working folder, open files, mapped files or mounts name the root
or its run folder (QEMU has none of the first: its mount namespace gives it away), or if a process that does is its
ancestor. In a mount namespace of its own an open file counts by inode, whatever it is called there.
"""
import os
import pathlib
import re
import stat


def read(path):
    try:
        return pathlib.Path(path).read_bytes()
    except OSError:
        return b""


def link(path):
    try:
        return os.fsencode(os.readlink(path))
    except OSError:
        return b""


def fnv(text):
    value = 0xcbf29ce484222325
    for byte in text:
        value = (value ^ byte) * 0x100000001b3 % 2**64
    return value


def run_folder(root, env):
    """As src/sandbox/root.c has it."""
    name = f"{fnv(os.fsencode(os.path.realpath(root))):016x}"
    xdg = env.get("XDG_RUNTIME_DIR", "")
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return pathlib.Path(f"/run/micropod-{name}")
    if xdg.startswith("/") and os.path.isdir(xdg) and os.stat(xdg).st_uid == os.geteuid() and len(xdg) < 64:
        return pathlib.Path(xdg, f"micropod-{name}")
    return pathlib.Path(f"/tmp/micropod-{os.geteuid()}/{name}")


def taps():
    """The ends of bridges (net/bridge.c); a bridge itself lives as long as its network."""
    return {name for name in os.listdir("/sys/class/net") if re.fullmatch("mp[0-9a-f]{8}", name)}


class Leaks:
    # What a root keeps: images are the user's until rmi, the rest is small and of a known number.
    KEPT = re.compile(r"names/\.lock|cache/(notice|trim\.json|tsc(\.lock)?|scratch-\d+-\d+\.img|empty\.img)")

    def __init__(self, root, env):
        self.root = os.path.realpath(root)
        self.run = run_folder(root, env)
        # The last two names alone are what mountinfo has where the file system is mounted higher up.
        self.marks = (os.fsencode(self.root), os.fsencode(self.run), os.fsencode("/".join(self.root.split("/")[-2:])))
        self.inodes = set()  # of every file ever seen below the root or the run folder

    def ours(self, text):
        return any(mark in text for mark in self.marks)

    def files(self):
        """Paths below the root, and their inodes remembered."""
        for top in (self.root, str(self.run)):
            for folder, folders, names in os.walk(top):
                for name in folders + names:
                    path = os.path.join(folder, name)
                    try:
                        info = os.lstat(path)
                    except OSError:
                        continue
                    if stat.S_ISREG(info.st_mode):
                        self.inodes.add((info.st_dev, info.st_ino))
                    yield path

    def open_files(self, folder):
        for name in os.listdir(folder / "fd"):
            yield folder / "fd" / name

    def names_root(self, folder):
        if self.ours(read(folder / "cmdline")) or self.ours(read(folder / "environ")):
            return True
        if any(self.ours(link(folder / name)) for name in ("cwd", "root", "exe")):
            return True
        if self.ours(read(folder / "maps")):
            return True
        same_space = link(folder / "ns/mnt") == link("/proc/self/ns/mnt")
        for path in self.open_files(folder):
            if self.ours(link(path)):
                return True
            # Where names are ours an inode tells nothing more: another's new file may have got that of a removed one.
            if same_space:
                continue
            try:
                info = os.stat(path)
            except OSError:
                continue
            if (info.st_dev, info.st_ino) in self.inodes:
                return True
        return False

    def processes(self):
        """pid -> command line, without this process and those that it comes from."""
        own, seen, marked, parents, spaces = set(), {}, set(), {}, {}
        pid = os.getpid()
        while pid > 1:
            own.add(pid)
            pid = int(read(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()[1])
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            pid = int(folder.name)
            if pid in own:
                continue
            try:
                status = read(folder / "stat").rsplit(b")", 1)[1].split()
                space = link(folder / "ns/mnt")
                if space not in spaces:
                    # Its mounts count unless they are this process' own, which everybody shares.
                    spaces[space] = space != link("/proc/self/ns/mnt") and any(
                        self.ours(line) and not self.mounted_by_test(line) for line in read(folder / "mountinfo").splitlines())
                command = read(folder / "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
                seen[pid] = f"{pid} {status[0].decode()} {command[:160] or read(folder / 'comm').decode().strip()}"
                parents[pid] = int(status[1])
                if status[0] != b"Z" and (spaces[space] or self.names_root(folder)):
                    marked.add(pid)
            except (OSError, IndexError):
                continue
        changed = True
        while changed:
            more = {pid for pid, parent in parents.items() if parent in marked and pid not in marked}
            marked |= more
            changed = bool(more)
        return {pid: seen[pid] for pid in marked}

    def spaces(self, kind):
        """One process folder for each namespace of a kind."""
        found = {}
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            found.setdefault(link(folder / "ns" / kind), folder)
        found.pop(b"", None)
        return found.values()

    def mounts(self):
        return [line.decode(errors="replace") for folder in self.spaces("mnt")
                for line in read(folder / "mountinfo").splitlines() if self.ours(line) and not self.mounted_by_test(line)]

    def mounted_by_test(self, line):
        """A root that is a file system of its own, its source named after it."""
        return line.split()[4] == self.marks[0]

    def sockets(self):
        return [line.decode(errors="replace") for folder in self.spaces("net")
                for line in read(folder / "net/unix").splitlines() if self.ours(line)]

    def locks(self):
        found = []
        for line in read("/proc/locks").decode().splitlines():
            hit = re.search(r"([0-9a-f]+):([0-9a-f]+):(\d+) ", line)
            if hit and (os.makedev(int(hit[1], 16), int(hit[2], 16)), int(hit[3])) in self.inodes:
                found.append(line)
        return found

    def loops(self):
        return [str(path) for path in pathlib.Path("/sys/block").glob("loop*/loop/backing_file") if self.ours(read(path))]

    def memory(self):
        """Host memory files outlive nobody but by a name in /dev/shm, or in the hands of a process."""
        found = [f"/dev/shm/{name}" for name in os.listdir("/dev/shm") if name.startswith(("micropod", "qemu"))]
        for pid in self.processes():
            try:
                found += [f"{pid}: {target.decode()}" for path in self.open_files(pathlib.Path(f"/proc/{pid}"))
                          if (target := link(path)).startswith((b"/memfd:", b"/dev/shm/"))]
            except OSError:
                continue
        return found

    def left_files(self):
        found = []
        for path in self.files():
            name = os.path.relpath(path, self.root)
            if not name.startswith(("sandboxes/", "names/", "cache/", "images/tmp/", "../")) or self.KEPT.fullmatch(name):
                continue
            found.append(path)
        return found

    def count(self):
        """Kind -> what is left, only the kinds of which something is left."""
        left = {"files": self.left_files(), "processes": list(self.processes().values()), "mounts": self.mounts(),
                "sockets": self.sockets(), "locks": self.locks(), "loop devices": self.loops(), "memory": self.memory(),
                "network devices": sorted(taps()),
                "run folder": [str(self.run)] if self.run.exists() else []}
        return {kind: things for kind, things in left.items() if things}
