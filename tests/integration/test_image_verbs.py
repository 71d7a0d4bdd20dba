# SPDX-License-Identifier: Apache-2.0
"""Images passed on: tag, save, push, history, prune, logins and what takes room; against a registry, skopeo and the engine's format."""
import json
import os
import subprocess
import tarfile

import pytest

from cli_fixture import MICROPOD
from imagetools import INDEX, Layer, Registry, make_layout, put_blob, put_image, put_layout

HISTORY = [{"created": "2026-01-01T00:00:00Z", "created_by": "ADD rootfs.tar / # buildkit"},
           {"created": "2026-01-01T00:00:01Z", "created_by": "ENV \x1b[31mX=" + "y" * 100, "empty_layer": True, "comment": "words"}]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("registry"))
    yield registry
    registry.stop()


class Here:
    def __init__(self, folder, env):
        self.env = {**os.environ, **env, "MICROPOD_ROOT": str(folder / "root"), "XDG_CONFIG_HOME": str(folder / "config"), "LC_ALL": "C.UTF-8"}
        layer = Layer().dir("bin").file("bin/sh", b"hello", mode=0o755).done()
        make_layout(folder / "layout", [layer], change=lambda manifest, config: config.update(history=HISTORY))
        self("pull", "-q", f"oci:{folder}/layout:t")
        self.id = self("images", "-q", "--no-trunc").strip()

    def run(self, *words, **kwargs):
        return subprocess.run([MICROPOD, *words], env=self.env, capture_output=True, timeout=120, **kwargs)

    def __call__(self, *words, **kwargs):
        done = self.run(*words, **kwargs)
        assert done.returncode == 0, done
        return done.stdout.decode()

    def fails(self, *words, **kwargs):
        done = self.run(*words, **kwargs)
        assert done.returncode == 125 and done.stderr.count(b"\n") == 1, done
        return done.stderr.decode()


@pytest.fixture
def here(tmp_path, registry):
    return Here(tmp_path, registry.env)


def test_more_names(here):
    here("tag", here.id, "nice")
    here("image", "tag", "nice", "localhost:5000/a/b:v1")
    rows = here("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines()
    assert {"nice:latest", "localhost:5000/a/b:v1"} <= {row.split()[0] for row in rows} and len({row.split()[1] for row in rows}) == 1
    assert "cannot be a name of ours" in here.fails("tag", "nice", "x@sha256:" + "0" * 64)
    assert "is not here" in here.fails("tag", "nothing", "x")
    assert here("rmi", "nice") == "Untagged: nice\n"
    assert "localhost:5000/a/b" in here("image", "ls")


def test_an_archive_that_others_read(here, tmp_path):
    here("tag", here.id, "nice:v1")
    here("tag", here.id, "nice:v2")
    here("save", "-o", tmp_path / "a.tar", "nice:v1", "nice:v2")
    with tarfile.open(tmp_path / "a.tar") as tar:
        names = tar.getnames()
        docker = json.load(tar.extractfile("manifest.json"))
        index = json.load(tar.extractfile("index.json"))
    assert len(names) == len(set(names)) and [one["RepoTags"] for one in docker] == [["docker.io/library/nice:v1"], ["docker.io/library/nice:v2"]]
    assert len(index["manifests"]) == 2
    # Everybody finds the same image in it: skopeo by either format, and we ourselves.
    for source in (f"docker-archive:{tmp_path}/a.tar:docker.io/library/nice:v1", f"oci-archive:{tmp_path}/a.tar:docker.io/library/nice:v2"):
        config = json.loads(subprocess.run(["skopeo", "inspect", "--config", source], check=True, capture_output=True).stdout)
        assert config["history"][0]["created_by"] == HISTORY[0]["created_by"]
    other = {**here.env, "MICROPOD_ROOT": str(tmp_path / "other")}
    done = subprocess.run([MICROPOD, "load", "-q", "-i", tmp_path / "a.tar"], env=other, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("Loaded image") == 2, done
    assert subprocess.run([MICROPOD, "images", "-q", "--no-trunc"], env=other, capture_output=True, text=True).stdout.splitlines() == [here.id] * 2
    # By a pipe, byte for byte; nothing is left of one that fails.
    assert here.run("image", "save", "nice:v1", "nice:v2").stdout == (tmp_path / "a.tar").read_bytes()
    assert "nothing" in here.fails("save", "-o", tmp_path / "b.tar", "nice:v1", "nothing")
    assert "cannot write" in here.fails("save", "-o", tmp_path / "no/such/folder", "nice:v1")
    assert [name for name in os.listdir(tmp_path) if name.startswith("b.tar")] == []
    with open("/dev/full", "wb") as full:
        done = subprocess.run([MICROPOD, "save", "nice:v1"], env=here.env, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 125 and b"cannot write the archive" in done.stderr


def test_to_a_registry_and_back(here, registry, tmp_path):
    name = f"127.0.0.1:{registry.port}/passed/on:v1"
    here("tag", here.id, name)
    assert name in here("push", name)
    assert here("push", "-q", name) == ""
    other = {**here.env, "MICROPOD_ROOT": str(tmp_path / "other")}
    subprocess.run([MICROPOD, "pull", "-q", name], env=other, check=True, capture_output=True)
    ids = subprocess.run([MICROPOD, "images", "-q", "--no-trunc"], env=other, capture_output=True, text=True).stdout.split()
    assert ids == [here.id]
    assert "names no registry" in here.fails("push", f"oci:{tmp_path}/layout:t")
    here("tag", here.id, "127.0.0.1:1/x")
    assert "refused" in here.fails("push", "127.0.0.1:1/x")
    assert os.listdir(tmp_path / "root/images/tmp") == []


def test_what_a_killed_push_has_left_goes(here, tmp_path):
    left = tmp_path / "root/images/tmp/push-0123456789abcdef0123456789abcdef"
    left.mkdir()
    (left / "index.json").write_text("{}")
    here("image", "prune", "-f")
    assert not left.exists()


def test_how_it_was_made(here):
    rows = here("history", here.id).splitlines()
    assert rows[0].split("   ")[0] == "IMAGE" and len(rows) == 3 and "\x1b" not in rows[1]
    assert here.id[7:19] in rows[1] and "<missing>" in rows[2] and "ADD rootfs.tar" in rows[2] and "words" in rows[1]
    steps = [json.loads(line) for line in here("image", "history", "--no-trunc", "--format", "json", here.id).splitlines()]
    assert "y" * 100 in steps[0]["CreatedBy"] and steps[0]["Size"] == "0B" != steps[1]["Size"] and steps[1]["CreatedAt"].startswith("2026-01-01")
    assert here("history", "-q", here.id).splitlines() == [here.id[7:19], "<missing>"]


def test_unused_ones(here):
    here("tag", here.id, "nice")
    assert "Deleted images: 0" in here("image", "prune", "-f")
    assert here("image", "prune", input=b"n\n").endswith("[y/N] ")
    assert "Deleted images: 2" in here("image", "prune", "-af") and here("images", "-q") == ""


def test_what_takes_room(here):
    rows = {row["Type"]: row for row in map(json.loads, here("system", "df", "--format", "json").splitlines())}
    assert set(rows) == {"Images", "Sandboxes", "Templates", "Guest"}
    assert rows["Images"]["TotalCount"] == "1" and rows["Images"]["Active"] == "0" and rows["Images"]["Reclaimable"].endswith("(100%)")
    assert rows["Sandboxes"]["Size"] == "0B"


def test_logins(here, tmp_path):
    """skopeo keeps them, and the registry is asked whether they are right."""
    crypt = pytest.importorskip("crypt")
    (tmp_path / "private").mkdir()
    registry = Registry(tmp_path / "private", "me:" + crypt.crypt("secret", crypt.mksalt(crypt.METHOD_BLOWFISH)) + "\n")
    here.env["REGISTRY_AUTH_FILE"] = str(tmp_path / "auth.json")
    name = f"{registry.host}/mine:1"
    try:
        here("tag", here.id, name)
        assert "log in with" in here.fails("push", name)
        assert here.run("login", "-u", "me", "--password-stdin", registry.host, input=b"wrong\n").returncode != 0
        here("login", "-u", "me", "--password-stdin", registry.host, input=b"secret\n")
        assert name in here("push", name)
        here("logout", registry.host)
        assert "log in with" in here.fails("push", name)
    finally:
        registry.stop()


def test_groups(here):
    assert "is followed by one of build, history, inspect, list" in here.fails("image")
    assert "is followed by one of" in here.fails("image", "frob")
    assert here("container", "ls", "-q") == here("ps", "-q") == here("list", "-q") == ""
    assert json.loads(here("image", "inspect", here.id))[0]["Id"] == here.id


def test_images_for_other_machines(here, tmp_path):
    items = [{**put_image(tmp_path / "two", [Layer().dir("bin").file("bin/sh", arch.encode(), mode=0o755).done()], arch=arch), "platform": {"architecture": arch, "os": "linux"}}
             for arch in ("amd64", "arm64")]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": items}).encode()
    put_layout(tmp_path / "two", {"t": {"mediaType": INDEX, "digest": put_blob(tmp_path / "two", index), "size": len(index)}})
    source = f"oci:{tmp_path}/two:t"
    for platform, arch in (("linux/arm64/v8", "arm64"), ("amd64", "amd64")):
        here("pull", "-q", "--platform", platform, source)
        assert here("image", "inspect", "-f", "{{.Architecture}}", source) == arch + "\n"
    assert "run programs for linux/amd64 only" in here.fails("run", "--platform", "linux/arm64", source)
    assert "there is no build for linux/s390x" in here.fails("pull", "-q", "--platform", "linux/s390x", source)
    for wrong in ("windows/amd64", "linux", "linux/", "/x"):
        assert "option '--platform'" in here.fails("pull", "--platform", wrong, source)
