#!/bin/sh
# scripts/bench-diff.sh REF [COUNT [PATTERN]]
#
# Runs the Go micro-benchmarks of REF (a commit, in a worktree of its own that is removed again) and of the working tree
# in turns, and prints benchstat. REF may also be `baseline`: docs/bench/baseline.txt against the working
# tree; and `--save` writes that file anew. Pages is left out: it takes huge pages from the host, and seconds a round.
set -eu
cd "$(dirname "$0")/.."
ref=${1:?usage: scripts/bench-diff.sh REF|baseline|--save [COUNT [PATTERN]]}
count=${2:-6}
pattern=${3:-.}
packages="./httpsrv/... ./shmem ./tile ./wksp"
benchstat=golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
baseline=docs/bench/baseline.txt

measure() ( # folder, count: benchmarks only; no package's benchmarks run beside another's
	cd "$1"
	# shellcheck disable=SC2086
	go test -p 1 -run '^$' -bench "$pattern" -skip '^BenchmarkPages$' -benchmem -benchtime 100ms -count "$2" $packages
)

work=$(mktemp -d)
trap 'git worktree remove --force "$work/tree" 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
case $ref in
--save)
	mkdir -p docs/bench
	measure . "$count" >"$work/new.txt"
	mv "$work/new.txt" "$baseline"
	exit
	;;
baseline)
	measure . "$count" >"$work/new.txt"
	cp "$baseline" "$work/old.txt"
	;;
*)
	git worktree add --detach --quiet "$work/tree" "$ref"
	i=0
	while [ "$i" -lt "$count" ]; do # in turns: a machine that gets slower slows down both
		measure "$work/tree" 1 >>"$work/old.txt"
		measure . 1 >>"$work/new.txt"
		i=$((i + 1))
	done
	;;
esac
(cd "$work" && go run "$benchstat" old.txt new.txt)
