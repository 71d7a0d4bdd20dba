#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the small guest kernel from the distribution's kernel source package and the options in guest/kernel/, as any user.
# It has no modules and boots in a fraction of the time of the distribution's own. The result is kept in the cache (see
# fetch-sources.sh) under a hash of source, options and compiler: a second build, of this tree or another, is a copy.
#
# usage: build-kernel.sh OUTPUT_DIR        makes OUTPUT_DIR/{vmlinuz,version,config}
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")
cache=${MICROPOD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/micropod}
# shellcheck source=scripts/apt-private.sh
. "$here/apt-private.sh"

die() {
	echo "build-kernel: $*" >&2
	exit 1
}

# apt with the system's own lists or, after apt_private_init, with private ones.
use_private=0
apt_get() {
	if ((use_private)); then apt_private "$@"; else LC_ALL=C apt-get -q "$@"; fi
}

apt_show() {
	if ((use_private)); then LC_ALL=C apt-cache -c "$apt_private_conf" show "$@"; else LC_ALL=C apt-cache show "$@"; fi
}

# Prints the package that the metapackage linux-source stands for now.
source_package() {
	apt_show --no-all-versions linux-source 2>/dev/null | sed -n 's/^Depends: .*\(linux-source-[0-9.]*\).*/\1/p' | head -n 1
}

download() {
	local package
	package=$(source_package)
	[[ $package ]] || return 1
	(cd "$1" && apt_get download "$package" >download.log 2>&1)
}

# Brings the source package into the cache, once; a newer one comes with `rm -r` of what is there.
fetch_source() {
	local folder=$cache/sources/linux work
	[[ ! -e $(echo "$folder"/linux-source-*.deb) ]] || return 0
	echo "build-kernel: fetching the kernel's source" >&2
	work=$(mktemp -d "$cache/.linux.XXXXXX")
	if ! download "$work"; then
		use_private=1
		apt_private_init "$work/.apt" deb || die "cannot fetch the kernel's source"
		apt_private update >"$work/update.log" 2>&1 || true
		download "$work" || {
			cat "$work"/*.log >&2
			rm -rf "$work"
			die "cannot fetch the kernel's source: is the network there?"
		}
	fi
	mkdir -p "$folder"
	mv "$work"/linux-source-*.deb "$folder/"
	rm -rf "$work"
}

key_of() {
	{
		basename "$cache"/sources/linux/*.deb
		cat "$top"/guest/kernel/*.config "$here/build-kernel.sh"
		gcc --version | head -n 1
	} | sha256sum | cut -c1-16
}

# An option that the source does not know, or whose needs are not met, would be left out without a word.
check_options() {
	local option missing=0
	while read -r option; do
		grep -qxF -- "$option" .config && continue
		echo "build-kernel: the kernel does not take $option" >&2
		missing=1
	done < <(grep -h '^CONFIG' "$top"/guest/kernel/*.config)
	return $missing
}

# Prints tar's options that leave out what such a kernel is never made from, two thirds of 1.3 GB: unpacking and removing it takes
# its time. Kconfig and Makefile of all folders stay, for others name them. $1: the folder that the archive unpacks to.
leave_out() {
	local folder
	printf -- '--exclude=%s\n' "$1"/tools/{testing,perf}
	for folder in arch/{alpha,arc,arm,arm64,csky,hexagon,ia64,loongarch,m68k,microblaze,mips,nios2,openrisc,parisc,powerpc,riscv,s390,sh} \
		arch/{sparc,um,xtensa} drivers/{gpu,media,staging,iio,infiniband,scsi,usb} drivers/net/{ethernet,wireless} sound Documentation; do
		printf -- '--exclude=%s\n' "$1/$folder/*."{c,h,S,dts,dtsi,rst,txt,yaml,json,svg}
	done
}

# One chain, because errexit does not hold inside a condition.
build() {
	local work=$1
	local deb name options
	deb=$(echo "$cache"/sources/linux/linux-source-*.deb)
	name=$(basename "$deb") name=${name%%_*}
	mapfile -t options < <(leave_out "$name")
	mkdir "$work/src" &&
		dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$name.tar.xz" |
		tar -xJ -C "$work/src" --strip-components=1 "${options[@]}" &&
		cat "$top"/guest/kernel/*.config >"$work/all.config" &&
		cd "$work/src" &&
		make KCONFIG_ALLCONFIG="$work/all.config" allnoconfig &&
		check_options &&
		make -j"$(nproc)" KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=micropod KBUILD_BUILD_HOST=micropod \
			LOCALVERSION=-micropod bzImage
}

[[ $# == 1 ]] || die "usage: build-kernel.sh OUTPUT_DIR"
out=$1
mkdir -p "$out" "$cache/sources"
exec {lock}>"$cache/.kernel.lock"
flock "$lock"
fetch_source
kernel=$cache/kernel-$(key_of)
if [[ ! -e $kernel/vmlinuz ]]; then
	work=$(mktemp -d "${TMPDIR:-/tmp}/build-kernel.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	echo "build-kernel: building the small kernel (once, some minutes)" >&2
	(build "$work") >"$work/log" 2>&1 </dev/null || {
		grep -E 'build-kernel:|error|Error' "$work/log" | tail -n 20 >&2
		die "the kernel did not build"
	}
	rm -rf "$kernel.new" "$cache"/kernel-*
	mkdir "$kernel.new"
	cp "$work/src/arch/x86/boot/bzImage" "$kernel.new/vmlinuz"
	cp "$work/src/.config" "$kernel.new/config"
	cp "$work/src/include/config/kernel.release" "$kernel.new/version"
	mv "$kernel.new" "$kernel"
fi
for file in vmlinuz version config; do
	cmp -s "$kernel/$file" "$out/$file" || install -m 644 "$kernel/$file" "$out/$file"
done
