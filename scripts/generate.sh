#!/usr/bin/env bash
# Builds what is committed as built: httpsrv/steer's BPF program. Needs clang, llvm-strip and libbpf's headers
# (Debian: apt-get install clang llvm libbpf-dev); who only builds Tilewire needs none of them.   scripts/generate.sh [DIR]
# DIR: where the results go, instead of beside the source.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../httpsrv/steer"

dir=${1:-.}
for tool in clang llvm-strip; do
	command -v "$tool" >/dev/null || { echo "generate: no $tool (Debian: apt-get install clang llvm libbpf-dev)" >&2; exit 3; }
done
# linux/types.h includes asm/types.h, which Debian keeps in a directory per architecture.
flags="-O2 -Wall -Werror -mcpu=v3 -I/usr/include/$(uname -m)-linux-gnu"
GOPACKAGE=steer go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -type head -type tile -output-dir "$dir" \
	-cflags "$flags" program program.c
{
	clang --version | head -1
	sha256sum program.c
} >"$dir/program.built"
