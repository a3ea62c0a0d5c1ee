#!/bin/sh
# Huge pages of 2 MiB for Tilewire, for people who would rather read a script than run `tilewire configure`.
#
#   hugepages.sh check         what there is; status 3 if huge pages cannot be had by this user
#   hugepages.sh reserve MIB   MIB in huge pages, and a hugetlbfs mount that GROUP may use (root)
#   hugepages.sh release       undo exactly what reserve did (root)
#
# MOUNT (/dev/hugepages) and GROUP (that of who called sudo, else root's) can be set in the environment. What was before
# is kept in /run/tilewire/hugepages.state (TILEWIRE_RUN_DIR chooses another directory). It holds until the next boot.
set -eu

POOL=/sys/kernel/mm/hugepages/hugepages-2048kB
MOUNT=${MOUNT:-/dev/hugepages}
GROUP=${GROUP:-${SUDO_GID:-0}}
STATE=${TILEWIRE_RUN_DIR:-/run/tilewire}/hugepages.state

say() { printf '%s\n' "$*"; }
die() { say "hugepages.sh: $1" >&2; exit "$2"; }
run() { say "+ $*"; "$@"; }                                  # print, then do
set_pool() { say "+ echo $1 > $POOL/nr_hugepages"; echo "$1" >"$POOL/nr_hugepages"; }
pool() { cat "$POOL/nr_hugepages"; }
is_mounted() { awk -v d="$MOUNT" '$2 == d && $3 == "hugetlbfs" { found = 1 } END { exit !found }' /proc/mounts; }
need_root() { [ "$(id -u)" = 0 ] || die "$1 needs root; mend: sudo $0 $1" 3; }
note() { [ ! -f "$STATE" ] || return 0; mkdir -p "${STATE%/*}"; say "before=$(pool) after= mounted= made=" >"$STATE"; }
# field NAME [VALUE]: reads or sets a field of the state
field() {
	if [ $# = 1 ]; then sed -n "s/.*\\b$1=\\([^ ]*\\).*/\\1/p" "$STATE"; else sed -i "s|\\b$1=[^ ]*|$1=$2|" "$STATE"; fi
}

check() {
	bad=0
	[ -d "$POOL" ] || die "this kernel has no 2 MiB pages" 3
	say "pages: $(cat $POOL/free_hugepages) of $(pool) are free"
	if [ "$(pool)" = 0 ]; then say "  mend: sudo $0 reserve 256"; bad=1; fi
	for n in /sys/devices/system/node/node[0-9]*/hugepages/hugepages-2048kB; do
		[ -d "$n" ] && say "  $(basename "${n%/hugepages/*}"): $(cat "$n/free_hugepages") of $(cat "$n/nr_hugepages") are free"
	done
	if is_mounted; then
		say "mount: $MOUNT ($(stat -c 'user %U, group %G, mode %a' "$MOUNT"))"
		[ -w "$MOUNT" ] || { say "  you may not make regions there; mend: sudo GROUP=$(id -g) $0 reserve $((2 * $(pool)))"; bad=1; }
	else
		say "mount: no hugetlbfs on $MOUNT"
		bad=1
	fi
	[ $bad = 0 ] || exit 3
}

reserve() {
	case ${1:-} in '' | *[!0-9]*) die "reserve how many MiB? usage: $0 reserve MIB" 2 ;; esac
	need_root "reserve $1"
	want=$((($1 + 1) / 2))
	note
	if [ "$(pool)" -lt "$want" ]; then
		field after "$want"
		set_pool "$want"
		if [ "$(pool)" -lt "$want" ]; then # fragmented: tidy up, ask again
			say "+ echo 1 > /proc/sys/vm/compact_memory"
			echo 1 >/proc/sys/vm/compact_memory || true
			set_pool "$want"
		fi
		field after "$(pool)"
		[ "$(pool)" -ge "$want" ] || die "the kernel gave $(pool) of $want pages; mend: free memory and repeat, or $0 release" 3
	fi
	if ! is_mounted; then
		[ -d "$MOUNT" ] || { field made yes; run mkdir -p "$MOUNT"; }
		field mounted "$MOUNT"
		run mount -t hugetlbfs -o "nosuid,nodev,pagesize=2M,gid=$GROUP,mode=1770" none "$MOUNT"
	elif [ "$GROUP" != 0 ] && [ "$(stat -c %g "$MOUNT")" != "$GROUP" ]; then
		die "$MOUNT is there and not group $GROUP's; mend: sudo tilewire configure init --group $GROUP (which remembers what was), or MOUNT=" 3
	fi
	say "$(cat $POOL/free_hugepages) of $(pool) pages are free, mounted on $MOUNT"
}

release() {
	need_root release
	[ -f "$STATE" ] || { say "nothing to undo"; return 0; }
	MOUNT=$(field mounted)
	if [ -n "$MOUNT" ] && is_mounted; then
		left=$(find "$MOUNT" -mindepth 1 | head -n 3)
		[ -z "$left" ] || die "regions are there: $left; mend: tilewire shmem list, tilewire shmem unlink NAME" 1
		run umount "$MOUNT"
		[ "$(field made)" != yes ] || run rmdir "$MOUNT"
	fi
	after=$(field after) before=$(field before)
	if [ -n "$after" ] && [ "$(pool)" -gt "$before" ]; then # what others added stays
		back=$(($(pool) > after ? $(pool) - after + before : before))
		set_pool "$back"
	fi
	rm "$STATE"
}

case ${1:-} in
check) check ;;
reserve) reserve "${2:-}" ;;
release) release ;;
*) die "usage: $0 check | reserve MIB | release" 2 ;;
esac
