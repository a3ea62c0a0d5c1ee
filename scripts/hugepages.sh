#!/bin/sh
# Huge pages of 2 MiB for Tilewire, for people who would rather read a script than run `tilewire configure`.
#
#   hugepages.sh check         what there is; status 3 if huge pages cannot be had by this user
#   hugepages.sh reserve MIB   MIB in huge pages, and a hugetlbfs mount that GROUP may use (root)
#   hugepages.sh release       undo exactly what reserve did (root)
#
# MOUNT (where 2 MiB pages are mounted, else /dev/hugepages) and GROUP (that of who called sudo, else root's) can be set in the environment. What is changed is
# noted first, in /run/tilewire/configure.state (TILEWIRE_RUN_DIR chooses another directory): a line for each change, with what
# was before. `tilewire configure` keeps the same file, so that either undoes what the other did. It holds until the next boot.
set -eu

POOL=/sys/kernel/mm/hugepages/hugepages-2048kB
FILE=$POOL/nr_hugepages
RUN=${TILEWIRE_RUN_DIR:-/run/tilewire}
STATE=$RUN/configure.state

say() { printf '%s\n' "$*"; }
die() { say "hugepages.sh: $1" >&2; exit "$2"; }
run() { say "+ $*"; "$@"; }                                  # print, then do
set_file() { say "+ echo $1 > $2"; echo "$1" >"$2"; }
pool() { cat "$FILE"; }
is_hugetlbfs() { mountpoint -q "$1" && [ "$(stat -f -c %T "$1")" = hugetlbfs ]; }
is_ours() { is_hugetlbfs "$1" && [ "$(stat -f -c %s "$1")" = 2097152 ]; }
mode_of() { echo $((0$(stat -c %a "$1"))); }
need_root() { [ "$(id -u)" = 0 ] || die "$1 needs root; mend: sudo $0 $1" 3; }

# find_mount: where 2 MiB pages are mounted, first where this user may make regions; else where to mount them
find_mount() {
	found=
	while read -r dir; do
		dir=$(printf '%b' "$dir")
		is_ours "$dir" || continue
		if [ -w "$dir" ]; then say "$dir"; return; fi
		found=${found:-$dir}
	done <<-EOF
		/dev/hugepages
		$(awk '$3 == "hugetlbfs" { gsub(/\\/, "\\0", $2); print $2 }' /proc/mounts)
	EOF
	if [ -z "$found" ] && is_hugetlbfs /dev/hugepages; then found=/dev/hugepages2M; fi
	say "${found:-/dev/hugepages}"
}

MOUNT=${MOUNT:-$(find_mount)}
case $MOUNT in /*) ;; *) MOUNT=$(pwd)/$MOUNT ;; esac
GROUP=${GROUP:-${SUDO_GID:-0}}

# ---- the record: 'pool BEFORE AFTER FILE', 'mount DIRECTORIES_MADE DIR', 'owner GID GID_AFTER MODE MODE_AFTER DIR'

open_state() {
	mkdir -p "$RUN"
	exec 9<"$RUN"
	flock 9 # others wait until we are done
	[ ! -f "$STATE" ] || [ -O "$STATE" ] || die "$STATE belongs to another user; mend: undo it by hand, then remove it" 1
	[ ! -f "$STATE" ] || grep -qx 'version 1' "$STATE" || die "$STATE is of another version; mend: undo it by hand, then remove it" 1
}
# noted KIND PATH: the line about it, if there is one
noted() { [ ! -f "$STATE" ] || awk -v k="$1" -v p="$2" '$1 == k && substr($0, index($0, "/")) == p' "$STATE"; }
# note OLD NEW: NEW in the place of the line OLD; an empty one is none
note() {
	[ -f "$STATE" ] || printf '%s\n' "# What hugepages.sh or \`tilewire configure init\` changed; release, or fini, undoes it." 'version 1' >"$STATE"
	awk -v o="$1" -v n="$2" '$0 != o { print } END { if (n != "") print n }' "$STATE" >"$STATE.new"
	mv "$STATE.new" "$STATE"
}

note_pool() { # AFTER: what was before the first time counts
	before=$(pool) after=$1 old=$(noted pool "$FILE")
	[ -z "$old" ] || read -r _ before after _ <<-EOF
		$old
	EOF
	[ -z "$old" ] || after=$((after + $1 - $(pool)))
	note "$old" "pool $before $after $FILE"
}

# ---- the verbs

check() {
	bad=0
	[ -d "$POOL" ] || die "this kernel has no 2 MiB pages" 3
	say "pages: $(cat $POOL/free_hugepages) of $(pool) are free"
	if [ "$(pool)" = 0 ]; then say "  mend: sudo $0 reserve 256"; bad=1; fi
	for n in /sys/devices/system/node/node[0-9]*/hugepages/hugepages-2048kB; do
		[ -d "$n" ] && say "  $(basename "${n%/hugepages/*}"): $(cat "$n/free_hugepages") of $(cat "$n/nr_hugepages") are free"
	done
	if is_ours "$MOUNT"; then
		say "mount: $MOUNT ($(stat -c 'user %U, group %G, mode %a' "$MOUNT"))"
		[ -w "$MOUNT" ] || { say "  you may not make regions there; mend: sudo GROUP=$(id -g) $0 reserve $((2 * $(pool)))"; bad=1; }
	else
		say "mount: no hugetlbfs of 2 MiB pages on $MOUNT; mend: sudo $0 reserve 256"
		bad=1
	fi
	[ $bad = 0 ] || exit 3
}

reserve() {
	case ${1:-} in '' | *[!0-9]* | 0* | ????????*) set -- 0 ;; esac # digits only, not octal, not beyond what the shell counts
	if [ "$1" -lt 1 ] || [ "$1" -gt 1048576 ]; then die "reserve how many MiB, from 1 to 1048576? usage: $0 reserve MIB" 2; fi
	need_root "reserve $1"
	want=$((($1 + 1) / 2))
	open_state
	if [ "$(pool)" -lt "$want" ]; then
		note_pool "$want"
		set_file "$want" "$FILE"
		if [ "$(pool)" -lt "$want" ]; then # fragmented: tidy up, ask again
			say "+ echo 1 > /proc/sys/vm/compact_memory"
			echo 1 >/proc/sys/vm/compact_memory || true
			set_file "$want" "$FILE"
		fi
		got=$(pool)
		if [ "$got" -lt "$want" ]; then
			old=$(noted pool "$FILE")
			note "$old" "$(say "$old" | awk -v d=$((want - got)) '{ $3 -= d; print }')"
			die "the kernel gave $got of $want pages; mend: free memory and repeat, or $0 release" 3
		fi
	fi
	if ! is_ours "$MOUNT"; then
		made=0 dir=$MOUNT
		while [ ! -e "$dir" ]; do made=$((made + 1)) dir=$(dirname "$dir"); done
		note "$(noted mount "$MOUNT")" "mount $made $MOUNT"
		[ -d "$MOUNT" ] || run mkdir -p "$MOUNT"
		run mount -t hugetlbfs -o "nosuid,nodev,pagesize=2M,gid=$GROUP,mode=1770" none "$MOUNT"
	elif [ "$GROUP" != 0 ]; then
		share
	fi
	say "$(cat $POOL/free_hugepages) of $(pool) pages are free, mounted on $MOUNT"
}

# share lets GROUP make regions in a mount that is there, unless it may
share() {
	gid=$(stat -c %g "$MOUNT") mode=$(mode_of "$MOUNT") need=$((03))
	[ "$gid" != "$GROUP" ] || need=$((030))
	[ $((mode & need)) != "$need" ] || return 0
	old=$(noted owner "$MOUNT") before="$gid $GROUP $(printf '%04o' "$mode")"
	if [ -n "$old" ]; then # what was before the first time counts
		read -r _ gid _ octal _ <<-EOF
			$old
		EOF
		before="$gid $GROUP $octal"
	fi
	after=$(printf '%04o' $((mode | 01070)))
	note "$old" "owner $before $after $MOUNT"
	run chgrp "$GROUP" "$MOUNT"
	run chmod "$after" "$MOUNT"
}

release() {
	need_root release
	open_state
	[ -f "$STATE" ] || { say "nothing to undo"; return 0; }
	for kind in owner mount pool; do
		while line=$(grep "^$kind " "$STATE" | tail -n 1) && [ -n "$line" ]; do # the last first
			"undo_$kind" "$line"
			note "$line" ''
		done
	done
	rm "$STATE"
}

# What others have changed since stays, and is named.
forgotten() { say "forgotten: $*"; }

undo_owner() {
	read -r _ gid gid_after mode mode_after dir <<-EOF
		$1
	EOF
	is_hugetlbfs "$dir" || { forgotten "group and mode of $dir: no hugetlbfs is mounted there any more"; return 0; }
	now=$(mode_of "$dir") # a change of the group may change it
	if [ "$(stat -c %g "$dir")" = "$gid_after" ]; then run chgrp "$gid" "$dir"; else forgotten "group of $dir: others have made it $(stat -c %g "$dir")"; fi
	if [ "$now" = $((0$mode_after)) ]; then run chmod "$mode" "$dir"; else forgotten "mode of $dir: others have made it $(stat -c %a "$dir")"; fi
}

undo_mount() {
	read -r _ made dir <<-EOF
		$1
	EOF
	if is_hugetlbfs "$dir"; then
		left=$(find "$dir" -mindepth 1 | head -n 3)
		[ -z "$left" ] || die "regions are there: $left; mend: tilewire shmem list, tilewire shmem unlink NAME" 1
		run umount "$dir"
	else
		forgotten "mount on $dir: no hugetlbfs is mounted there any more"
	fi
	while [ "$made" -gt 0 ]; do # a directory that others have put something into stays
		rmdir "$dir" 2>/dev/null || return 0
		say "+ rmdir $dir"
		dir=$(dirname "$dir") made=$((made - 1))
	done
}

undo_pool() {
	read -r _ before after file <<-EOF
		$1
	EOF
	now=$(cat "$file")
	target=$((now > after ? now - after + before : before)) # what others added stays
	if [ "$target" -lt "$now" ]; then set_file "$target" "$file"; elif [ "$after" -gt "$before" ]; then forgotten "pages of $file: others have given them back: there are $now"; fi
}

case ${1:-} in
check) check ;;
reserve) reserve "${2:-}" ;;
release) release ;;
*) die "usage: $0 check | reserve MIB | release" 2 ;;
esac
