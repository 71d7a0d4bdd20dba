# SPDX-License-Identifier: Apache-2.0
"""cp with a container of a Docker Engine: the tests of VMs."""
import pytest

from test_cp import nothing_left, test_a_tree_there_and_back, test_links_and_owners, test_names_that_lead_up_and_the_root  # noqa: F401
from test_cp import test_streams, test_ten_megabytes_and_five_thousand_files, test_where_things_go, tree  # noqa: F401


@pytest.fixture(scope="module")
def box(docker_root, engine):
    engine.load("debian")
    docker_root.ok("run", "-d", "--name", "box", "debian", "sleep", "100000")
    yield docker_root
    docker_root.ok("rm", "-f", "box")
