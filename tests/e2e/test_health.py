# SPDX-License-Identifier: Apache-2.0
"""Health checks: by options and by the image, what is shown of them, and what counts."""
import json
import shutil

import pytest

from conftest import IMAGES
from test_run import until

QUICK = ["--health-interval", "300ms", "--health-retries", "2"]


def health(micropod, box="box"):
    return micropod.inspect(box)["State"]["Health"]


def is_now(micropod, what, box="box"):
    until(lambda: health(micropod, box)["Status"] == what)


def test_ill_and_well_again(micropod):
    micropod.ok("run", "-d", "--name", "box", *QUICK, "--health-cmd", "echo looked; test -e /well", micropod.busybox, "sleep", "1000")
    assert health(micropod)["Status"] == "starting" and "(health: starting)" in micropod.ok("ps")
    is_now(micropod, "unhealthy")
    assert "(unhealthy)" in micropod.ok("ps") and health(micropod)["FailingStreak"] >= 2
    assert health(micropod)["Log"][-1]["ExitCode"] == 1 and health(micropod)["Log"][-1]["Output"] == "looked\n"
    micropod.ok("exec", "box", "touch", "/well")
    is_now(micropod, "healthy")
    assert "(healthy)" in micropod.ok("ps", "--filter", "health=healthy") and health(micropod)["FailingStreak"] == 0
    # LIMIT_HEALTH_LOG of them are kept.
    until(lambda: [one["ExitCode"] for one in health(micropod)["Log"]] == [0] * 5)
    events = [json.loads(line) for line in micropod.ok("events", "--since", "5m", "--until", "0s", "--format", "json", "--filter", "event=health_status").splitlines()]
    assert [one["Actor"]["Attributes"]["health"] for one in events][-2:] == ["unhealthy", "healthy"]
    # While it stands still nobody looks.
    micropod.ok("pause", "box")
    before = health(micropod)["Log"]
    micropod.ok("unpause", "box")
    until(lambda: health(micropod)["Log"] != before)
    micropod.ok("stop", "-t", "0", "box")
    micropod.ok("start", "box")
    assert health(micropod)["Status"] in ("starting", "healthy") and len(health(micropod)["Log"]) < 5


def test_failures_while_it_starts_do_not_count(micropod):
    micropod.ok("run", "-d", "--name", "box", *QUICK, "--health-start-period", "10000s", "--health-start-interval", "200ms", "--health-cmd", "test -e /well",
                micropod.busybox, "sleep", "1000")
    until(lambda: len(health(micropod)["Log"]) == 5)
    assert health(micropod)["Status"] == "starting" and health(micropod)["FailingStreak"] == 0
    micropod.ok("exec", "box", "touch", "/well")
    is_now(micropod, "healthy")
    # The start is over with the first success.
    micropod.ok("exec", "box", "rm", "/well")
    is_now(micropod, "unhealthy")


def test_checks_that_go_wrong(micropod):
    """One that takes too long is killed, with all that came of it; output beyond LIMIT_HEALTH_OUTPUT is not kept."""
    micropod.ok("run", "-d", "--name", "box", "--health-interval", "100ms", "--health-retries", "1", "--health-timeout", "500ms",
                "--health-cmd", "echo begun; sleep 4711 & sleep 4711", micropod.busybox, "sleep", "1000")
    is_now(micropod, "unhealthy")
    one = health(micropod)["Log"][-1]
    assert one["ExitCode"] == -1 and one["Output"].startswith("begun\n") and "took too long" in one["Output"]
    micropod.ok("run", "-d", "--name", "loud", *QUICK, "--health-cmd", "yes | head -c 100000", micropod.busybox, "sleep", "1000")
    is_now(micropod, "healthy", "loud")
    assert len(health(micropod, "loud")["Log"][-1]["Output"]) == 4096


def test_what_the_image_says(micropod, tmp_path):
    layout = tmp_path / "layout"
    shutil.copytree(f"{IMAGES}/busybox", layout)
    index = json.loads((layout / "index.json").read_text())
    blobs = layout / "blobs/sha256"

    def put(data):
        import hashlib
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    config["config"]["Healthcheck"] = {"Test": ["CMD", "test", "-e", "/etc/passwd"], "Interval": 300000000}
    manifest["config"].update(put(json.dumps(config).encode()))
    index["manifests"][0].update(put(json.dumps(manifest).encode()))
    (layout / "index.json").write_text(json.dumps(index))
    image = f"oci:{layout}:latest"
    micropod.ok("run", "-d", "--name", "box", image, "sleep", "1000")
    is_now(micropod, "healthy")
    micropod.ok("run", "-d", "--name", "other", "--health-cmd", "false", "--health-retries", "1", image, "sleep", "1000")
    is_now(micropod, "unhealthy", "other")
    micropod.ok("create", "--name", "none", "--no-healthcheck", image)
    assert "Health" not in micropod.inspect("none")["State"]


@pytest.mark.parametrize("options,words", [(["--health-cmd", ""], "is empty"), (["--health-cmd", "x", "--no-healthcheck"], "contradict"),
                                           (["--health-cmd", "x", "--health-interval", "1ns"], "from 1ms on"), (["--health-retries", "0"], "--health-retries")],
                         ids=lambda value: " ".join(value) if isinstance(value, list) else None)
def test_what_cannot_be(micropod, options, words):
    assert words in micropod.error(micropod("create", *options, micropod.busybox))
