#!/usr/bin/env bash
# The main job with what this machine has: vmstat's lines, or the load average once a second, on port 8080 or a free one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if command -v vmstat >/dev/null; then
	source=(vmstat -n 1)
else
	echo "no vmstat here (Debian: apt-get install procps): the load average instead"
	source=(sh -c 'while cat /proc/loadavg; do sleep 1; done')
fi
addr=127.0.0.1:8080
if (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null; then
	echo "port 8080 is in use: a free one instead"
	addr=127.0.0.1:0
fi
echo "${source[*]} | bin/tilewire pipe --listen $addr      (Ctrl-C ends it)"
trap : INT # it is for them: the program takes its clients down in order
set +e
"${source[@]}" | bin/tilewire pipe --listen "$addr"
exit "${PIPESTATUS[1]}"
