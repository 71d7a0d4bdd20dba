#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Prepares what every VM starts from, below ROOT/guest, as any user and without installing anything into the system:
#
#   ROOT/guest/<kernel version>/{vmlinuz,modules/}   from the distribution's cloud kernel package, or the small one
#   ROOT/guest/<key>/{initramfs.cpio,initramfs-runc.cpio}              the second one only where runc is installed
#   ROOT/guest/{small,cloud}.json                                      which of them belong together, replaced in one step
#   ROOT/guest/current.json                                            the same for the kind that is used unless one is asked for
#
# Done at once, and without network, when nothing has changed. Two at the same time do the work once.
#
# usage: prepare-guest [--progress] [--update] [--kind small|cloud] [--files DIR] ROOT
#   --progress  say on stderr what is being done
#   --update    ask the distribution for a newer cloud kernel
#   --kind      small: the kernel of `make kernel`; cloud: the distribution's; default: small if it has been built
#   --files     the folder with agent, crun and, if it has been built, kernel/; default: where they were installed
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
# Beside this script: with their .sh in the source tree, without it where they are installed.
helper() {
	if [[ -e $here/$1.sh ]]; then echo "$here/$1.sh"; else echo "$here/$1"; fi
}
# shellcheck source=scripts/apt-private.sh
. "$here/apt-private.sh"

# What a guest needs to answer and to run a container (modules/order), and what it may want later (modules/order.late).
# Each module costs an emulated guest 10 to 80 ms. Those that a kernel has built in, or does not have, are left out.
boot_modules=(virtio_mmio virtio_blk virtio_console virtio_net virtio_rng virtio_balloon overlay ext4)
late_modules=(virtio_pci vsock vmw_vsock_virtio_transport fuse virtiofs erofs 9pnet_virtio 9p)

die() {
	echo "prepare-guest: $*" >&2
	exit 1
}

say() {
	((progress == 0)) || echo "prepare-guest: $*" >&2
}

progress=0 update=0 kind='' files=$here/../../lib/micropod root=''
while (($#)); do
	case $1 in
	--progress) progress=1 ;;
	--update) update=1 ;;
	--kind) kind=${2:-} && shift ;;
	--kind=*) kind=${1#*=} ;;
	--files) files=${2:-} && shift ;;
	-*) die "unknown option '$1'" ;;
	*) root=$1 ;;
	esac
	shift
done
[[ $root ]] || die "usage: prepare-guest [--progress] [--update] [--kind small|cloud] [--files DIR] ROOT"
[[ $root != *[[:cntrl:]]* ]] || die "the root's path must not contain control characters"
for file in agent crun; do
	[[ -r $files/$file ]] || die "$files/$file is not there: build or install micropod first"
done
# Which kind is the usual one is a matter of what was built and installed, not of a wish for once.
if [[ -e $files/kernel/vmlinuz ]]; then usual=small; else usual=cloud; fi
kind=${kind:-$usual}
case $kind in
cloud) programs=(apt-get cpio dpkg-deb depmod:kmod modprobe:kmod) ;;
small)
	programs=(cpio)
	[[ $usual == small ]] || die "the small kernel is not there: make kernel builds it, make install installs it"
	;;
*) die "'$kind' is no kind of kernel: it is small or cloud" ;;
esac
for program in "${programs[@]}"; do
	PATH=$PATH:/usr/sbin:/sbin command -v "${program%:*}" >/dev/null || die "'${program%:*}' is missing: install ${program#*:}"
done
PATH=$PATH:/usr/sbin:/sbin
runc=$(command -v runc || true)

umask 077
mkdir -p "$root/guest"
root=$(cd "$root" && pwd)
guest=$root/guest
exec {lock}>"$guest/.lock"
flock "$lock"

work=''
trap '[[ -z $work ]] || rm -rf "$work"' EXIT

# Whether $guest/$1 holds a kernel with the modules that this script wants, not those that an earlier one wanted.
complete() {
	[[ $(cat "$guest/$1/modules/wanted" 2>/dev/null) == "${boot_modules[*]} / ${late_modules[*]}" ]]
}

# The version of the cloud kernel in cloud.json, if it is still there.
current_kernel() {
	local version
	version=$(sed -n 's/^ *"version": "\([^"]*\)".*/\1/p' "$guest/cloud.json" 2>/dev/null) || true
	[[ -z $version ]] || ! complete "$version" || echo "$version"
}

# apt with the system's own lists or, after apt_private_init, with private ones.
use_private=0
apt_get() {
	if ((use_private)); then apt_private "$@"; else LC_ALL=C apt-get -q "$@"; fi
}

apt_show() {
	if ((use_private)); then LC_ALL=C apt-cache -c "$apt_private_conf" show "$@"; else LC_ALL=C apt-cache show "$@"; fi
}

# Prints the package that the cloud kernel's metapackage stands for now.
kernel_package() {
	apt_show --no-all-versions "linux-image-cloud-$(dpkg --print-architecture)" 2>/dev/null |
		sed -n 's/^Depends: .*\(linux-image-[0-9][^ ,|]*-cloud-[a-z0-9]*\).*/\1/p' | head -n 1
}

download_kernel() {
	package=$(kernel_package)
	[[ $package ]] || return 1
	! complete "${package#linux-image-}" || return 0
	say "downloading the kernel package $package"
	(cd "$work" && apt_get download "$package" >download.log 2>&1)
}

# Sets package, and leaves its .deb in $work unless it is already unpacked. The system's package lists may be missing, or
# older than the mirror; then private ones are fetched.
find_kernel() {
	if ((update == 0)) && download_kernel; then
		return
	fi
	use_private=1
	apt_private_init "$guest/.apt" deb || die "cannot get the kernel package"
	say "fetching the distribution's package lists"
	apt_private update >"$work/update.log" 2>&1 || true
	download_kernel && return
	cat "$work/update.log" "$work/download.log" >&2 2>/dev/null || true
	die "cannot download the distribution's cloud kernel: is the network there?"
}

# take_modules FOLDER VERSION LIST NAME...: copies the modules and what they depend on from $work/tree to FOLDER, and appends
# their file names to FOLDER/LIST in the order to load them, unless they are in an earlier list.
take_modules() {
	local out=$1 version=$2 list=$3 name path file
	shift 3
	: >"$out/$list"
	for name in "$@"; do
		while read -r _ path _; do
			file=$(basename "$path")
			file=${file%.xz} file=${file%.zst}
			[[ ! -e $out/$file ]] || continue
			case $path in
			*.xz) xz -dc "$path" >"$out/$file" ;;
			*.zst) zstd -qdc "$path" >"$out/$file" ;;
			*) cp "$path" "$out/$file" ;;
			esac
			echo "$file" >>"$out/$list"
		done < <(modprobe -d "$work/tree" -S "$version" --show-depends "$name" 2>/dev/null | grep '^insmod ')
	done
}

# Unpacks the package in $work as $guest/$1: vmlinuz, and the modules that are wanted.
unpack_kernel() {
	local version=$1 tree=$work/tree out=$work/kernel
	say "unpacking kernel $version"
	dpkg-deb -x "$work/linux-image-$version"_*.deb "$tree"
	mkdir -p "$out/modules"
	mv "$tree/boot/vmlinuz-$version" "$out/vmlinuz"
	# Kernels come with /lib or, later, with /usr/lib; depmod looks below /lib.
	[[ -e $tree/lib/modules ]] || ln -s usr/lib "$tree/lib"
	depmod -b "$tree" "$version"
	take_modules "$out/modules" "$version" order "${boot_modules[@]}"
	take_modules "$out/modules" "$version" order.late "${late_modules[@]}"
	[[ -s $out/modules/order ]] || die "no modules were found in the package of kernel $version"
	echo "${boot_modules[*]} / ${late_modules[*]}" >"$out/modules/wanted"
	rm -rf "${guest:?}/$version"
	mv "$out" "$guest/$version"
}

# The small kernel as $guest/$1, which names its contents: it needs no modules.
take_small_kernel() {
	local out=$guest/$1
	[[ ! -e $out/vmlinuz ]] || return 0
	[[ $work ]] || work=$(mktemp -d "$guest/.new.XXXXXX")
	say "taking the small kernel $(<"$files/kernel/version")"
	mkdir -p "$work/kernel/modules"
	cp "$files/kernel/vmlinuz" "$work/kernel/"
	touch "$work/kernel/modules/order" "$work/kernel/modules/order.late"
	rm -rf "${out:?}"
	mv "$work/kernel" "$out"
}

# A hash of everything that the initramfs is made from.
key_of() {
	{
		sha256sum <"$files/agent"
		sha256sum <"$files/crun"
		[[ -z $runc ]] || sha256sum <"$runc"
		sha256sum <"$(helper make-initramfs)"
		cat "$guest/$1/modules/order" "$guest/$1/modules/order.late"
		echo "$1"
	} | sha256sum | cut -c1-16
}

make_initramfs() {
	local version=$1 out=$work/initramfs
	local -a args=(--agent "$files/agent" --crun "$files/crun" --modules "$guest/$version/modules")
	say "making the initramfs"
	mkdir "$out"
	"$(helper make-initramfs)" "${args[@]}" "$out/initramfs.cpio"
	[[ -z $runc ]] || "$(helper make-initramfs)" "${args[@]}" --runc "$runc" "$out/initramfs-runc.cpio"
	rm -rf "${guest:?}/$2"
	mv "$out" "$guest/$2"
}

quoted_part() {
	local text=${1//\\/\\\\}
	printf '%s' "${text//\"/\\\"}"
}

quoted() {
	printf '"%s"' "$(quoted_part "$1")"
}

# folder: of the kernel
write_current() {
	local folder=$1 version=$2 key=$3
	{
		printf '{\n  "kernel": %s,\n' "$(quoted "$guest/$folder/vmlinuz")"
		printf '  "initramfs": %s,\n' "$(quoted "$guest/$key/initramfs.cpio")"
		[[ -z $runc ]] || printf '  "initramfs_runc": %s,\n' "$(quoted "$guest/$key/initramfs-runc.cpio")"
		printf '  "version": %s,\n  "kind": "%s",\n  "key": %s\n}\n' "$(quoted "$version")" "$kind" "$(quoted "$key")"
	} >"$work/current.json"
	cp "$work/current.json" "$work/$kind.json"
	sync "$guest/$folder" "$guest/$key" "$work/current.json" "$work/$kind.json"
	mv -f "$work/$kind.json" "$guest/$kind.json"
	[[ $kind != "$usual" ]] || mv -f "$work/current.json" "$guest/current.json"
}

# Whether $1 says the same as before.
is_current() {
	[[ -e $guest/$3/initramfs.cpio ]] && grep -qF "\"$3\"" "$guest/$1" 2>/dev/null &&
		grep -qF "$(quoted "$guest/$2/vmlinuz")" "$guest/$1"
}

# Former kernels and initramfs go after a day: a sandbox that is starting just now may still want them.
remove_former() {
	local folder
	while read -r folder; do
		grep -qF "$(quoted_part "$guest/$folder/")" "$guest"/*.json || rm -rf "${guest:?}/$folder"
	done < <(find "$guest" -mindepth 1 -maxdepth 1 -type d ! -name .apt ! -name '.new.*' -mtime +0 -printf '%f\n')
	find "$guest" -mindepth 1 -maxdepth 1 -name '.new.*' -mtime +0 -exec rm -rf {} +
}

if [[ $kind == small ]]; then
	version=$(<"$files/kernel/version")
	folder=small-$(sha256sum <"$files/kernel/vmlinuz" | cut -c1-16)
	take_small_kernel "$folder"
else
	version=$(current_kernel)
	if ((update)) || [[ -z $version ]]; then
		work=$(mktemp -d "$guest/.new.XXXXXX")
		find_kernel
		version=${package#linux-image-}
		complete "$version" || unpack_kernel "$version"
		rm -rf "${guest:?}/.apt"
	fi
	folder=$version
fi
key=$(key_of "$folder")
if is_current "$kind.json" "$folder" "$key" && { [[ $kind != "$usual" ]] || is_current current.json "$folder" "$key"; }; then
	exit 0
fi
[[ $work ]] || work=$(mktemp -d "$guest/.new.XXXXXX")
[[ -e $guest/$key/initramfs.cpio ]] || make_initramfs "$folder" "$key"
write_current "$folder" "$version" "$key"
remove_former
say "ready: kernel $version"
