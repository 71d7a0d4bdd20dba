# SPDX-License-Identifier: Apache-2.0
"""What holds for a VM holds for a container of a Docker Engine: the same tests, with the other driver."""
import pytest

from test_control import test_another_name, test_other_limits, test_ports, test_processes, test_standing_still  # noqa: F401
from test_events import test_what_happens_is_told_as_it_happens  # noqa: F401
from test_health import test_checks_that_go_wrong, test_failures_while_it_starts_do_not_count, test_ill_and_well_again  # noqa: F401
from test_limits import test_removed_at_the_limit, test_who_uses_it_is_nobody_idle  # noqa: F401
from test_options import test_a_profile_of_ones_own, test_all_ports, test_ids_and_labels_in_files, test_limits_of_cpus  # noqa: F401
from test_options import test_one_at_a_time, test_seen_from_the_inside, test_wrong_ones  # noqa: F401
from test_port_forward import echo, test_bytes_and_ends, test_end_of_the_sandbox_ends_it, test_nobody_listens  # noqa: F401
from test_restart import test_it_is_started_again, test_only_after_failures_and_so_often, test_while_it_waits  # noqa: F401
from test_run import test_a_killed_command_line_harms_nothing, test_attach_without_a_terminal, test_exec, test_exit_codes  # noqa: F401
from test_run import test_exec_for_as_long_as_it_may, test_files_last_until_removal, test_leaving_a_terminal_and_coming_back, test_leaving_an_exec  # noqa: F401
from test_run import test_life_of_a_detached_one, test_output_of_one_that_ends_at_once, test_run_carries_bytes  # noqa: F401
from test_run import test_run_for_as_long_as_it_may, test_signals_go_through, test_terminal  # noqa: F401
from test_run import test_terminal_has_its_size_from_the_first_moment  # noqa: F401


@pytest.fixture(scope="module")
def micropod_root(docker_root):
    return docker_root
