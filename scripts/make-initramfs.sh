#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the guest's initramfs, as any user: a newc archive whose files belong to root, the same bytes for the same input.
# It is not compressed: the host pays with page cache it shares among all VMs, the guest saves the time to unpack.
#
#   /init -> /usr/bin/micropod-agent, /usr/bin/crun, empty folders to mount on, and in /lib/modules: *.ko; order, what to load
#   at boot, one file name a line, in that order; order.late, what to load only when it is wanted
#
# usage: make-initramfs.sh --agent FILE --crun FILE --modules DIR [--runc FILE] OUTPUT
#   --modules  a folder with *.ko and order
#   --runc     also put this runc in, with the shared libraries it needs
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=scripts/guest-tree.sh
. "$here/guest-tree.sh"

die() {
	echo "make-initramfs: $*" >&2
	exit 1
}

agent='' crun='' modules='' runc='' out=''
while (($#)); do
	case $1 in
	--agent | --crun | --modules | --runc)
		[[ ${2:-} ]] || die "$1 wants a file"
		declare "${1#--}=$2"
		shift
		;;
	-*) die "unknown option '$1'" ;;
	*) out=$1 ;;
	esac
	shift
done
[[ $agent && $crun && $modules && $out ]] || die "usage: make-initramfs.sh --agent FILE --crun FILE --modules DIR [--runc FILE] OUTPUT"

tree=$(mktemp -d "${TMPDIR:-/tmp}/initramfs.XXXXXX")
trap 'rm -rf "$tree" "$out.new"' EXIT
umask 022

guest_tree_make "$tree" "$agent" "$crun"
ln -s usr/bin/micropod-agent "$tree/init"
mkdir -p "$tree/lib/modules"
# A kernel with everything built in has none.
find "$modules" -maxdepth 1 \( -name order -o -name order.late -o -name '*.ko' \) -exec install -m 644 -t "$tree/lib/modules" {} +
[[ -z $runc ]] || guest_tree_add_runc "$tree" "$runc"

find "$tree" -exec touch -h -d @0 {} +
(cd "$tree" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
	cpio --quiet --null --create --format=newc --owner=0:0 --reproducible) >"$out.new"
mv -f "$out.new" "$out"
