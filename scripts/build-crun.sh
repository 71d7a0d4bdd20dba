#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds crun from the distribution's source as one static program, for the guest. The result is kept in the cache
# (see fetch-sources.sh), so that a second build, of this tree or another, is a copy.
#
# usage: build-crun.sh OUTPUT_FILE
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")
cache=${MICROPOD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/micropod}

die() {
	echo "build-crun: $*" >&2
	exit 1
}

# What the cached program was made with: other libraries or another recipe make another one.
key_of() {
	{
		cat "$top/guest/crun-passwd.c" "$here/build-crun.sh"
		basename "$cache"/sources/crun/*.dsc
		dpkg-query -W gcc libc6-dev libcap-dev libseccomp-dev
	} | sha256sum | cut -c1-16
}

# One chain, because errexit does not hold inside a condition.
build() {
	local work=$1
	local -a cflags=(-Os -ffunction-sections -fdata-sections -fstack-protector-strong -D_FORTIFY_SOURCE=2)
	"$here/fetch-sources.sh" --into "$work" crun &&
		cd "$work/crun" &&
		gcc "${cflags[@]}" -D_GNU_SOURCE -c -o "$work/passwd.o" "$top/guest/crun-passwd.c" &&
		# No plug-ins (nothing to dlopen), no systemd (the guest has none).
		./configure --disable-systemd --disable-dl --enable-shared=no --enable-embedded-yajl \
			CPPFLAGS="-I$PWD/libocispec/yajl/src/headers" CFLAGS="${cflags[*]}" LDFLAGS=-static &&
		make -C libocispec/yajl libyajl.la &&
		make -j"$(nproc)" -C libocispec libocispec.la &&
		make .version git-version.h &&
		make -j"$(nproc)" LDFLAGS='-all-static -Wl,--gc-sections' CRUN_LDFLAGS="$work/passwd.o" crun &&
		! nm crun | grep -E ' T (__nss_lookup|getaddrinfo)' &&
		strip crun
}

[[ $# == 1 ]] || die "usage: build-crun.sh OUTPUT_FILE"
out=$1
mkdir -p "$(dirname "$out")" "$cache"
exec {lock}>"$cache/.crun.lock"
flock "$lock"

[[ -d $cache/sources/crun ]] && cached=$cache/crun-$(key_of) || cached=''
if [[ -z $cached || ! -x $cached ]]; then
	work=$(mktemp -d "${TMPDIR:-/tmp}/build-crun.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	echo "build-crun: building crun (once, about a minute)" >&2
	(build "$work") >"$work/log" 2>&1 </dev/null || {
		tail -n 40 "$work/log" >&2
		die "crun did not build"
	}
	cached=$cache/crun-$(key_of)
	cp "$work/crun/crun" "$cached.new"
	mv "$cached.new" "$cached"
fi
cmp -s "$cached" "$out" || install -m 755 "$cached" "$out"
