#!/usr/bin/env bash
# Runs every fuzz target of the module for a time each.   scripts/fuzz.sh [TIME]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

time=${1:-30s}
grep -rlE '^func Fuzz[A-Z]' --include=*_test.go . | grep -v '^./scripts/' | sort | while read -r file; do
	sed -nE 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/p' "$file" | while read -r target; do
		echo "== $(dirname "$file") $target"
		go test -run "^$" -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 2s "$(dirname "$file")"
	done
done
