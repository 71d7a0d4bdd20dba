# SPDX-License-Identifier: Apache-2.0
"""Making OCI layouts by hand, good and hostile, a registry on loopback, and looking into disks."""
import contextlib
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import tarfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MICROPOD_BUILD", SOURCE / "build"))
TOOL = BUILD / "tests" / "tools" / "image-tool"
TIME = 1700000000

LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layer:
    """A tar archive in the making."""

    def __init__(self, fmt=tarfile.PAX_FORMAT):
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w", format=fmt, encoding="utf-8", errors="surrogateescape")

    def add(self, name, kind=tarfile.REGTYPE, data=b"", mode=0o644, uid=0, gid=0, mtime=TIME, link="", dev=(0, 0), xattrs=None):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.uid, info.gid, info.mtime, info.linkname = kind, mode, uid, gid, mtime, link
        info.devmajor, info.devminor = dev
        info.size = len(data)
        if xattrs:
            info.pax_headers = {f"SCHILY.xattr.{k}": os.fsdecode(v) for k, v in xattrs.items()}
        self.tar.addfile(info, io.BytesIO(data))
        return self

    def file(self, name, data=b"", mode=0o644, **more):
        return self.add(name, data=data, mode=mode, **more)

    def dir(self, name, mode=0o755, **more):
        return self.add(name, tarfile.DIRTYPE, mode=mode, **more)

    def symlink(self, name, target, **more):
        return self.add(name, tarfile.SYMTYPE, link=target, mode=0o777, **more)

    def hardlink(self, name, target, **more):
        return self.add(name, tarfile.LNKTYPE, link=target, **more)

    def done(self):
        self.tar.close()
        return self.buffer.getvalue()


def pack(data, how):
    if how == "gzip":
        return gzip.compress(data, 1, mtime=0)
    if how == "zstd":
        return subprocess.run(["zstd", "-q", "-1"], input=data, capture_output=True, check=True).stdout
    return data


def put_blob(folder, data):
    digest = sha256(data)
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    (blobs / digest[7:]).write_bytes(data)
    return digest


def put_image(folder, layers, config=None, how="gzip", arch="amd64", change=None):
    """Writes manifest, configuration and layers (bytes of tars) as blobs. change: called with (manifest, configuration) as
    dictionaries before they are written. Returns the manifest's descriptor."""
    packed = [pack(layer, how) for layer in layers]
    root = {"architecture": arch, "os": "linux", "created": "2023-11-14T22:13:20Z",
            "config": {"Cmd": ["sh"], **(config or {})},
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]}}
    suffix = {"gzip": "+gzip", "zstd": "+zstd", None: ""}[how]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [
        {"mediaType": LAYER + suffix, "digest": put_blob(folder, blob), "size": len(blob)} for blob in packed]}
    if change:
        change(manifest, root)
    text = json.dumps(root).encode()
    manifest["config"] = {"mediaType": CONFIG, "digest": put_blob(folder, text), "size": len(text)}
    text = json.dumps(manifest).encode()
    return {"mediaType": MANIFEST, "digest": put_blob(folder, text), "size": len(text)}


def put_layout(folder, images):
    """images: {tag: descriptor}."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    manifests = [{**d, "annotations": {"org.opencontainers.image.ref.name": tag}} for tag, d in images.items()]
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))


def make_layout(folder, layers, tag="t", **more):
    """A layout with one image; returns what image-tool takes as its reference."""
    put_layout(folder, {tag: put_image(folder, layers, **more)})
    return f"oci:{folder}:{tag}"


class Result:
    def __init__(self, done):
        self.code, self.out, self.error = done.returncode, done.stdout.decode(), done.stderr.decode("utf-8", "replace").strip()
        self.lines = self.out.splitlines()
        self.last = self.lines[-1].split() if self.lines else []


class Store:
    def __init__(self, root, env=None):
        self.root, self.env = root, {**os.environ, **(env or {})}

    def start(self, *args, **more):
        return subprocess.Popen([TOOL, self.root, *map(str, args)], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                **more)

    def run(self, *args, stdin=None):
        return Result(subprocess.run([TOOL, self.root, *map(str, args)], env=self.env, input=stdin, capture_output=True, timeout=300))

    def ok(self, *args, **more):
        result = self.run(*args, **more)
        assert result.code == 0, result.error
        return result

    def fails(self, *args):
        result = self.run(*args)
        assert result.code == 1, result.out
        assert result.error and "\n" not in result.error
        return result.error

    def disk(self, ref):
        """Pulls, builds, checks with e2fsck; the disk's path."""
        self.ok("pull", ref)
        path = pathlib.Path(self.ok("disk", ref).lines[-2])
        check_disk(path)
        return path

    def files(self, folder):
        return sorted(p.name for p in (self.root / "images" / folder).rglob("*") if p.is_file() or p.is_symlink())


def check_disk(path):
    done = subprocess.run(["e2fsck", "-fn", path], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


@contextlib.contextmanager
def mounted(disk, folder):
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,ro", disk, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def describe(root):
    """Everything about a tree that counts, by path (bytes)."""
    out, root = {}, os.fsencode(root)
    links = {}
    for folder, dirs, files in os.walk(root):
        for name in [b"."] * (folder == root) + dirs + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            item = {"mode": oct(st.st_mode), "owner": (st.st_uid, st.st_gid), "mtime": st.st_mtime_ns,
                    "xattrs": {k: os.getxattr(path, k, follow_symlinks=False) for k in os.listxattr(path, follow_symlinks=False)}}
            if stat.S_ISLNK(st.st_mode):
                item["target"] = os.readlink(path)
            elif stat.S_ISREG(st.st_mode):
                item["size"], item["nlink"] = st.st_size, st.st_nlink
                item["same as"] = links.setdefault(st.st_ino, os.path.relpath(path, root)) if st.st_nlink > 1 else None
                with open(path, "rb") as f:
                    item["content"] = hashlib.sha256(f.read()).hexdigest()
            elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
                item["device"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
            out[os.path.relpath(path, root)] = item
    # Which of several hard links is seen first depends on the folder's order.
    groups = {}
    for path, item in out.items():
        if item.get("same as"):
            groups.setdefault(item["same as"], []).append(path)
    for paths in groups.values():
        for path in paths:
            out[path]["same as"] = sorted(paths)
    return out


class Registry:
    """docker-registry on a free port of loopback."""

    def __init__(self, folder, users=None):
        """users: lines of an htpasswd file; nobody else is let in then."""
        self.folder = folder
        auth = ""
        if users:
            (folder / "users").write_text(users)
            auth = f"auth: {{htpasswd: {{realm: tests, path: {folder}/users}}}}\n"
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        (folder / "config.yml").write_text(
            f"version: 0.1\nlog: {{accesslog: {{disabled: false}}}}\n"
            f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\nhttp: {{addr: '{self.host}'}}\n{auth}")
        (folder / "registries.conf").write_text(
            f'[[registry]]\nprefix = "docker.io"\nlocation = "{self.host}"\ninsecure = true\n')
        self.env = {"CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf")}
        self.log = folder / "log"
        self.start()

    def start(self):
        self.process = subprocess.Popen([shutil.which("docker-registry"), "serve", self.folder / "config.yml"],
                                        stdout=self.log.open("ab"), stderr=subprocess.STDOUT)
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("the registry did not start: " + self.log.read_text())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def push(self, layout, name, *more):
        subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", *more, layout,
                        f"docker://{self.host}/{name}"], check=True)

    def blob_gets(self):
        """How many blobs were handed out so far."""
        return sum(1 for line in self.log.read_text().splitlines() if '"GET /v2/' in line and "/blobs/" in line and '" 200 ' in line)
