#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# scripts/apt-private.sh takes the distribution's entries, and only those, out of both formats of apt sources.
set -euo pipefail

# shellcheck source=scripts/apt-private.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/apt-private.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
apt_private_suites() { echo '(bookworm|stable|oldstable)(/updates|-updates|-security)?'; }

expect() {
	diff -u "$work/want" "$work/got" || { echo "$1: not as expected" >&2 && exit 1; }
}

cat >"$work/a.list" <<'END'
# deb http://mirror.test/debian bookworm main
deb http://mirror.test/debian bookworm main contrib # a remark
deb [signed-by=/k.gpg arch=amd64] http://mirror.test/security bookworm-security main
deb-src http://mirror.test/debian bookworm main contrib
deb http://vendor.test/apt bookworm stable
deb http://vendor.test/apt vendor main
  deb	http://mirror.test/debian	bookworm-updates	main
END
cat >"$work/want" <<'END'
deb-src http://mirror.test/debian bookworm main contrib
deb-src [signed-by=/k.gpg arch=amd64] http://mirror.test/security bookworm-security main
deb-src http://mirror.test/debian	bookworm-updates	main
END
apt_private_one_line deb-src "$work/a.list" >"$work/got"
expect 'one-line format'

cat >"$work/a.sources" <<'END'
# the mirror
Types: deb
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /k.gpg

Types: deb
URIs: http://vendor.test/apt
Suites: nodistro
Components: main

Enabled: no
Types: deb
URIs: http://mirror.test/off
Suites: bookworm
Components: main
END
cat >"$work/b.sources" <<'END'
Types: deb deb-src
URIs: http://mirror.test/security
Suites: bookworm-security
Components: contrib main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
END
cat >"$work/want" <<'END'
Types: deb-src
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /k.gpg

Types: deb-src
URIs: http://mirror.test/security
Suites: bookworm-security
Components: contrib main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

END
apt_private_deb822 deb-src "$work/a.sources" "$work/b.sources" >"$work/got"
expect 'deb822 format'
