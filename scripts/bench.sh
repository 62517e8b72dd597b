#!/usr/bin/env bash
# Measures everything that has a bound, each beside what it is compared with, and says at the end what was not within.
# Machines are noisy: let nothing else run meanwhile.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

logs=$(mktemp -d) || exit 1
trap 'rm -rf "$logs"' EXIT
failed=()

# bench NAME COMMAND…: shows what it printed but for the making of images, and remembers whether it was within bounds.
bench() {
  local name=$1
  shift
  printf '\n%s\n' "$name"
  "$@" >"$logs/out" 2>&1 || failed+=("$name")
  grep -vE '^(goos|goarch|pkg|PASS|    (base )?image|    I: |--- BENCH)' "$logs/out"
}

gobench() {
  local what=$1 times=$2
  shift 2
  go test -run '^$' -bench "$what" -benchtime "$times" "$@"
}

scripts/deps.sh test bench || exit 1
bench "Who gets in: to a pot that answers (bound: 40 ms at the median); what a pot costs that waits" \
  gobench 'PoolHit|IdlePot' 10x ./internal/honeypot/pool
bench "scp of 256 MiB, straight and through both fronts (bound: 70 % of straight)" gobench SCP 7x ./internal/honeypot/front/ssh
bench "redis-benchmark straight and through the front (bounds: half of the throughput, 0.5 ms more at the median)" gobench Front 3x ./internal/honeypot/front/redis
bench "mariadb-slap's own load straight and through the front (bounds: half of the throughput, 0.5 ms more for a query)" gobench Front 3x ./internal/honeypot/front/mysql
bench "pgbench's own load straight and through the front (bounds: the same)" gobench Front 3x ./internal/honeypot/front/postgres
bench "wrk straight and through the front of HTTP (bounds: the same)" gobench Front 3x ./internal/honeypot/front/web
bench "Idle connections: memory each, both ends of both connections" gobench Idle 1x ./internal/honeypot/front/{redis,mysql,postgres,web,telnet,ftp}
bench "10,000 connections of garbage at the door (bound: all end, nothing is left)" gobench DoorSoak 1x ./internal/honeypot/front/ssh
bench "1,000 sources guess at once at one node (bounds: 200 MB with the clients by the builtin front, 2 GiB by the door; all answered)" \
  gobench ThousandSources 1x ./internal/honeypot
bench "A program executed in a pot: not watched, told by the kernel, polled for; what the node spends and holds" \
  gobench Exec 5x ./internal/honeypot/watch
bench "A line read as an event (bound: 500 ns of processor time, nothing allocated)" gobench 'Line$' 1s ./internal/server/parse
bench "Lines by TCP, over the bus on disk, into the detector (bound: 300,000 a second at the median, none lost)" \
  gobench LiveRoad 5x ./internal/server
bench "The same log through kokkuri explain (bound: 1,000,000 lines a second, 100 MiB), fail2ban and crowdsec" scripts/bench-peers.sh
bench "The lab: prompts, and from log line to redirect" bin/kokkuri lab bench

if ((${#failed[@]} > 0)); then
  printf '\nNOT within bounds, or failed: %s\n' "${failed[@]}"
  exit 1
fi
printf '\nall within bounds\n'
