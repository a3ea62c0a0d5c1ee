#!/usr/bin/env bash
# The container recipe where there is no container runtime: what Containerfile describes, by hand, in namespaces of its own.
#   scripts/container/try.sh PROGRAM SHM_SIZE ARG...      as root; PROGRAM linked statically (CGO_ENABLED=0)
# A root of nothing but the program, read-only; /dev/shm of SHM_SIZE (64m), an empty /run; user 65534, no new privileges, process 1.
# Nothing is left behind: all of it is mounted in a mount namespace that ends with the program.
set -euo pipefail

[ $# -ge 3 ] || { echo "usage: ${0##*/} PROGRAM SHM_SIZE ARG..." >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "${0##*/}: root is needed to make namespaces by hand" >&2; exit 2; }
if [ "${TILEWIRE_INSIDE-}" != 1 ]; then
	TILEWIRE_INSIDE=1 exec unshare --mount --pid --ipc --uts --fork --kill-child -- "${BASH_SOURCE[0]}" "$@"
fi
unset TILEWIRE_INSIDE
program=$1 shm=$2
shift 2
root=/mnt # any directory that is there; hidden in this namespace only
mount --make-rprivate /
exec 3<"$program"
mount -t tmpfs -o size=64m,mode=0755 none $root
mkdir -p $root/proc $root/dev/shm $root/run
cat <&3 >$root/tilewire
exec 3<&-
chmod 0755 $root/tilewire
touch $root/dev/null
mount --bind /dev/null $root/dev/null
mount -t proc none $root/proc
mount -t tmpfs -o size="$shm",mode=1777 none $root/dev/shm
mount -t tmpfs -o size=1m,mode=1777 none $root/run
mount -o remount,ro $root
exec env -i PATH="$PATH" TILEWIRE_RUN_DIR=/run/tilewire setpriv --no-new-privs --bounding-set=-all,+setuid,+setgid,+sys_chroot \
	chroot --userspec=65534:65534 --groups=65534 $root /tilewire "$@"
