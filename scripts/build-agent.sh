#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the static agent: OUTPUT_DIR/agent (stripped; also as micropod-agent), OUTPUT_DIR/agent.debug (the same unstripped)
# and OUTPUT_DIR/agent.map (its link map). A second run compiles what changed and replaces files only when they differ.
#
# usage: build-agent.sh [--arch x86_64] [--test-faults] [--build-dir DIR] [--depfile FILE TARGET] [OUTPUT_DIR]
#   OUTPUT_DIR   default: bin in the source tree
#   --build-dir  where the object files are kept; default: build/agent-musl in the source tree
#   --test-faults  an agent that dies on request, for tests; give it a --build-dir of its own
#   --depfile    also write a make rule there: TARGET depends on everything that the agent is made from
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")
target=src/agent/micropod-agent
[[ -e $top/src/agent/main.c ]] || target=guest/probe/probe

die() {
	echo "build-agent: $*" >&2
	exit 1
}

faults=()
arch=x86_64 build=$top/build/agent-musl out=$top/bin depfile='' dep_target=''
while (($#)); do
	case $1 in
	--arch) arch=$2 && shift ;;
	--build-dir) build=$2 && shift ;;
	--test-faults) faults=(-Dtest_faults=true) ;;
	--depfile) depfile=$2 dep_target=$3 && shift 2 ;;
	-*) die "unknown option '$1'" ;;
	*) out=$1 ;;
	esac
	shift
done
cross=$top/guest/musl-$arch.ini
[[ -e $cross ]] || die "no cross file for architecture '$arch' (guest/musl-$arch.ini)"
mkdir -p "$build" "$out"
build=$(cd "$build" && pwd) tree=$build/tree out=$(cd "$out" && pwd)

exec {lock}>"$build.lock"
flock "$lock"

# The kernel's headers alone, for -idirafter.
make_kernel_headers() {
	local dir=$build/kernel-headers
	mkdir -p "$dir"
	ln -sfn /usr/include/linux "$dir/linux"
	ln -sfn /usr/include/asm-generic "$dir/asm-generic"
	ln -sfn "/usr/include/$arch-linux-gnu/asm" "$dir/asm"
	printf "[constants]\nkernel_headers = '%s'\n" "$dir" >"$build/paths.ini.new"
	replace "$build/paths.ini.new" "$build/paths.ini"
}

# Moves $1 to $2 unless they are the same, so that what depends on $2 is not built again for nothing.
replace() {
	if cmp -s "$1" "$2"; then rm -f "$1"; else mv -f "$1" "$2"; fi
}

# The meson tree is made anew when what it was configured with has changed: meson reads cross files only once.
configure() {
	local -a args=(--cross-file "$build/paths.ini" --cross-file "$cross" --wrap-mode=forcefallback
		"${faults[@]}" -Dagent_only=true -Doptimization=s -Ddebug=true -Db_staticpic=false -Db_pie=false)
	local log
	[[ -e $tree/build.ninja && $tree/build.ninja -nt $cross && $tree/build.ninja -nt $here/build-agent.sh &&
		$tree/build.ninja -nt $build/paths.ini ]] && return
	rm -rf "$tree"
	# The environment is that of the host's build; its flags are not for the guest.
	if ! log=$(cd "$top" && env -u CFLAGS -u LDFLAGS -u CPPFLAGS -u CC meson setup "$tree" "${args[@]}" 2>&1); then
		echo "$log" >&2
		rm -rf "$tree"
		die "meson setup failed"
	fi
}

write_depfile() {
	local -a inputs
	mapfile -t inputs < <(find "$top"/proto "$top"/src/{base,io,rpc,tunnel,oci,agent} "$top"/subprojects/packagefiles \
		"$top"/meson.build "$top"/meson_options.txt "$top"/src/meson.build "$cross" \
		"$here"/{build-agent,fetch-sources,apt-private}.sh -type f 2>/dev/null | sort)
	{
		printf '%s:' "$dep_target"
		printf ' \\\n %s' "${inputs[@]// /\\ }"
		echo
	} >"$depfile"
}

"$here/fetch-sources.sh"
make_kernel_headers
configure
if ! log=$(ninja -C "$tree" "$target" 2>&1); then
	echo "$log" >&2
	die "the static agent did not build"
fi
strip -o "$out/agent.new" "$tree/$target"
replace "$out/agent.new" "$out/agent"
ln -sfn agent "$out/micropod-agent"
cp "$tree/$target" "$out/agent.debug.new"
replace "$out/agent.debug.new" "$out/agent.debug"
cp "$tree/agent.map" "$out/agent.map.new"
replace "$out/agent.map.new" "$out/agent.map"
[[ -z $depfile ]] || write_depfile
