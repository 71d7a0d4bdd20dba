#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the static agents and lists them: OUTPUT_DIR/agent (linux/amd64) and agent-arm64 (linux/arm64), with --tls also
# micropod-agent-tls and micropod-agent-tls-arm64, which speak TLS and look names up. Each is stripped; FILE.debug is the same
# unstripped and FILE.map its link map. A second run compiles what changed and replaces files only when they differ.
# What is missing to compile for the other architecture is installed.
#
# usage: build-agent.sh [--arch x86_64|aarch64] [--tls] [--test-faults] [--build-dir DIR] [--depfile FILE TARGET] [OUTPUT_DIR]
#   OUTPUT_DIR   default: bin in the source tree
#   --arch       only this one
#   --build-dir  where the object files are kept; default: build/agent-musl in the source tree
#   --test-faults  an agent that dies on request, for tests; give it a --build-dir of its own
#   --depfile    also write a make rule there: TARGET depends on everything that the agent is made from
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")

die() {
	echo "build-agent: $*" >&2
	exit 1
}

options=() tls=false archs=()
build=$top/build/agent-musl out=$top/bin depfile='' dep_target=''
while (($#)); do
	case $1 in
	--arch) archs=("$2") && shift ;;
	--tls) tls=true ;;
	--build-dir) build=$2 && shift ;;
	--test-faults) options+=(-Dtest_faults=true) ;;
	--depfile) depfile=$2 dep_target=$3 && shift 2 ;;
	-*) die "unknown option '$1'" ;;
	*) out=$1 ;;
	esac
	shift
done
((${#archs[@]})) || archs=(x86_64 aarch64)
for arch in "${archs[@]}"; do
	[[ -e $top/guest/musl-$arch.ini ]] || die "no cross file for architecture '$arch' (guest/musl-$arch.ini)"
done
mkdir -p "$build" "$out"
base=$(cd "$build" && pwd) out=$(cd "$out" && pwd)

exec {lock}>"$base.lock"
flock "$lock"

# Moves $1 to $2 unless they are the same, so that what depends on $2 is not built again for nothing.
replace() {
	if cmp -s "$1" "$2"; then rm -f "$1"; else mv -f "$1" "$2"; fi
}

# Where this architecture's things are: the folder of the build, the compiler and its like, the names of what comes out.
choose() {
	arch=$1
	if [[ $arch == x86_64 ]]; then build=$base suffix=''; else build=$base/$arch suffix=-arm64; fi
	tree=$build/tree cross=$top/guest/musl-$arch.ini
	[[ $tls == false ]] || tree=$build/tree-tls
	mkdir -p "$build"
	if [[ $arch == "$(uname -m)" ]]; then
		cc=musl-gcc asm=/usr/include/$arch-linux-gnu/asm tools=''
	else
		"$here/install-deps.sh" agents
		cc=$("$here/static-libs.sh" musl "$arch")/bin/musl-gcc asm=/usr/$arch-linux-gnu/include/asm tools=$arch-linux-gnu-
	fi
}

# The kernel's headers alone, for -idirafter; and what the cross file wants to know of this machine.
write_paths() {
	local dir=$build/kernel-headers libs=''
	mkdir -p "$dir"
	ln -sfn /usr/include/linux "$dir/linux"
	ln -sfn /usr/include/asm-generic "$dir/asm-generic"
	ln -sfn "$asm" "$dir/asm"
	[[ $tls == false ]] || libs=$("$here/static-libs.sh" tls "$arch" "$cc" "$dir")
	paths=$tree.ini
	{
		printf "[constants]\nkernel_headers = '%s'\nmusl_cc = '%s'\ntools = '%s'\n" "$dir" "$cc" "$tools"
		printf "[properties]\npkg_config_libdir = '%s'\n" "${libs:-/nonexistent}/lib/pkgconfig"
	} >"$paths.new"
	replace "$paths.new" "$paths"
}

# The meson tree is made anew when what it was configured with has changed: meson reads cross files only once.
configure() {
	local -a args=(--cross-file "$paths" --cross-file "$cross" --wrap-mode=forcefallback "${options[@]}"
		-Dagent_tls="$tls" -Dagent_only=true -Doptimization=s -Ddebug=true -Db_staticpic=false -Db_pie=false)
	local log
	[[ -e $tree/build.ninja && $tree/build.ninja -nt $cross && $tree/build.ninja -nt $here/build-agent.sh &&
		$tree/build.ninja -nt $paths ]] && return
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
	mapfile -t inputs < <(find "$top"/proto "$top"/src/{base,io,rpc,tunnel,tls,oci,agent} "$top"/subprojects/packagefiles \
		"$top"/meson.build "$top"/meson_options.txt "$top"/src/meson.build "$cross" \
		"$here"/{build-agent,fetch-sources,static-libs,apt-private}.sh -type f 2>/dev/null | sort)
	{
		printf '%s:' "$dep_target"
		printf ' \\\n %s' "${inputs[@]// /\\ }"
		echo
	} >"$depfile"
}

# make_agent PROGRAM FILE: PROGRAM of the tree becomes OUTPUT_DIR/FILE.
make_agent() {
	local program=$tree/src/agent/$1 file=$out/$2
	"${tools}strip" -o "$file.new" "$program"
	replace "$file.new" "$file"
	cp "$program" "$file.debug.new"
	replace "$file.debug.new" "$file.debug"
	cp "$program.map" "$file.map.new"
	replace "$file.map.new" "$file.map"
	made+=("$file")
}

"$here/fetch-sources.sh"
made=()
for arch in "${archs[@]}"; do
	choose "$arch"
	write_paths
	configure
	programs=(src/agent/micropod-agent)
	[[ $tls == false ]] || programs+=(src/agent/micropod-agent-tls)
	if ! log=$(ninja -C "$tree" "${programs[@]}" 2>&1); then
		echo "$log" >&2
		die "the static agent for $arch did not build"
	fi
	make_agent micropod-agent "agent$suffix"
	[[ $tls == false ]] || make_agent micropod-agent-tls "micropod-agent-tls$suffix"
done
[[ ! -e $out/agent ]] || ln -sfn agent "$out/micropod-agent"
[[ -z $depfile ]] || write_depfile
for file in "${made[@]}"; do
	printf '%s\t%s bytes\n' "$file" "$(stat -c %s "$file")"
done
