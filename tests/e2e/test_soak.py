# SPDX-License-Identifier: Apache-2.0
"""A moment of the soak, so that it works when half an hour of it is wanted (make soak)."""
import soak


def test_a_moment(micropod):
    result = soak.soak(micropod, 25, workers=3)
    assert not result["failures"], result
    assert sum(result["counts"].values()) > 5
    assert set(result["growth"]) == {"shim", "net", "vmm", "agent", "open"}
