#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A server, and a host that joins it from a network namespace of its own, from which connections can only be made and not taken:
# a sandbox is started there, used, one of its ports forwarded, and the host's token revoked. Nothing is left. Needs root.
#
# usage: demo-server.sh BUILD
set -euo pipefail

[[ ${1:-} ]] || { echo "usage: demo-server.sh BUILD" >&2 && exit 2; }
[[ $(id -u) == 0 ]] || { echo "demo-server: a network namespace of its own needs root" >&2 && exit 1; }
build=$(cd "$1" && pwd)
"$(dirname "${BASH_SOURCE[0]}")/make-test-images.sh" "$build/test-images" busybox
folder=$(mktemp -d /tmp/micropod-demo.XXXXXX)
space=micropod-demo-$$
pids=()

clean_up() {
	MICROPOD_SERVER='' "$build/src/cli/micropod" --root "$folder/root" rm -f demo >/dev/null 2>&1 || true
	if ((${#pids[@]})); then
		kill "${pids[@]}" 2>/dev/null || true
		wait
	fi
	ip netns del "$space" 2>/dev/null || true
	rm -rf "$folder"
}
trap clean_up EXIT

show() {
	echo "\$ $*"
	"$build/src/cli/$1" "${@:2}"
}

# Waits until a file has a line with these words.
await() {
	timeout 60 grep -qm1 "$2" <(tail -n +1 -f --pid=$$ "$1")
}

# Here, for the host has no way to the distribution's servers.
"$build/guest/prepare-guest" --progress "$folder/root"
ip netns add "$space"
ip link add mpd$$ type veth peer name host netns "$space"
ip addr add 10.213.7.1/30 dev mpd$$
ip link set mpd$$ up
ip -n "$space" addr add 10.213.7.2/30 dev host
ip -n "$space" link set host up
ip -n "$space" link set lo up
ip netns exec "$space" nft -f - <<-NFT
	table inet demo {
		chain input {
			type filter hook input priority 0; policy drop;
			ct state established,related accept
			iif lo accept
			meta l4proto icmpv6 accept
		}
	}
NFT

data=$folder/data
"$build/src/cli/micropod" server --listen 10.213.7.1:8080 --data "$data" --insecure-plaintext >"$folder/server.log" 2>&1 &
pids+=($!)
await "$folder/server.log" 'listening at'
for who in "host beta" "user demo"; do
	echo "\$ micropod token create --data $data --$who >${who#* }.token"
	# shellcheck disable=SC2086 # two words
	"$build/src/cli/micropod" token create --data "$data" --$who >"$folder/${who#* }.token"
done
nsenter --net="/run/netns/$space" "$build/src/cli/micropod" runner --server http://10.213.7.1:8080 --insecure-plaintext \
	--token-file "$folder/beta.token" --name beta --root "$folder/root" >"$folder/runner.log" 2>&1 &
pids+=($!)
await "$folder/runner.log" 'info joined'

export MICROPOD_SERVER=http://10.213.7.1:8080 MICROPOD_INSECURE_PLAINTEXT=1 MICROPOD_TOKEN_FILE=$folder/demo.token
show micropod run --on beta --cold -d -q --name demo "oci:$build/test-images/busybox" sh -c 'echo hello from a VM on beta; nc -ll -p 7 -e cat'
show micropod ps
show micropod exec demo uname -a
show micropod logs demo
"$build/src/cli/micropod" port-forward 0:demo:7 >"$folder/forward.log" &
forward=$!
await "$folder/forward.log" ' -> '
port=$(sed -n 's/.*:\([0-9]*\) -> .*/\1/p' "$folder/forward.log")
echo "\$ echo there and back | nc 127.0.0.1 $port"
echo there and back | timeout 20 socat - "TCP:127.0.0.1:$port,shut-down"
kill "$forward"
wait "$forward" || true
id=$(MICROPOD_SERVER='' "$build/src/cli/micropod" token ls --data "$data" | awk '$3 == "demo" { print $1 }')
show micropod token rm --data "$data" "$id"
show micropod ps || echo "(refused, as it should be)"
