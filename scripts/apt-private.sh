# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Sourced by scripts that take packages from the distribution without touching the system's own apt state, as any user.
# A private apt folder gets its own lists, its own cache and a copy of the system's sources; everything else (mirrors,
# proxies, credentials, trusted keys) stays the system's. apt verifies every index and file by its signatures as ever.

# Prints the names under which this release may stand in a sources file, as one extended regular expression.
apt_private_suites() {
	local codename
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	[[ $codename ]] || codename=$(apt-cache policy 2>/dev/null | sed -n 's/.*,n=\([a-z]*\),.*/\1/p' | head -1)
	echo "(${codename:-stable}|stable|oldstable)(/updates|-updates|-security)?"
}

# One-line format: prints the entries of "$2..." that belong to the distribution, as type $1 (deb or deb-src).
apt_private_one_line() {
	local type=$1
	shift
	awk -v type="$type" -v suites="^$(apt_private_suites)\$" '
		/^[ \t]*deb(-src)?[ \t]/ {
			sub(/[ \t]*(#.*)?$/, "")
			line = $0
			sub(/^[ \t]*deb(-src)?[ \t]+/, "", line)
			rest = line
			sub(/^\[[^]]*\][ \t]*/, "", rest)
			n = split(rest, field, /[ \t]+/)
			main = 0
			for (i = 3; i <= n; i++)
				main = main || field[i] == "main"
			if (field[2] ~ suites && main && !seen[rest]++)
				print type " " line
		}' "$@" /dev/null
}

# deb822 format: the same for .sources files.
apt_private_deb822() {
	local type=$1
	shift
	awk -v type="$type" -v suites="^$(apt_private_suites)\$" '
		function flush_stanza(   i, n, field, ours, main) {
			ours = main = 0
			n = split(suite_list, field, /[ \t]+/)
			for (i = 1; i <= n; i++)
				ours = ours || field[i] ~ suites
			n = split(component_list, field, /[ \t]+/)
			for (i = 1; i <= n; i++)
				main = main || field[i] == "main"
			if (ours && main && enabled && !seen[stanza]++)
				printf "Types: %s\n%s\n", type, stanza
			stanza = suite_list = component_list = ""
			enabled = 1
		}
		BEGIN { enabled = 1 }
		FNR == 1 { flush_stanza() }
		/^#/ { next }
		/^[ \t]*$/ { flush_stanza(); next }
		tolower($1) == "types:" { next }
		tolower($1) == "suites:" { suite_list = substr($0, 8) }
		tolower($1) == "components:" { component_list = substr($0, 12) }
		tolower($1) == "enabled:" && tolower($2) ~ /^(no|false|0|off|without|disable)$/ { enabled = 0 }
		{ stanza = stanza $0 "\n" }
		END { flush_stanza() }' "$@" /dev/null
}

# apt_private_init DIR TYPE: makes the private apt folder DIR (given as an absolute path) for TYPE, deb or deb-src.
# Afterwards apt_private COMMAND... runs apt-get with it.
apt_private_init() {
	local dir=$1 type=$2 file
	local -a lists=() stanzas=()
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[[ -r $file ]] && lists+=("$file")
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[[ -r $file ]] && stanzas+=("$file")
	done
	mkdir -p "$dir"/{sources.list.d,state/lists/partial,cache/archives/partial,log}
	apt_private_one_line "$type" ${lists[@]+"${lists[@]}"} >"$dir/sources.list"
	apt_private_deb822 "$type" ${stanzas[@]+"${stanzas[@]}"} >"$dir/sources.list.d/distribution.sources"
	if ! [[ -s $dir/sources.list || -s $dir/sources.list.d/distribution.sources ]]; then
		echo "no package source of this distribution's release was found in /etc/apt/sources.list{,.d}" >&2
		return 1
	fi
	cat >"$dir/apt.conf" <<-CONF
		Dir::State "$dir/state";
		Dir::State::status "/var/lib/dpkg/status";
		Dir::Cache "$dir/cache";
		Dir::Log "$dir/log";
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "$dir/sources.list.d";
		Acquire::Languages "none";
		Acquire::Retries "3";
		APT::Get::List-Cleanup "true";
		APT::Sandbox::User "$(id -un)";
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear DPkg::Pre-Install-Pkgs;
		#clear DPkg::Post-Invoke;
	CONF
	apt_private_conf=$dir/apt.conf
}

# apt-get with the private folder, read after the system's own configuration so that it prevails.
apt_private() {
	LC_ALL=C apt-get -q -c "$apt_private_conf" "$@"
}
