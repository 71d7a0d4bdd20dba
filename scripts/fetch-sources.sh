#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Gets the source packages that are built into the static guest programs, from the distribution and verified by apt.
# Needs no root and leaves the system's apt state alone. What was fetched once is kept in the cache
# (MICROPOD_CACHE, else $XDG_CACHE_HOME/micropod, else ~/.cache/micropod) and shared by all source trees.
#
# usage: fetch-sources.sh                  the agent's libraries, into subprojects/NAME with our meson.build laid over
#        fetch-sources.sh --into DIR NAME  one source package, unpacked as DIR/NAME
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")
# shellcheck source=scripts/apt-private.sh
. "$here/apt-private.sh"

agent_libraries=(nghttp2 protobuf-c jansson zlib)
cache=${MICROPOD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/micropod}/sources

die() {
	echo "fetch-sources: $*" >&2
	exit 1
}

# The .dsc of source package $1 in the cache; nothing if it is not there.
cached_dsc() {
	local dsc
	for dsc in "$cache/$1"/*.dsc; do
		[[ -e $dsc ]] && echo "$dsc" && return
	done
	return 0
}

# The versions that the index has of source package $1, newest first.
versions_of() {
	LC_ALL=C apt-cache -c "$apt_private_conf" showsrc --only-source "$1" 2>/dev/null |
		awk -v name="$1" '/^Package:/ { ours = $2 == name } /^Version:/ && ours { print $2 }' | sort -ruV
}

# Any version of source package $1 that can be had, the newest first, into this folder. The mirror of the security archive
# does not always have the sources whose index it has; an older one is taken aloud.
download_one() {
	local version newest=''
	for version in $(versions_of "$1"); do
		newest=${newest:-$version}
		if apt_private source --download-only "$1=$version" >>.log 2>&1; then
			[[ $version == "$newest" ]] ||
				echo "fetch-sources: the source of $1 $newest cannot be had: taking $version" >&2
			return 0
		fi
		find . -type f ! -name .log -delete
	done
	return 1
}

# Brings source package $1 into the cache. apt checks the files against the signed index.
download() {
	local name=$1 tmp
	mkdir -p "$cache"
	exec {lock}>"$cache/.lock"
	flock "$lock"
	if [[ -z $(cached_dsc "$name") ]]; then
		echo "fetch-sources: fetching the source of $name" >&2
		apt_private_init "$cache/.apt" deb-src || die "cannot fetch $name"
		tmp=$(mktemp -d "$cache/.$name.XXXXXX")
		chmod 755 "$tmp"
		# An index that another package source does not offer is no reason to stop: the download below decides.
		[[ -n $(find "$cache/.apt/state/lists" -name '*_Sources*' -mmin -360 -print -quit) ]] ||
			apt_private update >"$tmp/.log" 2>&1 || true
		if ! (cd "$tmp" && download_one "$name"); then
			# The mirror may have moved on since the index was read.
			apt_private update >>"$tmp/.log" 2>&1 || true
			if ! (cd "$tmp" && download_one "$name"); then
				cat "$tmp/.log" >&2
				rm -rf "$tmp"
				die "cannot fetch the source of $name: is the network there?"
			fi
		fi
		rm -f "$tmp/.log"
		rm -rf "${cache:?}/$name"
		mv "$tmp" "$cache/$name"
	fi
	exec {lock}>&-
}

# Unpacks source package $1 as folder $2 (which must not be there). The packager's patches are applied.
unpack() {
	local log
	# apt has verified the files; dpkg-source only lacks the maintainer's key, hence --no-check.
	if ! log=$(dpkg-source --no-check --no-copy -x "$(cached_dsc "$1")" "$2" 2>&1); then
		echo "$log" >&2
		rm -rf "$2"
		die "cannot unpack the source of $1"
	fi
}

# What subprojects/$1 must be made from: the version and our overlay.
stamp_of() {
	basename "$(cached_dsc "$1")"
	(cd "$top/subprojects/packagefiles/$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
}

make_subproject() {
	local name=$1 dir=$top/subprojects/$1 tmp stamp
	stamp=$(stamp_of "$name")
	[[ -e $dir/.stamp && $(<"$dir/.stamp") == "$stamp" ]] && return
	tmp=$(mktemp -d "$top/subprojects/.$name.XXXXXX")
	unpack "$name" "$tmp/src"
	cp -R "$top/subprojects/packagefiles/$name/." "$tmp/src/"
	echo "$stamp" >"$tmp/src/.stamp"
	rm -rf "$dir"
	mv -T "$tmp/src" "$dir"
	rmdir "$tmp"
}

case ${1:-} in
--into)
	[[ $# == 3 ]] || die "usage: fetch-sources.sh --into DIR NAME"
	[[ $(cached_dsc "$3") ]] || download "$3"
	mkdir -p "$2"
	[[ -e $2/$3 ]] || unpack "$3" "$2/$3"
	;;
"")
	mkdir -p "$top/subprojects"
	exec {tree_lock}>"$top/subprojects/.lock"
	flock "$tree_lock"
	for name in "${agent_libraries[@]}"; do
		[[ $(cached_dsc "$name") ]] || download "$name"
		make_subproject "$name"
	done
	;;
*) die "unknown argument '$1': usage: fetch-sources.sh [--into DIR NAME]" ;;
esac
