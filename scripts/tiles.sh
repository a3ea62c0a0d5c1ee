#!/usr/bin/env bash
# The tile supervisor script: checks the host, creates workspace and server, then runs the tiles and watches them.
#   scripts/tiles.sh [OPTIONS] [-- COMMAND [ARG...]]      --help tells the options
# The last step is an exec: `tilewire run` is then this process. It starts a producer tile (COMMAND, each line of its
# output a message) and pinned network tiles as processes of their own, shows what runs where, restarts what dies, and
# takes all down in order at SIGINT or SIGTERM.
set -euo pipefail

usage() {
	cat <<-EOF
	Usage: scripts/tiles.sh [OPTIONS] [-- COMMAND [ARG...]]

	  COMMAND                each line of its output is a message; default: vmstat -n 1, or /proc/loadavg once a second
	  --name NAME            name of the instance (main)
	  --listen ADDR:PORT     where to serve; may be repeated (127.0.0.1:8080)
	  --ring-size-mib N      the ring that producers stage into, a power of two (64)
	  --user USER            run the tiles as this user; for root
	  --net-tiles N          network tiles that share the ports (1)
	  --affinity LIST        CPUs of the network tiles: auto, numbers, or fN to let N float (auto)
	  --check                only check the host: exit 0 if the tiles can run here, 3 if not
	  --help                 this text

	Each check is one line: ok, warn (it runs, but could run better) or fail (it can't run), with the command that mends it.
	EOF
}

name=main ring=64 nets=1 affinity=auto check=0
listen=() command=() user=()
bad() { echo "tiles.sh: $* (--help tells the options)" >&2; exit 2; }
while [ $# -gt 0 ]; do
	case $1 in
	--name | --listen | --ring-size-mib | --affinity | --user | --net-tiles) [ $# -ge 2 ] || bad "$1 wants a value" ;;
	esac
	case $1 in
	--name) name=$2; shift ;;
	--listen) listen+=(--listen "$2"); shift ;;
	--ring-size-mib) ring=$2; shift ;;
	--affinity) affinity=$2; shift ;;
	--net-tiles) nets=$2; shift ;;
	--user) user=(--user "$2"); shift ;;
	--check) check=1 ;;
	--help | -h) usage; exit 0 ;;
	--) shift; command=("$@"); break ;;
	*) bad "unknown argument $1" ;;
	esac
	shift
done
if ! [[ $ring =~ ^[1-9][0-9]{0,6}$ ]] || [ $((ring & (ring - 1))) != 0 ]; then bad "--ring-size-mib $ring is no power of two"; fi

# ---- the host

# The program tells what the instance takes.
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=${TILEWIRE:-$repo/bin/tilewire}
if [ ! -x "$program" ]; then
	command -v go >/dev/null || { echo "tiles.sh: no $program, and no Go to build it (https://go.dev/dl, 1.26 or newer)" >&2; exit 1; }
	(cd "$repo" && go build -o "$program" ./cmd/tilewire)
fi
bytes=$("$program" server new --dry-run --name "$name" --ring-size-mib "$ring" --net-tiles "$nets") || exit
need=$(((bytes + (1 << 20) - 1) >> 20))
failed=0 pages_ok=0
ok() { echo "ok    $*"; }
warn() { echo "warn  $*"; }
fail() { echo "fail  $*"; failed=1; }
first() { local line=; read -r line <"$1" 2>/dev/null || true; echo "${line:-0}"; }

check_kernel() {
	[ "$(uname -s)" = Linux ] || { fail "kernel: $(uname -s); Tilewire needs Linux"; return; }
	local release major minor
	release=$(uname -r)
	IFS=.- read -r major minor _ <<<"$release"
	if [ $((major * 1000 + ${minor//[!0-9]/})) -ge 5014 ]; then
		ok "kernel: Linux $release"
	else
		fail "kernel: Linux $release; 5.14 or newer is needed"
	fi
	case $(uname -m) in
	x86_64) ;;
	*) fail "machine: $(uname -m); only x86_64 is proven" ;;
	esac
}

check_shm() {
	local short=fail dir=${TILEWIRE_SHM_DIR:-/dev/shm} total kib mib point size
	[ $pages_ok = 0 ] || short=warn # it lies on huge pages then
	dir=${dir%%:*}
	if [ ! -d "$dir" ]; then
		$short "shared memory: there is no $dir${TILEWIRE_SHM_DIR:+, the first of TILEWIRE_SHM_DIR}; mend: mkdir -p $dir${TILEWIRE_SHM_DIR:+, or unset TILEWIRE_SHM_DIR for /dev/shm}"
		return
	fi
	if [ ! -w "$dir" ]; then
		$short "shared memory: $dir can't be written; mend: sudo mount -t tmpfs -o mode=1777 none $dir"
		return
	fi
	read -r _ total _ kib _ point < <(df -Pk "$dir" | tail -n 1)
	mib=$((kib / 1024)) size=$((total / 1024 + need * 2)) # room for another, or for the pages to be huge
	if [ $((kib * 1024)) -ge "$bytes" ]; then
		ok "shared memory: $mib MiB free in $dir, $need MiB needed"
	else
		$short "shared memory: $mib MiB free in $dir, $need MiB needed; mend: sudo mount -o remount,size=${size}M $point (container: --shm-size=${size}m), or --ring-size-mib $((ring / 2 > 0 ? ring / 2 : 1))"
	fi
}

check_pages() {
	local pool=/sys/kernel/mm/hugepages/hugepages-2048kB pages=$(((bytes + (2 << 20) - 1) >> 21)) free total dir mend
	free=$(first $pool/free_hugepages) total=$(first $pool/nr_hugepages)
	# The same command for pages and mount: it does both, and can be undone.
	mend="sudo $(dirname "${BASH_SOURCE[0]}")/hugepages.sh reserve $((2 * (free < pages ? total + pages - free : total)))"
	if [ "$free" -ge "$pages" ]; then
		pages_ok=1
		ok "huge pages: $free of 2 MiB free, $pages needed"
	else
		warn "huge pages: $free of 2 MiB free, $pages needed; mend: $mend (else transparent ones are tried)"
	fi
	dir=$(awk '$3 == "hugetlbfs" && $4 !~ /pagesize=1(G|024M)/ { print $2; exit }' /proc/mounts)
	if [ -n "$dir" ] && [ -w "$dir" ]; then
		ok "huge pages: mounted at $dir"
	else
		pages_ok=0
		warn "huge pages: no hugetlbfs that this user may write to; mend: $mend"
	fi
}

check_files() {
	local soft hard want=20000 # 16,384 streaming connections, requests, and the tile's own
	soft=$(ulimit -Sn) hard=$(ulimit -Hn)
	if [ "$soft" = unlimited ] || [ "$soft" -ge $want ]; then
		ok "descriptors: $soft for a process"
	elif [ "$hard" = unlimited ] || [ "$hard" -ge $want ]; then
		ulimit -Sn $want
		ok "descriptors: $want for a process (raised from $soft)"
	else
		warn "descriptors: at most $hard for a process, fewer clients than 16,384; mend: ulimit -n $want as root, or LimitNOFILE=$want in the unit"
	fi
}

check_cpus() {
	local n
	n=$(nproc)
	if [ "$n" -ge 2 ]; then
		ok "CPUs: $n"
	else
		warn "CPUs: $n; the network tile is best alone on one: give this machine two"
	fi
}

check_kernel
check_pages
check_shm
check_files
check_cpus
[ $failed = 0 ] || { echo "tiles.sh: this host can't run the tiles: see fail above" >&2; exit 3; }
[ $check = 0 ] || exit 0

# ---- the memory, the tiles

if [ ${#command[@]} = 0 ]; then
	if command -v vmstat >/dev/null; then
		command=(vmstat -n 1)
	else
		command=(sh -c 'while cat /proc/loadavg; do sleep 1; done')
	fi
fi
shape=(--name "$name" --ring-size-mib "$ring" --net-tiles "$nets" ${listen[@]+"${listen[@]}"})
echo "run   $program server new ${shape[*]}"
stopped=
trap 'stopped=130' INT
trap 'stopped=143' TERM
"$program" server new "${shape[@]}" || exit
trap '"$program" server delete --name "$name"' EXIT # until run sees to it
trap - INT TERM
[ -z "$stopped" ] || exit "$stopped"
run=(run "${shape[@]}" --affinity "$affinity" ${user[@]+"${user[@]}"} --discard -- "${command[@]}")
echo "run   $program ${run[*]}"
exec "$program" "${run[@]}"
