# SPDX-License-Identifier: Apache-2.0
"""What holds on this host holds over a server: the same tests, with the sandboxes on a host that has joined one."""
import pathlib
import tempfile

import pytest

from servers import Remote, Runner, Server
from test_control import test_another_name, test_other_limits, test_ports, test_processes, test_standing_still, test_templates, test_which_are_listed  # noqa: F401
from test_events import test_the_past_and_filters, test_what_happens_is_told_as_it_happens  # noqa: F401
from test_health import test_ill_and_well_again  # noqa: F401
from test_limits import test_a_lifetime_ends_and_is_extended  # noqa: F401
from test_options import test_a_profile_of_ones_own, test_all_ports, test_seen_from_the_inside  # noqa: F401
from test_port_forward import echo, test_bytes_and_ends, test_nobody_listens  # noqa: F401
from test_restart import test_only_after_failures_and_so_often, test_while_it_waits  # noqa: F401
from test_run import test_exec, test_exec_for_as_long_as_it_may, test_exit_codes, test_files_last_until_removal  # noqa: F401
from test_run import test_output_of_one_that_ends_at_once, test_run_carries_bytes, test_signals_go_through, test_terminal  # noqa: F401
from test_run import test_environment_user_and_folder, test_leaving_an_exec, test_terminal_has_its_size_from_the_first_moment  # noqa: F401


@pytest.fixture(scope="module")
def micropod(micropod_root):
    with tempfile.TemporaryDirectory(prefix="server-") as folder:
        folder = pathlib.Path(folder)
        server = Server(folder)
        runner = Runner(server, folder, "alpha", micropod_root.root, env=micropod_root.env)
        yield Remote(micropod_root, server, server.token("--user", "tests"))
        runner.kill()
        server.kill()


@pytest.fixture(autouse=True)
def nothing_left(micropod, micropod_root):
    """The runner and the server are here for all: only the rest is counted."""
    yield
    micropod_root.empty()


def test_volumes_and_images_of_a_host(micropod):
    micropod.ok("volume", "create", "data")
    assert micropod.ok("volume", "ls", "-q") == "data\n"
    micropod.ok("run", "--rm", "-v", "data:/d", micropod.busybox, "touch", "/d/x")
    assert micropod.ok("run", "--rm", "-v", "data:/d", micropod.busybox, "ls", "/d") == "x\n"
    assert micropod.ok("volume", "rm", "data") == "data\n" and micropod.ok("volume", "prune", "-f") == ""
    micropod.ok("tag", micropod.ok("images", "-q").split()[0], "nice:1")
    assert "nice" in micropod.ok("images", "--format", "{{.Repository}}") and "Images" in micropod.ok("system", "df")
    assert "IMAGE" in micropod.ok("history", "nice:1")
    micropod.ok("rmi", "nice:1")
