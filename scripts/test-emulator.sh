#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Prints the path of a qemu-aarch64 for user programs that knows openat2(2), without which no agent runs: QEMU 9.2 or later. Where the
# system's is older, the one of the release's backports is fetched into the cache (see fetch-sources.sh), verified by apt.
# Needs no root.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/apt-private.sh
. "$here/apt-private.sh"
cache=${MICROPOD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/micropod}/emulator
least=9.2

die() {
	echo "test-emulator: $*" >&2
	exit 1
}

# Whether program $1 is new enough.
is_good() {
	local version
	version=$("$1" --version 2>/dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p') || return 1
	[[ $version && $(printf '%s\n%s\n' "$least" "$version" | sort -V | head -1) == "$least" ]]
}

# The distribution's package sources as they are, but of the suite of backports.
use_backports() {
	local codename
	codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
	sed -i '/security/d; s/^\(deb \(\[[^]]*\] *\)\?[^ ]* *\)[^ ]*/\1'"$codename"'-backports/' "$cache/.apt/sources.list"
	awk -v RS= '!/security/ { print $0 "\n" }' "$cache/.apt/sources.list.d/distribution.sources" |
		sed "s/^Suites:.*/Suites: $codename-backports/" >"$cache/.apt/new"
	mv "$cache/.apt/new" "$cache/.apt/sources.list.d/distribution.sources"
}

fetch() {
	apt_private_init "$cache/.apt" deb && use_backports && apt_private update &&
		(cd "$cache" && rm -f ./*.deb && apt_private download qemu-user && dpkg-deb -x qemu-user_*.deb . && rm -f ./*.deb)
}

mkdir -p "$cache"
exec {lock}>"$cache/.lock"
flock "$lock"
for program in "$(command -v qemu-aarch64-static || true)" "$(command -v qemu-aarch64 || true)" "$cache/usr/bin/qemu-aarch64"; do
	if [[ $program ]] && is_good "$program"; then
		echo "$program"
		exit
	fi
done
fetch >"$cache/log" 2>&1 || {
	tail -n 20 "$cache/log" >&2
	die "cannot fetch a qemu-user of version $least or later: is the network there?"
}
is_good "$cache/usr/bin/qemu-aarch64" || die "the qemu-user that was fetched does not run"
echo "$cache/usr/bin/qemu-aarch64"
