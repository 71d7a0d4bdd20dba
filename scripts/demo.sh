#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs a container in a VM and shows its output: what `make demo` ends with. Everything it makes is below BUILD.
#
# usage: demo.sh BUILD
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ ${1:-} ]] || { echo "usage: demo.sh BUILD" >&2 && exit 2; }
build=$(cd "$1" && pwd)
root=$build/demo-root

"$here/make-test-images.sh" "$build/test-images" busybox
"$build/guest/prepare-guest" --progress "$root"
guest_kernel=$("$build/src/cli/micropod" --root "$root" run --rm "oci:$build/test-images/busybox:latest" uname -r)
echo
echo "The host runs Linux $(uname -r)."
echo "The container, in its own VM, runs Linux $guest_kernel."
[[ $guest_kernel && $guest_kernel != "$(uname -r)" ]]
# shellcheck disable=SC2016 # the container expands it
"$build/src/cli/micropod" --root "$root" run --rm "oci:$build/test-images/busybox:latest" \
	sh -c 'echo "Hello from $(hostname): $(nproc) CPUs, $(free -m | awk "/Mem/{print \$2}") MB, process $$ of $(ps | wc -l)."'
