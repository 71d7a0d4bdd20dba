#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests of a build tree and counts the results: meson's (unit, lint, fuzz corpora, interop, programs) and pytest's
# (tests/integration, tests/e2e). Kernel, guest and test images are made before, below BUILD. Ends with one line,
# "N passed, N failed, N skipped", and fails if a test failed, or was skipped without standing in tests/skips.txt.
#
# usage: test.sh [--long|--kvm|--no-e2e] BUILD
#   --long    full counts of cycles, outages and soaks (MICROPOD_TEST_LONG=1), and meson's suite "long"
#   --kvm     the end-to-end tests only, with KVM (MICROPOD_TEST_ACCEL=kvm)
#   --no-e2e  leave the end-to-end tests out: a build tree without guest
#
# What the tests find in their environment: MICROPOD_BUILD (the build tree), MICROPOD_TEST_IMAGES (a folder of OCI layouts),
# MICROPOD_TEST_GUEST (a micropod root in which kernel and guest are prepared).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")

long=0 kvm=0 e2e=1 build=''
for arg in "$@"; do
	case $arg in
	--long) long=1 ;;
	--kvm) kvm=1 ;;
	--no-e2e) e2e=0 ;;
	-*) echo "test: unknown option '$arg'" >&2 && exit 2 ;;
	*) build=$arg ;;
	esac
done
[[ $build ]] || { echo "usage: test.sh [--long|--kvm|--no-e2e] BUILD" >&2 && exit 2; }
build=$(cd "$build" && pwd)
results=$build/test-results
rm -rf "$results"
mkdir -p "$results"

export MICROPOD_BUILD=$build
folders=("$top/tests/integration")
left_out=()
# The guest of test_init has crun and the agent in it, which a build without guest does not make.
((e2e)) || left_out+=(--ignore "$top/tests/integration/test_init.py")
if ((e2e)); then
	folders+=("$top/tests/e2e")
	export MICROPOD_TEST_IMAGES=$build/test-images MICROPOD_TEST_GUEST=$build/test-root
	"$here/make-test-images.sh" "$MICROPOD_TEST_IMAGES"
	for kind in cloud small; do
		"$build/guest/prepare-guest" --progress --kind "$kind" "$MICROPOD_TEST_GUEST"
	done
	for options in "" "--kernel=cloud" "--no-network" "--runtime=runc" "--kernel=cloud --runtime=runc"; do
		# shellcheck disable=SC2086 # several words
		"$build/src/cli/micropod" --root "$MICROPOD_TEST_GUEST" template build --quiet $options >/dev/null
	done
fi
((long == 0)) || export MICROPOD_TEST_LONG=1
if ((kvm)); then
	folders=("$top/tests/e2e")
	export MICROPOD_TEST_ACCEL=kvm
fi

failed=0
if ((kvm == 0)); then
	suites=(--no-suite long)
	((long == 0)) || suites=()
	meson test -C "$build" --no-rebuild --print-errorlogs ${suites[@]+"${suites[@]}"} || failed=1
	cp "$build/meson-logs/testlog.json" "$results/meson.json" || failed=1
fi
for folder in "${folders[@]}"; do
	# pytest says 5 when it found no tests.
	[[ -e $folder ]] || continue
	# Debian's python, whose packages install-deps.sh installs; the one in PATH may be another.
	/usr/bin/python3 -m pytest -p no:cacheprovider -ra --junitxml "$results/pytest-${folder##*/}.xml" \
		${left_out[@]+"${left_out[@]}"} "$folder" || failed=1
done
/usr/bin/python3 "$here/test-summary.py" "$top/tests/skips.txt" "$results" || failed=1
exit $failed
