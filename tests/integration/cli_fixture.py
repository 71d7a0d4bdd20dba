# SPDX-License-Identifier: Apache-2.0
"""The command line with a root of its own, an image, a guest that looks prepared, and the fake shim."""
import hashlib
import io
import json
import os
import pathlib
import subprocess
import tarfile

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MICROPOD_BUILD", TOP / "build"))
MICROPOD = BUILD / "src/cli/micropod"


def write_blob(layout, data):
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (layout / "blobs/sha256" / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def make_layout(layout, config):
    """An OCI layout with one small layer."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        entry = tarfile.TarInfo("hello")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"hello"))
    layer = write_blob(layout, tar.getvalue())
    config = write_blob(layout, json.dumps({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}).encode())
    media = "application/vnd.oci.image."
    manifest = write_blob(layout, json.dumps({
        "schemaVersion": 2, "mediaType": media + "manifest.v1+json", "config": {"mediaType": media + "config.v1+json", **config},
        "layers": [{"mediaType": media + "layer.v1.tar", **layer}]}).encode())
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        {"mediaType": media + "manifest.v1+json", "annotations": {"org.opencontainers.image.ref.name": "latest"}, **manifest}]}))


class Cli:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.root = self.folder / "root"
        self.image = f"oci:{self.folder}/layout:latest"
        libexec = self.folder / "libexec"
        libexec.mkdir()
        proto = self.folder / "proto"
        proto.mkdir()
        subprocess.run(["protoc", f"-I{TOP}/proto", f"--python_out={proto}", "agent.proto", "sandbox.proto", "details.proto"], check=True)
        shim = libexec / "micropod-shim"
        shim.write_text(f'#!/bin/sh\nexec /usr/bin/python3 {TOP}/tests/integration/fake_shim.py "$@"\n')
        shim.chmod(0o755)
        runtime = self.folder / "runtime"
        runtime.mkdir(mode=0o700)
        self.env = {**os.environ, "MICROPOD_ROOT": str(self.root), "MICROPOD_LIBEXEC": str(libexec), "XDG_RUNTIME_DIR": str(runtime),
                    "XDG_CONFIG_HOME": str(self.folder / "config"), "FAKE_SHIM_PROTO": str(proto), "LC_ALL": "C.UTF-8"}
        for name in ("MICROPOD_LOG", "FAKE_SHIM"):
            self.env.pop(name, None)
        make_layout(self.folder / "layout", {"Cmd": ["sh", "-c", "echo from the image"], "Env": ["IMAGE=yes"]})
        self.ok("ps")
        guest = self.root / "guest/6.1"
        guest.mkdir(parents=True)
        for name in ("vmlinuz", "initramfs.cpio"):
            (guest / name).write_text("x")
        (self.root / "guest/current.json").write_text(json.dumps({
            "kernel": str(guest / "vmlinuz"), "initramfs": str(guest / "initramfs.cpio"), "initramfs_runc": str(guest / "initramfs.cpio"),
            "version": "6.1", "kind": "cloud", "key": "x"}))
        self.env["FAKE_SHIM_RUN"] = self.run_folder()
        self.ok("run", "--rm", self.image, "true")  # says the notice on KVM, once

    def run_folder(self):
        value = 0xcbf29ce484222325
        for byte in str(self.root.resolve()).encode():
            value = (value ^ byte) * 0x100000001b3 % 2**64
        base = "/run/micropod-" if os.geteuid() == 0 and os.access("/run", os.W_OK) else f"{self.env['XDG_RUNTIME_DIR']}/micropod-"
        return f"{base}{value:016x}"

    def __call__(self, *words, env=None, **kwargs):
        kwargs.setdefault("timeout", 60)
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([MICROPOD, *words], env={**self.env, **(env or {})}, capture_output=True, **kwargs)

    def ok(self, *words, **kwargs):
        done = self(*words, **kwargs)
        assert done.returncode == 0, done
        return done.stdout.decode()

    def popen(self, *words, env=None, **kwargs):
        return subprocess.Popen([MICROPOD, *words], env={**self.env, **(env or {})}, **kwargs)

    def boxes(self):
        return sorted(os.listdir(self.root / "sandboxes"))

    def clean(self):
        ids = self.ok("ps", "-aq").split()
        if ids:
            self("rm", "-f", *ids)
