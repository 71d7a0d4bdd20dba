#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Starts a Docker Engine of its own (own socket, own data, own network namespace), makes an image, runs it with the agent put in,
# and calls a command in it through the tunnel. Nothing is left. Needs root.
#
# usage: demo-docker.sh BUILD
set -euo pipefail

[[ ${1:-} ]] || { echo "usage: demo-docker.sh BUILD" >&2 && exit 2; }
[[ $(id -u) == 0 ]] || { echo "demo-docker: a Docker Engine of its own needs root" >&2 && exit 1; }
build=$(cd "$1" && pwd)
folder=$(mktemp -d /tmp/micropod-demo.XXXXXX)
space=micropod-demo-$$
engine=''
export DOCKER_HOST=unix://$folder/docker.sock MICROPOD_ROOT=$folder/root

clean_up() {
	"$build/src/cli/micropod" rm -f demo >/dev/null 2>&1 || true
	if [[ $engine ]]; then
		kill "$engine"
		wait "$engine" || true
	fi
	ip netns del "$space" 2>/dev/null || true
	awk -v top="$folder" 'index($5, top) == 1 { print $5 }' /proc/self/mountinfo | sort -r | xargs -r umount -l
	rm -rf "$folder"
}
trap clean_up EXIT

show() {
	echo "\$ $*"
	"$build/src/cli/$1" "${@:2}"
}

ip netns add "$space"
ip -n "$space" link set lo up
nsenter --net="/run/netns/$space" dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" \
	-H "$DOCKER_HOST" >"$folder/log" 2>&1 &
engine=$!
until docker version >/dev/null 2>&1; do
	kill -0 "$engine" 2>/dev/null || { tail -n 3 "$folder/log" >&2 && echo "demo-docker: the engine does not start" >&2 && exit 1; }
	read -rt 0.2 <> <(:) || true
done

mkdir -p "$folder/tree/bin"
cp /bin/busybox "$folder/tree/bin/"
for name in sh echo sleep cat ps id; do ln -s busybox "$folder/tree/bin/$name"; done
tar -C "$folder/tree" -c . | docker import --change 'CMD ["sh", "-c", "echo hello from a container; exec sleep 1000"]' - demo >/dev/null

show micropod run --driver docker -d --name demo demo
show micropod ps
show micropod exec demo sh -c 'echo "hello through the tunnel, from process $$ of"; ps'
echo '$ docker logs demo'
docker logs demo
show micropod logs demo
show micropod stop -t 1 demo
show micropod rm demo
