#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each LIMIT_ of src/base/limits.h is used in src/, and named in the test that reaches it."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = ROOT / "src/base/limits.h"
# Those that no test reaches, or none by name. A test that names one takes it off the list; nothing is added.
UNREACHED = set("""
LIMIT_LOG_LINE LIMIT_SYSTEM_LOG LIMIT_RPC_STREAMS LIMIT_RPC_STATUS_MESSAGE LIMIT_RPC_RETRY_BUFFER LIMIT_RPC_WINDOWS LIMIT_RPC_ASSEMBLY
LIMIT_RPC_OUTBOUND LIMIT_RPC_CONNECTIONS LIMIT_KEPT_STATUSES LIMIT_REAPED_AT_ONCE LIMIT_RUNTIME_MESSAGE LIMIT_SPAWN_MS LIMIT_WORKER_MS
LIMIT_RUNTIME_MS LIMIT_TREE_LINKS LIMIT_FETCH_STALL LIMIT_DISK_BUILD LIMIT_VMM_STDERR LIMIT_NET_RELAYS
LIMIT_STDIN_UNTAKEN
""".split())


def words(*folders):
    """All LIMIT_ names in the C and Python files below."""
    found = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".c", ".h", ".py") and path not in (HEADER, pathlib.Path(__file__).resolve()):
                found.update(re.findall(r"\bLIMIT_[A-Z0-9_]+\b", path.read_text()))
    return found


def main():
    limits = set(re.findall(r"^#define (LIMIT_[A-Z0-9_]+)", HEADER.read_text(), re.M))
    used, tested = words("src"), words("tests/unit", "tests/integration", "tests/e2e")
    bad = [f"{name} is used nowhere in src/" for name in limits - used]
    bad += [f"{name} is named in no test" for name in limits - tested - UNREACHED]
    bad += [f"{name} is named in a test now: take it off UNREACHED" for name in UNREACHED & tested]
    bad += [f"{name} stands in UNREACHED and is no limit" for name in UNREACHED - limits]
    for line in sorted(bad):
        print(line)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
