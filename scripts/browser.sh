#!/usr/bin/env bash
# Looks at the live page in a real Chromium: builds the program, installs what the test needs, runs it.
#   scripts/browser.sh [COMMAND...]    COMMAND serves standard input on the address {addr}
# Environment: CHROMIUM (the browser), TILEWIRE_SCREENSHOTS (where the pictures go; default bin/screenshots).
# Without Chromium or Node it says so and passes: nothing else depends on them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

skip() { echo "browser: SKIP: $*"; exit 0; }

chromium=${CHROMIUM:-/usr/bin/chromium}
[ -x "$chromium" ] || skip "no Chromium at $chromium (Debian: apt-get install chromium, or set CHROMIUM)"
for tool in node npm; do
	command -v $tool >/dev/null || skip "no $tool (Debian: apt-get install nodejs npm)"
done
major=$(node -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 20 ] || skip "node $(node -v) is too old, 20 is needed"

dir=scripts/browser
if ! cmp -s "$dir/package-lock.json" "$dir/node_modules/.tilewire-lock"; then
	(cd "$dir" && npm ci --silent) || { echo "browser: npm ci could not install playwright-core (see above)" >&2; exit 1; }
	cp "$dir/package-lock.json" "$dir/node_modules/.tilewire-lock"
fi

if [ $# -eq 0 ]; then
	go build -o bin/tilewire ./cmd/tilewire
	set -- bin/tilewire pipe --listen '{addr}'
fi
CHROMIUM=$chromium exec node "$dir/page.mjs" "${TILEWIRE_SCREENSHOTS:-bin/screenshots}" -- "$@"
