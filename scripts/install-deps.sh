#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages that micropod is built, run and tested with, those that are missing only.
# When nothing is missing it needs neither root nor network and is done at once.
#
# usage: install-deps.sh [--check] [build|run|agents|demo|demo-docker|demo-server|kernel|test|bench]...   (default: build run test)
#   --check   install nothing: name what is missing, exit 1 if there is any
set -euo pipefail

build_packages=(
	meson ninja-build gcc pkg-config musl-tools make
	libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler libjansson-dev
	libarchive-dev libext2fs-dev comerr-dev libssl-dev libslirp-dev libglib2.0-dev
	libseccomp-dev libcap-dev libyaml-dev zlib1g-dev libxxhash-dev libcurl4-openssl-dev libsqlite3-dev
	libzstd-dev libacl1-dev liblzma-dev libbz2-dev nettle-dev # what the static libarchive stands on
	dpkg-dev file xz-utils autoconf automake libtool # the libraries and crun that go static into the guest
	python3 ca-certificates
)
run_packages=(
	qemu-system-x86 skopeo cpio kmod uidmap e2fsprogs zstd xz-utils dpkg-dev busybox-static runc util-linux
)
agents_packages=(gcc-aarch64-linux-gnu linux-libc-dev-arm64-cross) # the agent for arm64
kernel_packages=(flex bison bc libelf-dev libssl-dev binutils xz-utils)
test_packages=(
	qemu-user-static python3-pytest python3-yaml postgresql-client python3-grpcio python3-protobuf protobuf-compiler-grpc ruby-grpc grpc-proto nghttp2-client
	crun docker-registry umoci mmdebstrap socat iproute2 nftables curl jq docker.io podman conmon netavark aardvark-dns nginx-light haproxy openssl
	clang libclang-rt-14-dev clang-format-14 shellcheck zsh fish man-db groff-base
)
bench_packages=(iperf3 openssh-server openssh-client libgrpc-dev nghttp2-client docker.io podman conmon netavark aardvark-dns iproute2 e2fsprogs umoci)
# command=package: programs that may also have come from elsewhere
test_commands=(node=nodejs npm=npm)

die() {
	echo "install-deps: $*" >&2
	exit 1
}

# Prints the packages out of "$@" that are not installed.
missing_packages() {
	local -A have=()
	local name status
	while read -r name status; do
		[[ $status == installed ]] && have[$name]=1
	done < <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
	for name in "$@"; do
		[[ ${have[$name]:-} ]] || echo "$name"
	done
}

as_root() {
	if [[ $(id -u) == 0 ]]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo -- "$@"
	else
		die "root is needed to install packages and there is no sudo: as root, run: $*"
	fi
}

install_packages() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

check=0
groups=()
for arg in "$@"; do
	case $arg in
	--check) check=1 ;;
	build | run | agents | demo | demo-docker | demo-server | kernel | test | bench) groups+=("$arg") ;;
	*) die "unknown argument '$arg': usage: install-deps.sh [--check] [build|run|agents|demo|demo-docker|demo-server|kernel|test|bench]..." ;;
	esac
done
((${#groups[@]})) || groups=(build run test)
command -v dpkg-query >/dev/null || die "this needs a Debian system (dpkg-query was not found)"

wanted=()
for group in "${groups[@]}"; do
	case $group in
	build) wanted+=("${build_packages[@]}") ;;
	demo) wanted+=(umoci) ;; # its image is made here
	demo-docker) wanted+=(docker.io iproute2 busybox-static) ;;
	demo-server) wanted+=(iproute2 nftables socat) ;;
	agents) wanted+=("${agents_packages[@]}") ;;
	kernel) wanted+=("${kernel_packages[@]}") ;;
	bench) wanted+=("${bench_packages[@]}") ;;
	run) wanted+=("${run_packages[@]}") ;;
	test)
		wanted+=("${test_packages[@]}")
		for pair in "${test_commands[@]}"; do
			command -v "${pair%%=*}" >/dev/null || wanted+=("${pair#*=}")
		done
		;;
	esac
done

mapfile -t missing < <(missing_packages "${wanted[@]}" | sort -u)
if ((${#missing[@]} == 0)); then
	exit 0
fi
if ((check)); then
	echo "install-deps: missing: ${missing[*]}" >&2
	exit 1
fi
echo "install-deps: installing ${missing[*]}" >&2
# The package lists are fetched only when what is there does not know the packages or is out of date.
if ! apt-cache show --no-all-versions "${missing[@]}" >/dev/null 2>&1 || ! install_packages "${missing[@]}"; then
	as_root apt-get update
	install_packages "${missing[@]}"
fi
