#!/usr/bin/env bash
# Makes the eBPF object anew from its source, with the compiler that scripts/deps.sh ebpf installs.
#
#   scripts/ebpf.sh           overwrites what is in the repository
#   scripts/ebpf.sh --check   fails where that is not what the source gives
#
# The bytes depend on the compiler's version: it is Debian's clang-16.
set -euo pipefail
cd "$(dirname "$0")/.." || exit 1

readonly package=internal/honeypot/watch
readonly object=watch_bpfel.o glue=watch_bpfel.go

case ${1:-} in
  "") go generate "./$package" ;;
  --check)
    before=$(mktemp -d)
    trap 'cp "$before/$object" "$before/$glue" "$package/"; rm -rf "$before"' EXIT
    cp "$package/$object" "$package/$glue" "$before/"
    go generate "./$package"
    for file in "$object" "$glue"; do
      cmp "$before/$file" "$package/$file" || {
        echo "ebpf: $package/$file is not what its source gives: run scripts/ebpf.sh with $(clang-16 --version | head -n 1), and commit it" >&2
        exit 1
      }
    done
    echo "ebpf: $object is what its source gives"
    ;;
  *)
    echo "usage: scripts/ebpf.sh [--check]" >&2
    exit 2
    ;;
esac
