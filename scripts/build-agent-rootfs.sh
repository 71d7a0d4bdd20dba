#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes agent-rootfs.ext4, a root disk for VMs that do not boot from the initramfs: the agent as /sbin/init, crun, runc and
# /containers. Needs no root: mke2fs copies the files in, and their owner is then set to root inside the image.
# The file system is meant to be mounted read-only and has no journal, so that any number of VMs can share it.
#
# usage: build-agent-rootfs.sh [--files DIR] [--runc FILE] [--modules DIR] [OUTPUT]
#   OUTPUT     default: agent-rootfs.ext4
#   --files    the folder with agent and crun; default: they are built into bin/ of the source tree
#   --runc     default: the installed one
#   --modules  also put a kernel's modules in (the folder "modules" that prepare-guest made), as /lib/modules
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/guest-tree.sh
. "$here/guest-tree.sh"
PATH=$PATH:/usr/sbin:/sbin
umask 022

die() {
	echo "build-agent-rootfs: $*" >&2
	exit 1
}

files='' runc=$(command -v runc || true) modules='' out=agent-rootfs.ext4
while (($#)); do
	case $1 in
	--files | --runc | --modules)
		[[ ${2:-} ]] || die "$1 wants a path"
		declare "${1#--}=$2"
		shift
		;;
	-*) die "unknown option '$1'" ;;
	*) out=$1 ;;
	esac
	shift
done
for program in mke2fs debugfs; do
	command -v "$program" >/dev/null || die "'$program' is missing: install e2fsprogs"
done
[[ $runc ]] || die "runc was not found: install it, or give --runc FILE"
if [[ -z $files ]]; then
	files=$here/../bin
	"$here/build-agent.sh" --arch x86_64 "$files"
	"$here/build-crun.sh" "$files/crun"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/agent-rootfs.XXXXXX")
trap 'rm -rf "$work" "$out.new"' EXIT
tree=$work/tree
mkdir "$tree"
guest_tree_make "$tree" "$files/agent" "$files/crun"
guest_tree_add_runc "$tree" "$runc"
mkdir -p "$tree/sbin"
ln -s ../usr/bin/micropod-agent "$tree/sbin/init"
if [[ $modules ]]; then
	mkdir -p "$tree/lib/modules"
	find "$modules" -maxdepth 1 \( -name order -o -name order.late -o -name '*.ko' \) -exec install -m 644 -t "$tree/lib/modules" {} +
fi

# A quarter more than the files, for the file system's own tables.
kib=$(du -sk --apparent-size "$tree" | cut -f1)
rm -f "$out.new"
truncate -s "$((kib * 5 / 4 + 1024))K" "$out.new"
export E2FSPROGS_FAKE_TIME=1
mke2fs -q -t ext4 -O ^has_journal,^resize_inode -m 0 -L agent-rootfs -U 00000000-0000-4000-8000-6d6963726f70 \
	-E root_owner=0:0,lazy_itable_init=0,hash_seed=00000000-0000-4000-8000-6d6963726f70 -d "$tree" "$out.new"
# mke2fs copies owner and times from the files; debugfs sets them, so that the same input gives the same bytes.
# It reads names in double quotes; none of ours has one.
(
	cd "$tree"
	for field in 'uid 0' 'gid 0' 'atime @0' 'ctime @0' 'mtime @0'; do
		find . -printf "set_inode_field \"/%P\" $field\n"
	done
) >"$work/owners"
debugfs -w -f "$work/owners" "$out.new" >/dev/null 2>"$work/log" || die "debugfs: $(<"$work/log")"
! grep -v '^debugfs [0-9]' "$work/log" >&2 || die "owners and times could not be set"
e2fsck -fn "$out.new" >"$work/log" 2>&1 || die "the file system is not sound: $(<"$work/log")"
mv -f "$out.new" "$out"
