#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the fuzz targets (clang, libFuzzer, address and undefined-behaviour sanitizers) and runs each for a while, starting
# from tests/fuzz/corpus/NAME. New inputs are kept in BUILD/corpus/NAME, those that crash in BUILD/crashes.
#
# usage: fuzz.sh BUILD SECONDS [NAME]...
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[[ ${2:-} ]] || { echo "usage: fuzz.sh BUILD SECONDS [NAME]..." >&2 && exit 2; }
build=$1 seconds=$2
shift 2
[[ -e $build/build.ninja ]] ||
	CC=clang meson setup "$build" "$top" -Dfuzz=true -Dguest=disabled -Db_sanitize=address,undefined -Db_lundef=false
ninja -C "$build"
build=$(cd "$build" && pwd)
names=("$@")
if ((${#names[@]} == 0)); then
	for program in "$build"/tests/fuzz/fuzz-*; do
		[[ ! -x $program || -d $program ]] || names+=("${program##*/fuzz-}")
	done
fi
((${#names[@]})) || { echo "fuzz: no targets were built" >&2 && exit 1; }

failed=0
for name in "${names[@]}"; do
	echo "fuzz: $name for $seconds s"
	mkdir -p "$build/corpus/$name" "$build/crashes"
	# clang 14's sanitizer cannot place its shadow where the kernel randomises addresses by more than 28 bits.
	if ! setarch -R "$build/tests/fuzz/fuzz-$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="$build/crashes/$name-" "$build/corpus/$name" "$top/tests/fuzz/corpus/$name" \
		>"$build/crashes/$name.log" 2>&1; then
		tail -n 40 "$build/crashes/$name.log"
		echo "fuzz: $name FAILED: the input is in $build/crashes"
		failed=1
	else
		sed -n 's/^stat::number_of_executed_units: */fuzz: runs: /p' "$build/crashes/$name.log"
	fi
done
exit $failed
