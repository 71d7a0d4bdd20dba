#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The static agent links nothing that looks up users, groups or hosts, converts character sets, or loads code.

On another C library such calls load code from the root file system they run in, which may be a container's.
Reads the link map and the symbols of the unstripped agent; then plants one such call at a time in a small program, built the
same way, and wants each to be found.

usage: agent-symbols.py AGENT.debug AGENT.map
"""
import pathlib
import re
import subprocess
import sys
import tempfile

BANNED = r"(getaddrinfo|getnameinfo|gethostby\w+|getpw\w+|getgr(?!oups$)\w+|iconv\w*|dlopen|dlsym)"
# getgrouplist() and its like live in members of these names; setgroups() and getgroups() are plain system calls.
MEMBER = re.compile(r"^\S*libc\.a\((getaddrinfo|getnameinfo|gethostby\w+|getpw\w+|getgr(?!oups\.)\w+|nscd\w*|iconv\w*|dlopen|dlsym)\.l?o\)", re.M)
CALLS = {
    "getaddrinfo": ("netdb.h", "struct addrinfo *a; return getaddrinfo(\"a\", 0, 0, &a);"),
    "getpwnam": ("pwd.h", "return getpwnam(\"a\") == 0;"),
    "getpwuid_r": ("pwd.h", "struct passwd p, *q; char b[64]; return getpwuid_r(1, &p, b, sizeof b, &q);"),
    "getgrnam": ("grp.h", "return getgrnam(\"a\") == 0;"),
    "getgrouplist": ("grp.h", "int n = 0; return getgrouplist(\"a\", 0, 0, &n);"),
    "iconv_open": ("iconv.h", "return iconv_open(\"a\", \"b\") == 0;"),
    "dlopen": ("dlfcn.h", "return dlopen(\"a\", 0) == 0;"),
}


def banned(program, link_map):
    names = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    found = set(re.findall(rf"^[0-9a-f]+ [TW] (_*{BANNED})$", names, re.M))
    members = pathlib.Path(link_map).read_text().split("Discarded input sections")[0]
    return sorted({name for name, _ in found} | set(MEMBER.findall(members)))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    bad = [f"the agent links {name}" for name in banned(*sys.argv[1:])]
    with tempfile.TemporaryDirectory() as folder:
        source, program, link_map = (f"{folder}/{name}" for name in ("planted.c", "planted", "planted.map"))
        for name, (header, body) in {"nothing": ("grp.h", "return getgroups(0, 0);"), **CALLS}.items():
            pathlib.Path(source).write_text(f"#define _GNU_SOURCE\n#include <{header}>\nint main(void) {{ {body} }}\n")
            subprocess.run(["musl-gcc", "-static", "-Wl,--gc-sections", f"-Wl,-Map={link_map}", "-o", program, source], check=True)
            found = banned(program, link_map)
            if name == "nothing" and found:
                bad.append(f"an innocent program is said to link {found}")
            if name != "nothing" and not found:
                bad.append(f"a planted {name}() was not found")
    print("\n".join(bad))
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
