# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Sourced by the scripts that pack a guest's root file system: what is the same in all of them.

# guest_tree_make TREE AGENT CRUN: the folders that the agent mounts on, and the two programs that every guest has.
guest_tree_make() {
	mkdir -p "$1"/{dev,proc,sys,run,tmp,etc,containers,usr/bin}
	chmod 755 "$1"
	install -m 755 "$2" "$1/usr/bin/micropod-agent"
	install -m 755 "$3" "$1/usr/bin/crun"
}

# guest_tree_add_runc TREE RUNC: runc as /usr/bin/runc; the libraries and the loader that it names go where it looks for them.
guest_tree_add_runc() {
	local path
	install -D -m 755 "$2" "$1/usr/bin/runc"
	while read -r path; do
		install -D -m 755 "$path" "$1$path"
	done < <(ldd "$2" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[ \t]*\(\/[^ ]*\) (0x.*/\1/p')
}
