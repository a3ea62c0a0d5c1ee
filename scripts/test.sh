#!/usr/bin/env bash
# Everything that CI runs, part by part, with times. Ends at the first part that fails.
# Needs Go and git; installs Chromium for the browser test when it may (root, Debian, CI=true), else that part is skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

part() { # part NAME COMMAND...
	local name=$1 begin=$SECONDS
	shift
	echo "=== $name: $*"
	if ! "$@"; then
		echo "=== $name: FAILED after $((SECONDS - begin)) s" >&2
		exit 1
	fi
	echo "=== $name: passed in $((SECONDS - begin)) s"
}

browser_tools() {
	[ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
	local want=()
	[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || want+=(chromium)
	command -v node >/dev/null || want+=(nodejs)
	command -v npm >/dev/null || want+=(npm)
	[ ${#want[@]} = 0 ] && return 0
	{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${want[@]}"; } >/tmp/tilewire-apt.log 2>&1 ||
		{ echo "apt-get install ${want[*]} failed, the browser test will be skipped:"; tail -3 /tmp/tilewire-apt.log; }
}

command -v go >/dev/null || { echo "test: no Go: 1.26 or newer is needed (https://go.dev/dl)" >&2; exit 1; }
part build make --no-print-directory build
part lint scripts/lint.sh
part tests make --no-print-directory quick
part race make --no-print-directory race
part explore env TILEWIRE_SEED=1 make --no-print-directory explore # the same seeds each time: what fails here fails again
part benchmark sh -c 'cd scripts/bench && go vet ./... && go test ./...'
browser_tools
part browser scripts/browser.sh
echo "=== all parts passed in $SECONDS s"
