#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds what goes static into an agent and no distribution has for musl: the C library itself for another architecture,
# and OpenSSL and c-ares for the agent that speaks TLS. From the distribution's sources, kept in the cache (see
# fetch-sources.sh) by what they were made from.
#
# usage: static-libs.sh musl ARCH             prints the folder it is in; bin/musl-gcc there is the compiler
#        static-libs.sh tls ARCH CC HEADERS   prints the folder: include, lib, lib/pkgconfig. HEADERS: the kernel's
#   ARCH   x86_64 or aarch64
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MICROPOD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/micropod}
size_flags=(-Os -ffunction-sections -fdata-sections -fstack-protector-strong)

# TLS 1.3 with certificates and nothing else: what a client needs is a third of the library.
openssl_without=(shared dso module engine async tests legacy ui-console autoload-config comp ocsp cms ts srp psk ct cmp
	rfc3779 dtls tls1 tls1_1 tls1_2 ssl3 nextprotoneg srtp aria bf blake2 camellia cast des dh dsa ec2m gost idea md4
	mdc2 rc2 rc4 rmd160 scrypt seed siphash siv sm2 sm3 sm4 whirlpool ocb filenames cached-fetch)

die() {
	echo "static-libs: $*" >&2
	exit 1
}

key_of() {
	local name
	{
		cat "$here/static-libs.sh"
		for name in "${sources[@]}"; do basename "$cache/sources/$name"/*.dsc; done
		"$compiler" --version
	} | sha256sum | cut -c1-16
}

build_musl() {
	local work=$1 out=$2
	"$here/fetch-sources.sh" --into "$work" musl &&
		cd "$work/musl" &&
		./configure --target="$arch" --prefix="$out" --syslibdir="$out/lib" --disable-shared --enable-wrapper=gcc \
			CC="$compiler" AR="$arch-linux-gnu-ar" RANLIB="$arch-linux-gnu-ranlib" CFLAGS=-Os &&
		make -j"$(nproc)" && make install
}

build_tls() {
	local work=$1 out=$2
	local cc="$compiler -idirafter $headers"
	"$here/fetch-sources.sh" --into "$work" openssl &&
		"$here/fetch-sources.sh" --into "$work" c-ares &&
		cd "$work/c-ares" &&
		CC=$cc CFLAGS="${size_flags[*]}" ./configure --host="$arch-linux-musl" --prefix="$out" --disable-shared \
			--enable-static --disable-tests --disable-dependency-tracking &&
		make -j"$(nproc)" -C src/lib && make -C src/lib install && make -C include install && make install-pkgconfigDATA &&
		cd "$work/openssl" &&
		./Configure "linux-$arch" --prefix="$out" --libdir=lib --openssldir=/nonexistent "${openssl_without[@]/#/no-}" \
			CC="$cc" CFLAGS="${size_flags[*]}" &&
		make -j"$(nproc)" build_generated && make -j"$(nproc)" libcrypto.a libssl.a libcrypto.pc libssl.pc openssl.pc &&
		mkdir -p "$out/lib/pkgconfig" && cp libcrypto.a libssl.a "$out/lib/" && cp ./*.pc "$out/lib/pkgconfig/" &&
		cp -R include/openssl "$out/include/"
}

what=${1:-} arch=${2:-}
case $what:$# in
musl:2)
	compiler=$arch-linux-gnu-gcc sources=(musl)
	command -v "$compiler" >/dev/null || die "there is no $compiler: scripts/install-deps.sh agents"
	;;
tls:4) compiler=$3 headers=$4 sources=(openssl c-ares) ;;
*) die "usage: static-libs.sh musl ARCH, or static-libs.sh tls ARCH CC HEADERS" ;;
esac

mkdir -p "$cache"
exec {lock}>"$cache/.$what-$arch.lock"
flock "$lock"
work=$(mktemp -d "${TMPDIR:-/tmp}/static-libs.XXXXXX")
trap 'rm -rf "$work"' EXIT
for name in "${sources[@]}"; do
	# The name of what is built has the source's version, so it must be there first.
	[[ -d $cache/sources/$name ]] || "$here/fetch-sources.sh" --into "$work" "$name" >&2
done
out=$cache/$what-$arch-$(key_of)
if [[ ! -e $out/.done ]]; then
	echo "static-libs: building ${sources[*]} for $arch (once, about a minute)" >&2
	rm -rf "$out"
	mkdir -p "$out"
	("build_$what" "$work" "$out") >"$work/log" 2>&1 </dev/null || {
		tail -n 40 "$work/log" >&2
		rm -rf "$out"
		die "${sources[*]} did not build"
	}
	touch "$out/.done"
fi
echo "$out"
