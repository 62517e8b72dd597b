#!/usr/bin/env bash
# Runs everything: unit tests with the race detector, the end-to-end tests on the lab, lint.
# Every step runs, whatever became of the one before; the exit code says whether all passed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

readonly steps=6
readonly module=github.com/kokkuri/kokkuri
logs=$(mktemp -d) || exit 1
trap 'rm -rf "$logs"' EXIT
failed=()
closing=() # log files whose package lines are shown at the end

# run NUMBER NAME COMMAND…: shows the step and its time, remembers whether it failed.
run() {
  local number=$1 name=$2 began=$SECONDS
  shift 2
  printf '\n[%d/%d] %s\n' "$number" "$steps" "$name"
  if "$@"; then
    printf '[%d/%d] ok: %s (%d s)\n' "$number" "$steps" "$name" $((SECONDS - began))
  else
    printf '[%d/%d] FAILED: %s (%d s)\n' "$number" "$steps" "$name" $((SECONDS - began))
    failed+=("$name")
  fi
}

# gotest LOG ARGUMENTS…: go test, shown as it goes and kept for the closing lines.
gotest() {
  local log=$logs/$1
  shift
  closing+=("$log")
  go test "$@" 2>&1 | tee "$log"
}

units() {
  local packages
  mapfile -t packages < <(go list ./... | grep -v "^$module/internal/e2e")
  CGO_ENABLED=1 gotest units -race -timeout 25m "${packages[@]}"
}

endtoend() { gotest e2e -count=1 -timeout 25m -v ./internal/e2e/...; }

lint() {
  local bad=0
  shellcheck scripts/*.sh .ci/run || bad=1
  go vet ./... || bad=1
  go tool -modfile=tools/go.mod golangci-lint run ./... || bad=1
  return $bad
}

run 1 "install what the tests need" scripts/deps.sh test lint ebpf
run 2 "build bin/kokkuri and bin/kokkuri-agent" make --no-print-directory build
run 3 "unit tests with the race detector" units
run 4 "end-to-end tests on the lab" endtoend
run 5 "lint" lint
run 6 "the eBPF object is what its source gives" scripts/ebpf.sh --check

printf '\n'
grep -hE '^(ok|FAIL|---? FAIL|panic:|\?)\s' "${closing[@]}" | grep -v 'no test files'
if ((${#failed[@]} > 0)); then
  printf 'FAIL: %s\n' "${failed[@]}"
  exit 1
fi
printf 'ok: all %d steps (%d s)\n' "$steps" "$SECONDS"
