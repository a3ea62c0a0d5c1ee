#!/bin/sh
# scripts/bench.sh [--quick] [flags of scripts/bench/runner]
#
# Measures this server, the limit and the peers side by side in one run, and writes results.json, table.md and
# deliveries.svg: to docs/bench, or with --quick (a few cases, some minutes) to bin/bench, which is not committed.
# Needs Go, gcc and two CPUs that nobody else uses; the whole takes about an hour.
set -eu
cd "$(dirname "$0")/.."
out=docs/bench
for a; do
	case $a in --quick | -quick) out=bin/bench ;; esac
done
mkdir -p bin "$out"
out=$(cd "$out" && pwd)
go build -o bin/tilewire ./cmd/tilewire
cd scripts/bench
go build -o ../../bin/benchrunner ./runner
exec ../../bin/benchrunner --report "$out" "$@"
