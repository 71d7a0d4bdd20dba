# SPDX-License-Identifier: Apache-2.0
"""What a VM starts from: prepare-guest, the initramfs, the agent root disk, test images and their registry; install, uninstall."""
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MICROPOD_BUILD", TOP / "build"))
SCRIPTS = TOP / "scripts"


def run(*command, **kwargs):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True, **kwargs).stdout


@pytest.fixture(scope="module")
def guest():
    root = pathlib.Path(os.environ["MICROPOD_TEST_GUEST"])
    run(BUILD / "guest/prepare-guest", "--kind", "cloud", root)
    return json.loads((root / "guest/cloud.json").read_text())


def make_root_disk(folder):
    """As an ordinary user, also when the tests run as root: else the owners inside would be right by themselves."""
    shutil.copytree(SCRIPTS, folder / "scripts")
    for name in ("agent", "crun"):
        shutil.copy(BUILD / "guest" / name, folder)
    disk, user = folder / "agent-rootfs.ext4", []
    if os.geteuid() == 0:
        run("chown", "-R", "65534:65534", folder)
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    run(*user, folder / "scripts/build-agent-rootfs.sh", "--files", folder, disk)
    return disk


@pytest.fixture
def folders():
    """Two folders that any user reaches (pytest's own ones are private)."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        yield pathlib.Path(one), pathlib.Path(two)


def test_nothing_changed_nothing_done(guest):
    before = pathlib.Path(guest["initramfs"]).stat().st_mtime_ns
    began = time.monotonic()
    offline = {**os.environ, "APT_CONFIG": "/dev/null", "http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}
    done = subprocess.run([BUILD / "guest/prepare-guest", "--progress", os.environ["MICROPOD_TEST_GUEST"]], env=offline, check=True,
                          capture_output=True, text=True)
    assert done.stderr == "" and time.monotonic() - began < 5
    assert pathlib.Path(guest["initramfs"]).stat().st_mtime_ns == before


def test_changed_agent_makes_another_initramfs(guest, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    (files / "agent").write_bytes((BUILD / "guest/agent").read_bytes() + b"\0")
    (files / "crun").write_bytes((BUILD / "guest/crun").read_bytes())
    root = tmp_path / 'a root "with" odd\\ words'
    (root / "guest").mkdir(parents=True)
    kernel = pathlib.Path(guest["kernel"]).parent
    run("cp", "-R", kernel, root / "guest")
    (root / "guest/cloud.json").write_text(json.dumps({"version": guest["version"]}, indent=2))

    def prepare(_):
        return subprocess.run([SCRIPTS / "prepare-guest.sh", "--progress", "--files", files, root], check=True,
                              capture_output=True, text=True).stderr

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        said = list(pool.map(prepare, range(2)))
    assert sum("making the initramfs" in text for text in said) == 1, said
    current = json.loads((root / "guest/current.json").read_text())
    assert current["key"] != guest["key"] and current["version"] == guest["version"]
    for key in ("kernel", "initramfs"):
        assert current[key].startswith(str(root)) and pathlib.Path(current[key]).exists()
    assert not [name for name in os.listdir(root / "guest") if name.startswith(".new")]


def test_missing_agent_is_named(tmp_path):
    done = subprocess.run([SCRIPTS / "prepare-guest.sh", "--files", tmp_path, tmp_path / "root"], capture_output=True, text=True)
    assert done.returncode == 1 and f"{tmp_path}/agent is not there" in done.stderr and done.stderr.count("\n") == 1


def test_initramfs_belongs_to_root(guest):
    for key in ("initramfs", "initramfs_runc"):
        with open(guest[key], "rb") as archive:
            lines = subprocess.run(["cpio", "-tv", "--numeric-uid-gid", "--quiet"], stdin=archive, check=True,
                                   capture_output=True, text=True).stdout.splitlines()
        names = {line.split()[8] for line in lines}
        assert {"init", "usr/bin/micropod-agent", "usr/bin/crun", "lib/modules/order", "lib/modules/order.late"} <= names
        assert ("usr/bin/runc" in names) == (key == "initramfs_runc")
        assert all(line.split()[2:4] == ["0", "0"] for line in lines)


def test_modules_come_after_what_they_need(guest):
    folder = pathlib.Path(guest["kernel"]).parent / "modules"
    order = (folder / "order").read_text().split() + (folder / "order.late").read_text().split()
    assert {"virtio_blk.ko", "virtio_console.ko", "virtio_net.ko", "overlay.ko"} <= set(order)
    seen = set()
    for name in order:
        needs = run("modinfo", "-F", "depends", folder / name).strip().replace("-", "_").split(",")
        assert set(filter(None, needs)) <= seen, name
        seen.add(name.removesuffix(".ko").replace("-", "_"))


def test_root_disk(folders):
    root_disk, again = (make_root_disk(folder) for folder in folders)
    rows = {}
    for folder in ("/", "/sbin", "/usr/bin"):
        for line in run("debugfs", "-R", f"ls -l -p {folder}", root_disk).splitlines():
            fields = line.split("/")
            if len(fields) > 5:
                rows[fields[5]] = fields[3:5]
    assert {"micropod-agent", "crun", "runc", "init", "containers", "proc", "dev"} <= rows.keys()
    assert all(row == ["0", "0"] for row in rows.values()), rows
    assert 'Fast link dest: "../usr/bin/micropod-agent"' in run("debugfs", "-R", "stat /sbin/init", root_disk)
    assert again.read_bytes() == root_disk.read_bytes()


def test_registry_serves_until_its_input_ends(tmp_path):
    images = pathlib.Path(os.environ["MICROPOD_TEST_IMAGES"])
    registry = subprocess.Popen([SCRIPTS / "test-registry.sh", tmp_path, images / "busybox"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
    word, address = registry.stdout.readline().split()
    assert word == "ready"
    manifest = run("skopeo", "--registries-conf", tmp_path / "registries.conf", "inspect", "--raw", "docker://busybox")
    assert json.loads(manifest)["layers"]
    registry.communicate()
    assert registry.returncode == 0
    host, port = address.split(":")
    assert subprocess.run(["socat", "-u", "/dev/null", f"TCP:{host}:{port}"], capture_output=True).returncode != 0


def test_install_and_uninstall(tmp_path):
    env = {**os.environ, "DESTDIR": str(tmp_path / "dest")}
    run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", env=env)
    installed = [path for path in (tmp_path / "dest").rglob("*") if not path.is_dir()]
    names = {path.name for path in installed}
    assert {"agent", "crun", "prepare-guest", "make-initramfs", "guest-tree.sh", "apt-private.sh"} <= names
    for path in installed:
        if path.parent.name == "micropod" and path.suffix != ".sh":
            assert os.access(path, os.X_OK), path
    run(SCRIPTS / "uninstall.sh", BUILD, env=env)
    assert not [path for path in (tmp_path / "dest").rglob("*") if not path.is_dir() or path.name == "micropod"]


def test_a_debian_package(tmp_path):
    """It is whole, its programs find each other wherever it is unpacked, and a container runs by them alone."""
    package = run(SCRIPTS / "build-deb.sh", BUILD, tmp_path).strip()
    fields = dict(line.split(": ", 1) for line in run("dpkg-deb", "-f", package).splitlines() if ": " in line)
    assert fields["Package"] == "micropod" and "libslirp0" in fields["Depends"] and "qemu-system-x86" in fields["Depends"]
    names = {line.split(None, 5)[5] for line in run("dpkg-deb", "-c", package).splitlines()}
    assert {"./usr/bin/micropod", "./usr/libexec/micropod/micropod-shim", "./usr/libexec/micropod/micropod-net", "./usr/lib/micropod/agent", "./usr/lib/micropod/crun",
            "./usr/share/man/man1/micropod.1.gz", "./usr/share/bash-completion/completions/micropod.bash", "./usr/share/zsh/site-functions/_micropod",
            "./usr/share/fish/vendor_completions.d/micropod.fish", "./usr/share/doc/micropod/copyright"} <= names
    assert all(line.split()[1] == "root/root" for line in run("dpkg-deb", "-c", package).splitlines())
    run("dpkg-deb", "-x", package, tmp_path / "there")
    env = {name: value for name, value in os.environ.items() if not name.startswith("MICROPOD_")}
    micropod = [tmp_path / "there/usr/bin/micropod", "--root", tmp_path / "root"]
    out = run(*micropod, "run", "--rm", f"oci:{os.environ['MICROPOD_TEST_IMAGES']}/busybox:latest", "echo", "fine", env=env)
    assert out.splitlines()[-1] == "fine"
