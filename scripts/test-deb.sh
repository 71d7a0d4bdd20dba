#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian package on a clean Debian made for it, from the system's package sources, and runs containers there: as
# root and as an ordinary user. Nothing of the build tree is there, and no package but what the package asks for (and mount,
# which this script needs). As root.
#
# usage: test-deb.sh BUILD
set -euo pipefail

[[ ${1:-} ]] || { echo "usage: test-deb.sh BUILD" >&2 && exit 2; }
((EUID == 0)) || { echo "test-deb.sh: needs root: it makes a root file system and enters it" >&2 && exit 1; }
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/apt-private.sh
. "$here/apt-private.sh"
package=$("$here/build-deb.sh" "$build" "$build/deb")
"$here/make-test-images.sh" "$build/test-images" busybox
work=$(mktemp -d "${TMPDIR:-/tmp}/test-deb.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
chmod 755 "$work"

apt_private_init "$work/apt" deb
options=() sources=()
while read -r line; do
	options+=(--aptopt="$line")
done < <(apt-config dump | grep -E '^Acquire::' | grep -v '^Acquire::IndexTargets')
for line in "$work/apt/sources.list" "$work/apt/sources.list.d/distribution.sources"; do
	[[ ! -s $line ]] || sources+=("$line")
done
# shellcheck disable=SC2016 # mmdebstrap's own shell expands the hooks
mmdebstrap --quiet --variant=apt --include=mount "${options[@]}" \
	--customize-hook="copy-in $package /root" --customize-hook="copy-in $build/test-images/busybox /opt" \
	--customize-hook='chroot "$1" sh -c "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends /root/micropod_*.deb >/dev/null"' \
	--customize-hook='chmod -R a+rX "$1"/opt' --customize-hook='chroot "$1" useradd --create-home --shell /bin/sh somebody' \
	"$(. /etc/os-release && echo "$VERSION_CODENAME")" "$work/root" "${sources[@]}"

cat >"$work/root/root/try.sh" <<'TRY'
set -eu
mount -t sysfs -o ro sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /dev
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
	IFS=: read -r name major minor <<-NODE
		$node
	NODE
	mknod -m 666 "/dev/$name" c "$major" "$minor"
done
mkdir /dev/shm /dev/net
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
ln -s /proc/self/fd /dev/fd
ip link set lo up 2>/dev/null || true
try() {
	"$@" micropod run --rm oci:/opt/busybox:latest sh -c 'echo "Hello from Linux $(uname -r), a VM with $(nproc) CPUs."'
	[ "$("$@" micropod run --name volume -v /etc:/there:ro oci:/opt/busybox:latest cat /there/hostname)" = "$(cat /etc/hostname)" ] ||
		{ "$@" micropod logs --system volume && exit 1; }
	"$@" micropod rm volume >/dev/null
	"$@" micropod run -d --name web -p 127.0.0.1:0:80 oci:/opt/busybox:latest httpd -f >/dev/null
	"$@" micropod exec web echo "exec works"
	"$@" micropod rm -f web >/dev/null
	[ -z "$("$@" micropod ps -aq)" ]
}
echo "as root:"
try env HOME=/root
echo "as somebody:"
try runuser -u somebody -- env HOME=/home/somebody
micropod --help >/dev/null
test -s /usr/share/man/man1/micropod.1.gz
test -s /usr/share/bash-completion/completions/micropod.bash
micropod doctor || true
DEBIAN_FRONTEND=noninteractive apt-get -qq --yes remove micropod >/dev/null 2>&1
[ ! -e /usr/bin/micropod ]
TRY
# A user namespace, which confinement needs, is not to be had in a chroot: the root is a real one.
unshare --mount --pid --net --ipc --uts --fork --kill-child sh -eu -c '
	mount --make-rprivate /
	mount --bind "$1" "$1"
	cd "$1"
	mkdir -p old
	pivot_root . old
	exec chroot . /bin/sh -c "mount -t proc proc /proc && umount -l /old && exec /bin/sh /root/try.sh"' sh "$work/root"
echo "test-deb: installed, used and removed on a clean Debian"
