# SPDX-License-Identifier: Apache-2.0
"""micropod build: buildah, in a sandbox."""
import json
import os
import pathlib

import pytest

from conftest import IMAGES

BUILDER = f"oci:{IMAGES}/builder:latest"
LONG = 300  # seconds: all of it is emulated


@pytest.fixture
def build(micropod):
    micropod.ok("pull", micropod.busybox)
    micropod.ok("tag", micropod.busybox, "base:1")

    def call(*words, **kwargs):
        env = {"MICROPOD_BUILDER": BUILDER, **kwargs.pop("env", {})}
        return micropod("build", *words, env=env, timeout=LONG, **kwargs)
    yield call
    for name in micropod.ok("images", "--format", "{{.Repository}}:{{.Tag}}").split():
        if name.startswith(("built", "base", "<none>")):
            micropod("rmi", name)


def made(done):
    assert done.returncode == 0, done
    return done.stdout.decode()


def test_an_image_of_a_folder(micropod, build, tmp_path):
    """Stages, arguments, what is ignored, names; and the image says how it was made."""
    (tmp_path / "Dockerfile").write_text("""
ARG BASE=base:1
FROM $BASE AS tools
RUN echo made > /made
FROM ${BASE}
ARG WHO=nobody FROM_ENV
COPY --from=tools /made /made
COPY . /context
RUN echo "hello $WHO $FROM_ENV" > /greeting && chmod 600 /greeting && ln -s greeting /link
ENV COLOUR=green
USER 1000
HEALTHCHECK --interval=5s CMD true
ENTRYPOINT ["cat"]
CMD ["/made"]
""")
    (tmp_path / "file").write_text("file\n")
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / ".dockerignore").write_text("secret\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = build("-t", "built/app", "-t", "built/app:2", "--build-arg", "WHO=you", "--build-arg", "FROM_ENV", "--label", "a=b",
                 "--iidfile", str(tmp_path.parent / "iid"), str(tmp_path), env={"FROM_ENV": "there"})
    image = made(done).strip()
    assert image.startswith("sha256:") and (tmp_path.parent / "iid").read_text() == image and b"STEP" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert micropod.ok("run", "--rm", "built/app") == "made\n"
    out = micropod.ok("run", "--rm", "-u", "0", "--entrypoint", "sh", "built/app:2", "-c", "cat /link; ls -a /context; stat -c %a /greeting; echo $COLOUR")
    assert out == "hello you there\n.\n..\n.dockerignore\nDockerfile\nfile\n600\ngreen\n"
    config = json.loads(micropod.ok("image", "inspect", "built/app"))[0]["Config"]
    assert config["User"] == "1000" and config["Labels"]["a"] == "b" and config["Entrypoint"] == ["cat"]
    assert config["Healthcheck"]["Test"] == ["CMD-SHELL", "true"] and config["Healthcheck"]["Interval"] == 5 * 10**9
    assert "RUN" in micropod.ok("history", "--no-trunc", "built/app") or "echo" in micropod.ok("history", "--no-trunc", "built/app")


def test_from_stdin_and_without_a_network(micropod, build):
    """Another image's files; no context; a RUN that finds no network."""
    text = f"FROM scratch\nCOPY --from=base:1 /bin/busybox /bin/busybox\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"/bin/busybox ip route > /routes\"]\n"
    image = made(build("-q", "--network", "none", "--target", "0", "-t", "built:2", "-", input=text.encode())).strip()
    assert micropod.ok("run", "--rm", "built:2", "/bin/busybox", "cat", "/routes") == ""
    assert micropod.ok("images", "-q", "--no-trunc", "built:2").strip() == image


def test_one_that_fails_and_what_it_leaves(micropod, build, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM base:1\nRUN echo so far; exit 3\n")
    done = build("-t", "built:3", str(tmp_path))
    assert done.returncode == 1 and b"so far" in done.stderr and done.stdout == b""
    assert done.stderr.decode().splitlines()[-1].startswith("micropod: the build failed (status ")
    assert "built" not in micropod.ok("images") and not list((micropod.root / "images/tmp").iterdir())


@pytest.mark.parametrize("words, text, said", [
    (("/nonexistent",), None, "cannot use the folder '/nonexistent'"),
    (("https://example.com/x.git",), None, "'https://example.com/x.git' cannot be the context: fetch it, and give its folder"),
    ((".",), None, "cannot read the Dockerfile '"),
    (("-f", "other", "."), "FROM x", "cannot read the Dockerfile 'other'"),
    ((".",), "RUN x", "the Dockerfile has no FROM"),
    ((".",), "FROM 127.0.0.1:1/none", "image '127.0.0.1:1/none"),
    (("-t", "UPPER", "."), "FROM base:1", "image reference 'UPPER' is not valid: the name must be in lower case"),
    (("-t", "oci:x", "."), "FROM base:1", "'oci:x' cannot be a name of ours"),
    (("--build-arg", "=x", "."), "FROM base:1", "option '--build-arg' is '=x': give NAME=VALUE"),
    (("--platform", "linux/arm64", "."), "FROM base:1", "option '--platform' is 'linux/arm64'"),
    (("--driver", "docker", "."), "FROM base:1", "micropod builds in a VM: leave '--driver docker' out"),
])
def test_what_cannot_be(micropod, build, tmp_path, words, text, said):
    if text:
        (tmp_path / "Dockerfile").write_text(text)
    done = build(*words, cwd=tmp_path)
    assert micropod.error(done).startswith(said), done


def test_a_dockerfile_is_no_book(micropod, build, tmp_path):
    """LIMIT_BUILD_FILE"""
    (tmp_path / "Dockerfile").write_bytes(b"#" * (1 << 20) + b"\nFROM base:1\n")
    assert "Dockerfile" in micropod.error(build(str(tmp_path)))


@pytest.mark.skipif(os.geteuid() != 0, reason="its own name is not the image's only then")
def test_the_builder_sees_nothing_else(micropod, build, tmp_path):
    """The context is for reading, and no folder of the host lies beside it."""
    (tmp_path / "Dockerfile").write_text("FROM base:1\nRUN touch /build/context/x 2>/dev/null; ls /build 2>/dev/null | wc -l > /seen\n")
    made(build("-t", "built:4", str(tmp_path)))
    assert micropod.ok("run", "--rm", "built:4", "cat", "/seen") == "0\n" and not pathlib.Path(tmp_path / "x").exists()
