#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Removes the files that `meson install` puts below the prefix BUILD is configured for, and the folders of our own that are
# then empty. Needs no log of the installation. What users made (images, sandboxes) stays: see docs/install.md.
#
# usage: [DESTDIR=DIR] uninstall.sh BUILD
set -euo pipefail

[[ ${1:-} ]] || { echo "usage: uninstall.sh BUILD" >&2 && exit 2; }
mapfile -t files < <(meson introspect "$1" --installed |
	python3 -c 'import json, sys; print("\n".join(sorted(set(json.load(sys.stdin).values()))))')
# The small kernel and the other agents are installed beside meson's files, when they have been built.
prefix=$(meson introspect "$1" --buildoptions | python3 -c 'import json, sys; print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')
rm -rf "${DESTDIR:-}$prefix/lib/micropod/kernel"
rm -f "${DESTDIR:-}$prefix/lib/micropod/"{agent-arm64,micropod-agent-tls}
for file in "${files[@]}"; do
	[[ $file == /* ]] || continue
	rm -f "${DESTDIR:-}$file"
	folder=$(dirname "${DESTDIR:-}$file")
	[[ $(basename "$folder") != micropod ]] || rmdir "$folder" 2>/dev/null || true
done
echo "removed ${#files[@]} files"
