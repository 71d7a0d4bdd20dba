# SPDX-License-Identifier: Apache-2.0
"""micropod as an ordinary user has it: programs, guest and image in folders that nobody else needs to let it into."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from conftest import BUILD, GUEST, IMAGES

USER = 4711
ROOT = os.geteuid() == 0


def as_user(argv):
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--groups=100,65534", "--", *map(str, argv)] if ROOT else argv


@pytest.fixture
def ordinary():
    """A function that runs micropod so, and the folder where all is."""
    with tempfile.TemporaryDirectory(prefix="micropod-ordinary-") as name:
        base = pathlib.Path(name)
        for program in ("cli/micropod", "shim/micropod-shim", "net/micropod-net"):
            shutil.copy(BUILD / "src" / program, base)
        shutil.copytree(GUEST / "guest", base / "root/guest")
        for path in (base / "root/guest").glob("*.json"):
            path.write_text(path.read_text().replace(str(GUEST / "guest"), str(base / "root/guest")))
        shutil.copytree(f"{IMAGES}/busybox", base / "busybox")
        (base / "root").chmod(0o700)
        if ROOT:
            subprocess.run(["chown", "-R", f"{USER}:{USER}", base], check=True)
        env = {**os.environ, "MICROPOD_LIBEXEC": str(base), "MICROPOD_ROOT": str(base / "root"), "HOME": str(base), "TMPDIR": str(base)}

        def run(*words):
            return subprocess.run(as_user([base / "micropod", *words]), env=env, cwd=base, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=120)

        yield run, base
        boxes = run("ps", "-aq").stdout.split()
        if boxes:
            run("rm", "-f", *boxes)
