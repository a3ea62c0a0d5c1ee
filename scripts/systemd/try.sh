#!/usr/bin/env bash
# The units under a real systemd, where the machine's own is another init or none: as process 1 of namespaces of its own, with no units
# but these and empty targets. Shows start by socket activation, status, what the tile may do, the watchdog, and the stop.
#   scripts/systemd/try.sh PROGRAM [PORT]      as root; needs systemd, util-linux, curl; PORT: 18080
# The service runs as nobody with a small ring; all else is as in tilewire.service, but for a watchdog of 5 s.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ "${1-}" = --inside ]; then # process 1 to be: mounts, then systemd
	mount --make-rprivate /
	mount -t tmpfs -o mode=755 none /run
	umount -l /sys/fs/cgroup 2>/dev/null || true
	mount -t cgroup2 none /sys/fs/cgroup
	mount --bind "$2/program" "$2/place" # where the unit looks for it
	export container=try SYSTEMD_UNIT_PATH=$2/units
	exec /lib/systemd/systemd --system --unit=try.target --log-target=null --show-status=0
fi

if [ $# -lt 1 ] || [ ! -x "$1" ]; then
	echo "usage: ${0##*/} PROGRAM [PORT]" >&2
	exit 2
fi
[ "$(id -u)" = 0 ] || { echo "${0##*/}: root is needed to make namespaces" >&2; exit 2; }
[ -x /lib/systemd/systemd ] || { echo "${0##*/}: no systemd here (Debian: apt-get install systemd)" >&2; exit 2; }
port=${2-18080}
dir=$(mktemp -d /tmp/tilewire-systemd.XXXXXX)
chmod 755 "$dir"
tree=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
group=$tree/tilewire-try-$$
init=0
finish() {
	trap - EXIT
	[ $init = 0 ] || kill -KILL $init 2>/dev/null || true
	wait 2>/dev/null || true
	[ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
	rm -rf "$dir"
}
trap finish EXIT

install -m 755 "$1" "$dir/program"
: >"$dir/place"
mkdir -p "$dir/units/tilewire.service.d" "$dir/units/tilewire.socket.d"
cp "$here"/tilewire.service "$here"/tilewire.socket "$dir/units"
for t in sysinit basic shutdown network sockets; do
	printf '[Unit]\nDefaultDependencies=no\n' >"$dir/units/$t.target"
done
printf '[Unit]\nDefaultDependencies=no\nRequires=tilewire.socket tilewire.service\n' >"$dir/units/try.target"
printf '[Socket]\nListenStream=\nListenStream=127.0.0.1:%s\n' "$port" >"$dir/units/tilewire.socket.d/try.conf"
line=$(sed -n 's/^ExecStart=[^ ]*//p' "$here/tilewire.service")
cat >"$dir/units/tilewire.service.d/try.conf" <<-EOF
	[Service]
	User=nobody
	Group=nogroup
	PrivateTmp=no
	WatchdogSec=5
	ExecStart=
	ExecStart=$dir/place$line --ring-size-mib 4 --max-connections 64
	ExecReload=
	ExecReload=$dir/place reload --name main
	StandardError=append:$dir/log
EOF

mkdir "$group"
(
	echo "$BASHPID" >"$group/cgroup.procs"
	exec unshare --cgroup --mount --pid --fork --kill-child --ipc --uts --mount-proc -- "$here/try.sh" --inside "$dir"
) >/dev/null 2>&1 &
shell=$!
inside() { nsenter -t "$init" -m -p -C -i -u "$@"; }
show() { inside systemctl show tilewire.service -p "$1" --value 2>/dev/null || true; }
await() { # await SECONDS WHAT COMMAND...: until the command succeeds
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@"; do
		[ $SECONDS -lt $end ] || { echo "FAIL  $what" >&2; [ ! -e "$dir/log" ] || tail -n 20 "$dir/log" >&2; exit 1; }
		sleep 0.2
	done
	echo "ok    $what"
}
is() { [ "$(show "$1")" = "$2" ]; }
says() { show StatusText | grep -q "$1"; }
born() { init=$(pgrep -P $shell 2>/dev/null) && [ -n "$init" ]; }
page() { curl -sf -o /dev/null --max-time 2 "http://127.0.0.1:$port/"; }
tile() { inside pgrep -f 'tile net' | head -n 1; }
again() { [ -n "$(tile)" ] && [ "$(tile)" != "$first" ] && is ActiveState active; }

await 5 "systemd $(/lib/systemd/systemd --version | awk 'NR == 1 { print $2 }') runs as process 1" born
await 15 "the service is active (READY=1)" is ActiveState active
await 5 "the page is served on systemd's socket" page
await 5 "its status is told (STATUS=)" says 'net:0 running'
first=$(tile)
inside systemctl reload tilewire.service 2>/dev/null || { echo "FAIL  systemctl reload" >&2; exit 1; }
[ "$(tile)" = "$first" ] || { echo "FAIL  a reload started another tile" >&2; exit 1; }
await 5 "reloaded" is ActiveState active
inside grep -E '^(Uid|Cap[A-Za-z]+|NoNewPrivs|Seccomp):' "/proc/$first/status" | sed 's/^/      /'
inside kill -STOP "$first"
await 8 "a stuck tile is told of" says 'net:0 stuck'
await 20 "no WATCHDOG=1 any more: systemd starts it again" again
await 5 "the page is served again" page
inside systemctl stop tilewire.service 2>/dev/null
await 5 "stopped in order" is ActiveState inactive
is Result success || { echo "FAIL  result $(show Result)" >&2; exit 1; }
