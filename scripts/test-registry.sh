#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Serves OCI layouts from a real registry on a free loopback port, for tests and the demo.
#
# usage: test-registry.sh STATE_DIR [LAYOUT_DIR]...
#
# Each LAYOUT_DIR (tag latest) is pushed as NAME and library/NAME, NAME being the folder's name. When all is there it prints
# one line, "ready 127.0.0.1:PORT", and serves until its standard input ends or it gets SIGTERM. STATE_DIR/registries.conf
# sends docker.io to it (skopeo --registries-conf, or as ~/.config/containers/registries.conf); STATE_DIR/registry.log is the registry's log.
set -euo pipefail

die() {
	echo "test-registry: $*" >&2
	exit 1
}

[[ ${1:-} && $1 != -* ]] || die "usage: test-registry.sh STATE_DIR [LAYOUT_DIR]..."
mkdir -p "$1"
state=$(cd "$1" && pwd)
shift
# The state may be anything's leftovers; a log of the past must not be taken for this registry's.
: >"$state/registry.log"

cat >"$state/config.yml" <<EOF2
version: 0.1
log:
  level: info
storage:
  filesystem:
    rootdirectory: '$state/data'
  delete:
    enabled: true
http:
  addr: 127.0.0.1:0
EOF2

setpriv --pdeathsig TERM docker-registry serve "$state/config.yml" >>"$state/registry.log" 2>&1 </dev/null &
registry=$!
trap 'kill $registry 2>/dev/null; wait $registry 2>/dev/null || true' EXIT
trap 'exit 0' TERM INT HUP

# The registry says which port it got.
address=''
for ((i = 0; i < 100; i++)); do
	address=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$state/registry.log" | head -n 1)
	[[ -z $address ]] || break
	kill -0 $registry 2>/dev/null || break
	sleep 0.1
done
[[ $address ]] || die "the registry did not start: $(tail -n 3 "$state/registry.log")"

cat >"$state/registries.conf" <<EOF2
unqualified-search-registries = ["docker.io"]

[[registry]]
prefix = "docker.io"
location = "$address"
insecure = true

[[registry]]
location = "$address"
insecure = true
EOF2

for layout in "$@"; do
	name=$(basename "$layout")
	for target in "library/$name" "$name"; do
		skopeo --insecure-policy copy --quiet --dest-tls-verify=false "oci:$layout:latest" "docker://$address/$target:latest" ||
			die "cannot push $layout"
	done
done

echo "ready $address"
# Waits for the end of standard input, or for a signal (a read that a signal interrupts runs the trap).
while read -r _; do :; done
