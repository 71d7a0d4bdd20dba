#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Everything that is checked without running the programs: the lint tests, the format of C, the shell scripts.
#
# usage: lint.sh BUILD
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
failed=0
meson test -C "${1:-build}" --no-rebuild --suite lint --print-errorlogs || failed=1
mapfile -t sources < <(git ls-files '*.c' '*.h')
for file in "${sources[@]}"; do
	if ! clang-format-14 --dry-run -Werror "$file" >/dev/null 2>&1; then
		echo "lint: $file: not formatted: run make format" >&2
		failed=1
	fi
done
mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
shellcheck --external-sources "${scripts[@]}" || failed=1
exit $failed
