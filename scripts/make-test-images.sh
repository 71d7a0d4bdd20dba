#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the images that demo and tests run, as OCI layouts OUTDIR/NAME with the tag latest, from the distribution's packages:
#   busybox  the static busybox, one layer
#   debian   a minimal Debian, one layer
#   nginx    a minimal Debian with nginx, set up as the well-known image of that name: two layers
#   software a minimal Debian with what people run: PostgreSQL, redis, Python, gcc, strace, gdb, systemd, iperf3
#   builder  a minimal Debian with buildah, for micropod build
# Works as root or as an ordinary user (then in a user namespace). Made once, then kept in the cache (see fetch-sources.sh).
#
# usage: make-test-images.sh OUTDIR [NAME]...      (default: all)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/apt-private.sh
. "$here/apt-private.sh"
cache=${MICROPOD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/micropod}
path_env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umask 022

die() {
	echo "make-test-images: $*" >&2
	exit 1
}

# new_image LAYOUT LAYER.tar...: an image with these layers and no configuration yet
new_image() {
	local layout=$1 layer
	shift
	umoci init --layout "$layout"
	umoci new --image "$layout:latest"
	for layer in "$@"; do
		umoci raw add-layer --image "$layout:latest" "$layer"
	done
	umoci config --image "$layout:latest" --architecture "$(dpkg --print-architecture)" --os linux \
		--config.env "$path_env" --config.workingdir /
}

pack() {
	tar -C "$1" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$2" .
}

make_busybox() {
	local tree=$work/busybox-tree applet
	mkdir -p "$tree"/{bin,sbin,usr/bin,usr/sbin,dev,proc,sys,etc,home,root,tmp,var/www,run}
	chmod 1777 "$tree/tmp"
	chmod 700 "$tree/root"
	install -m 755 "$(command -v busybox)" "$tree/bin/busybox"
	while read -r applet; do
		[[ -e $tree/$applet ]] || ln -s /bin/busybox "$tree/$applet"
	done < <("$tree/bin/busybox" --list-full | grep -E '^(usr/)?s?bin/')
	printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n' \
		>"$tree/etc/passwd"
	printf 'root:x:0:\ndaemon:x:1:\nwww-data:x:33:nobody\nnogroup:x:65534:\n' >"$tree/etc/group"
	pack "$tree" "$work/busybox.tar"
	new_image "$1" "$work/busybox.tar"
	umoci config --image "$1:latest" --config.cmd sh
}

# bootstrap OUTPUT.tar [MMDEBSTRAP-ARGUMENT]...: a minimal Debian of this release, from the system's own package sources
bootstrap() {
	local out=$1 line codename
	local -a options=()
	shift
	apt_private_init "$work/apt" deb
	# Proxies and the like are the system's; lists of hooks are not.
	while read -r line; do
		options+=(--aptopt="$line")
	done < <(apt-config dump | grep -E '^Acquire::' | grep -v '^Acquire::IndexTargets')
	codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
	local -a sources=()
	for line in "$work/apt/sources.list" "$work/apt/sources.list.d/distribution.sources"; do
		[[ ! -s $line ]] || sources+=("$line")
	done
	# shellcheck disable=SC2016 # mmdebstrap's own shell expands the hook
	mmdebstrap --quiet --variant=essential "${options[@]}" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
		--customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/* "$1"/var/log/*.log' \
		"$@" "$codename" "$out" "${sources[@]}"
}

make_debian() {
	bootstrap "$work/debian.tar"
	new_image "$1" "$work/debian.tar"
	umoci config --image "$1:latest" --config.cmd bash
}

make_nginx() {
	local tree=$work/nginx-tree
	bootstrap "$work/nginx.tar" --include=nginx-light
	mkdir -p "$tree/var/log/nginx"
	ln -s /dev/stdout "$tree/var/log/nginx/access.log"
	ln -s /dev/stderr "$tree/var/log/nginx/error.log"
	tar -C "$tree" --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$work/nginx-logs.tar" \
		var/log/nginx/access.log var/log/nginx/error.log
	new_image "$1" "$work/nginx.tar" "$work/nginx-logs.tar"
	umoci config --image "$1:latest" --config.cmd nginx --config.cmd -g --config.cmd 'daemon off;' \
		--config.exposedports 80/tcp --config.stopsignal SIGQUIT
}

make_software() {
	bootstrap "$work/software.tar" \
		--include=postgresql,redis-server,redis-tools,python3,gcc,libc6-dev,make,strace,gdb,systemd-sysv,iperf3,procps
	new_image "$1" "$work/software.tar"
	umoci config --image "$1:latest" --config.cmd bash
}

make_builder() {
	bootstrap "$work/builder.tar" --include=buildah
	new_image "$1" "$work/builder.tar"
	umoci config --image "$1:latest" --config.cmd bash
}

# Any change of this recipe or of the release makes other images.
key_of() {
	{
		cat "${BASH_SOURCE[0]}"
		. /etc/os-release && echo "$ID $VERSION_ID"
	} | sha256sum | cut -c1-12
}

[[ ${1:-} && $1 != -* ]] || die "usage: make-test-images.sh OUTDIR [NAME]..."
out=$1
shift
names=("$@")
((${#names[@]})) || names=(busybox debian nginx software builder)
mkdir -p "$out" "$cache/images"
exec {lock}>"$cache/images/.lock"
flock "$lock"

work=''
trap '[[ -z $work ]] || rm -rf "$work"' EXIT
key=$(key_of)
for name in "${names[@]}"; do
	declare -F "make_$name" >/dev/null || die "no recipe for an image '$name'"
	made=$cache/images/$name-$key
	if [[ ! -e $made ]]; then
		[[ $work ]] || work=$(mktemp -d "${TMPDIR:-/tmp}/test-images.XXXXXX")
		chmod 755 "$work"
		echo "make-test-images: making $name" >&2
		rm -rf "$cache/images/$name"-*
		"make_$name" "$work/$name"
		cp -R "$work/$name" "$made.new"
		mv "$made.new" "$made"
	fi
	if [[ ! -e $out/$name/.key || $(<"$out/$name/.key") != "$key" ]]; then
		rm -rf "${out:?}/$name"
		cp -R --reflink=auto "$made" "$out/$name"
		echo "$key" >"$out/$name/.key"
	fi
done
