#!/usr/bin/env bash
# gofmt and vet must be there (with Go); shellcheck and staticcheck are asked when they can be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

unformatted=$(find . -name '*.go' -not -path '*/node_modules/*' -exec gofmt -l {} +)
[ -z "$unformatted" ] || { echo "gofmt -w $unformatted" >&2; exit 1; }
go vet ./...
go vet -tags explore ./wksp ./httpsrv
if grep -rlE '^(import|[[:space:]])[[:space:]]*"unsafe"$' --include=*.go . | grep -vE '^\./shmem/[a-z_]+_unsafe(_test)?\.go$|^\./scripts/bench/'; then
	echo "unsafe belongs into shmem/*_unsafe.go" >&2
	exit 1
fi
if command -v shellcheck >/dev/null; then
	shellcheck scripts/*.sh .ci/run
else
	echo "lint: no shellcheck (Debian: apt-get install shellcheck)"
fi
# The version is fixed, so that a new one does not break an old commit.
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
if go run $staticcheck -version >/dev/null 2>&1; then
	go run $staticcheck -tags explore ./... # with it, all that tests share is in use
else
	echo "lint: no staticcheck ($staticcheck can't be fetched or built)"
fi
