#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes a Debian package of what BUILD has built: programs, agent and guest scripts, completion, the manual page; the small
# kernel and the other agents if they are there. As any user; the files in it are root's.
#
# usage: build-deb.sh BUILD OUTPUT_DIR      prints the package's path
set -euo pipefail

[[ ${2:-} ]] || { echo "usage: build-deb.sh BUILD OUTPUT_DIR" >&2 && exit 2; }
build=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

value_of() {
	meson introspect "$build" "$1" | python3 -c "import json, sys; $2"
}

version=$(value_of --projectinfo 'print(json.load(sys.stdin)["version"])')
prefix=$(value_of --buildoptions 'print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')
arch=$(dpkg --print-architecture)

# The programs find each other from where they are, so the prefix they were built for is no part of them.
DESTDIR=$work/dest meson install -C "$build" --no-rebuild --quiet
mkdir -p "$work/package/usr"
cp -a "$work/dest$prefix/." "$work/package/usr/"
if [[ -e $build/guest/kernel/vmlinuz ]]; then
	install -D -m 644 -t "$work/package/usr/lib/micropod/kernel" "$build/guest/kernel/"{vmlinuz,version}
fi
for agent in agent-arm64 micropod-agent-tls; do
	[[ ! -e $build/agents/$agent ]] || install -m 755 -t "$work/package/usr/lib/micropod" "$build/agents/$agent"
done
doc=$work/package/usr/share/doc/micropod
mkdir -p "$doc"
cp "$here/../README.md" "$here/../SECURITY.md" "$here"/../docs/*.md "$doc/"
cp "$here/../LICENSE" "$doc/copyright"
gzip -9n "$work/package/usr/share/man/man1/micropod.1"
find "$work/package/usr/bin" "$work/package/usr/libexec" -type f -exec sh -c 'file -b "$1" | grep -q ^ELF && strip "$1"' sh {} \; || true
find "$work/package" -type d -exec chmod 755 {} +

# What the programs are linked with, by the packages that these libraries are from.
mkdir -p "$work/debian"
printf 'Source: micropod\n\nPackage: micropod\nArchitecture: any\nDescription: micropod\n' >"$work/debian/control"
mapfile -t programs < <(find "$work/package/usr/bin" "$work/package/usr/libexec" -type f -exec sh -c 'file -b "$1" | grep -q "^ELF.*dynamically" && echo "$1"' sh {} \;)
libraries=$(cd "$work" && dpkg-shlibdeps -O "${programs[@]}" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')

mkdir -p "$work/package/DEBIAN"
cat >"$work/package/DEBIAN/control" <<CONTROL
Package: micropod
Version: $version
Architecture: $arch
Maintainer: The micropod developers <micropod@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$work/package" | cut -f1)
Depends: $libraries, qemu-system-x86, skopeo, cpio, kmod, e2fsprogs, zstd, xz-utils, dpkg-dev, util-linux
Recommends: uidmap, runc, ca-certificates
Suggests: docker.io, podman
Section: admin
Priority: optional
Description: runs OCI images, each in a virtual machine of its own
 Without root, without a daemon, with or without KVM. The same agent runs in
 containers of a Docker Engine, and a server makes many hosts one.
CONTROL
(cd "$work/package" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$work/package/DEBIAN/md5sums"

package=$out/micropod_${version}_$arch.deb
dpkg-deb --root-owner-group -Zxz --build "$work/package" "$package" >/dev/null
echo "$package"
