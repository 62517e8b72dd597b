#!/usr/bin/env bash
# Measures `kokkuri explain` and Debian's fail2ban and crowdsec on the same generated sshd log, in one run on this machine.
#
#   scripts/bench-peers.sh [--lines N] [--runs N] [--json FILE]
#
# Each gets the beginning of the same log: Kokkuri N lines (1,000,000), the peers as many as they do in a time that
# one waits for. Printed are medians of the runs. Lines a second are of the clock; processor time does not depend on what
# else the machine does. Guesses are what each counted, against what the generator knows to be true.
set -euo pipefail
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

lines=1000000 runs=3 json=""
while (($# > 0)); do
  case $1 in
    --lines) lines=$2 && shift 2 ;;
    --runs) runs=$2 && shift 2 ;;
    --json) json=$2 && shift 2 ;;
    *)
      echo "usage: scripts/bench-peers.sh [--lines N] [--runs N] [--json FILE]" >&2
      exit 2
      ;;
  esac
done

here=$(cd "$(dirname "$0")/.." && pwd)
readonly here lines runs json
readonly kokkuri="$here/bin/kokkuri"
work=$(mktemp -d /tmp/kokkuri-bench.XXXXXX)
readonly work
trap 'rm -rf "$work"' EXIT
# crowdsec's parsers and helpers of fail2ban need to read it whoever they run as.
chmod 755 "$work"

[[ -x $kokkuri ]] || {
  echo "bench-peers: $kokkuri is missing: make build" >&2
  exit 1
}

# smaller prints the lesser of two numbers.
smaller() { echo $(($1 < $2 ? $1 : $2)); }
server_lines=$(smaller "$lines" 100000)
regex_lines=$(smaller "$lines" 100000)
crowdsec_lines=$(smaller "$lines" 20000)
counted_lines=$(smaller "$lines" 5000) # of those whose guesses crowdsec is asked for

# fail2ban forgets what is older than its findtime, so the log ends about now.
begin=$(date -u -d "-7 hours" +%Y-%m-%dT%H:%M:%SZ)
for n in "$lines" "$server_lines" "$regex_lines" "$crowdsec_lines" "$counted_lines"; do
  [[ -e $work/$n.log ]] || "$kokkuri" lab log --lines "$n" --seed 4 --openssh 9 --begin "$begin" --truth "$work/$n.truth" >"$work/$n.log"
done

# measure NAME LINES COMMAND… runs the command, its output in NAME.out, and notes seconds, processor seconds and peak memory.
measure() {
  local name=$1 n=$2
  shift 2
  /usr/bin/python3 - "$work" "$name" "$n" "$@" <<'PYTHON'
import json, resource, subprocess, sys, time
work, name, n, command = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
with open(f"{work}/{name}.out", "w") as out:
    begin = time.monotonic()
    done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, cwd=work)
    took = time.monotonic() - begin
if done.returncode != 0:
    print(open(f"{work}/{name}.out").read()[-2000:], file=sys.stderr)
    sys.exit(f"bench-peers: {name} ended with {done.returncode} (above: the end of its output)")
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(f"{work}/{name}.runs", "a") as runs:
    runs.write(json.dumps({"lines": n, "seconds": took, "cpu": used.ru_utime + used.ru_stime, "kib": used.ru_maxrss}) + "\n")
PYTHON
}

# guesses NAME N notes how many guesses a tool counted.
guesses() { echo "$2" >"$work/$1.guesses"; }

run_kokkuri() {
  measure kokkuri "$lines" "$kokkuri" explain --summary --json "$work/$lines.log"
  guesses kokkuri "$(sed -n 's/.*"guesses":\([0-9]*\).*/\1/p' "$work/kokkuri.out")"
}

run_fail2ban_regex() {
  measure fail2ban-regex "$regex_lines" fail2ban-regex --print-no-missed --print-no-ignored "$work/$regex_lines.log" sshd
  guesses fail2ban-regex "$(sed -n 's/^Lines:.* \([0-9]*\) matched.*/\1/p' "$work/fail2ban-regex.out")"
}

# run_fail2ban_server lets a server of its own, with no action, read the file, until it has banned the source of the last lines.
run_fail2ban_server() {
  local d=$work/fail2ban
  rm -rf "$d"
  cp -r /etc/fail2ban "$d"
  rm -f "$d"/jail.d/* "$d/jail.local" "$d/fail2ban.local"
  cp "$work/$server_lines.log" "$d/auth.log"
  local i
  for i in 1 2 3 4 5 6; do
    echo "$(date -u +%Y-%m-%dT%H:%M:%S.00000$i+00:00) web sshd[$i]: Failed password for root from 192.0.2.250 port $i ssh2" >>"$d/auth.log"
  done
  cat >"$d/fail2ban.local" <<INI
[Definition]
socket = $d/socket
pidfile = $d/pid
dbfile = None
logtarget = $d/log
INI
  cat >"$d/jail.local" <<INI
[DEFAULT]
ignoreself = false
[sshd]
enabled = true
backend = polling
logpath = $d/auth.log
findtime = 1d
maxretry = 5
action =
INI
  cat >"$d/run" <<'RUN'
#!/bin/sh
# Runs the server in the foreground, and stops it when the last source is banned.
fail2ban-server -c "$1" -f -s "$1/socket" -p "$1/pid" start &
server=$!
until fail2ban-client -c "$1" -s "$1/socket" -p "$1/pid" status sshd 2>/dev/null >"$1/status" && grep -q '192\.0\.2\.250' "$1/status"; do
  kill -0 "$server" 2>/dev/null || exit 1
  sleep 0.5
done
fail2ban-client -c "$1" -s "$1/socket" -p "$1/pid" stop >/dev/null
wait "$server"
RUN
  measure fail2ban-server "$server_lines" sh "$d/run" "$d"
  guesses fail2ban-server $(($(sed -n 's/.*Total failed:[^0-9]*\([0-9]*\).*/\1/p' "$d/status") - 6))
}

# crowdsec_config makes a configuration that touches nothing of the machine's own.
crowdsec_config() {
  local d=$work/crowdsec
  rm -rf "$d" && mkdir -p "$d"
  cp -r /var/lib/crowdsec/data "$d/data"
  cat >"$d/config.yaml" <<YAML
common: {daemonize: false, log_media: stdout, log_level: info}
config_paths: {config_dir: /etc/crowdsec/, data_dir: $d/data/, simulation_path: /etc/crowdsec/simulation.yaml, hub_dir: /var/lib/crowdsec/hub/, index_path: /var/lib/crowdsec/hub/.index.json, plugin_dir: /usr/lib/crowdsec/plugins/}
crowdsec_service: {parser_routines: $(nproc)}
db_config: {type: sqlite, db_path: $d/data/crowdsec.db, use_wal: true}
plugin_config: {user: nobody, group: nogroup}
api:
  client: {credentials_path: $d/credentials.yaml}
  server: {log_level: error, listen_uri: 127.0.0.1:10520, profiles_path: /etc/crowdsec/profiles.yaml}
prometheus: {enabled: false}
YAML
  sed 's#^url:.*#url: http://127.0.0.1:10520#' /etc/crowdsec/local_api_credentials.yaml >"$d/credentials.yaml"
}

run_crowdsec() {
  crowdsec_config
  measure crowdsec "$crowdsec_lines" crowdsec -c "$work/crowdsec/config.yaml" -no-capi -dsn "file://$work/$crowdsec_lines.log" -type syslog
}

# count_crowdsec counts what it poured into its bucket of password guessing, in a run of its own over fewer lines, since writing
# that down costs much, and ends in a panic where several routines do it.
count_crowdsec() {
  crowdsec_config
  sed -i 's/parser_routines: [0-9]*/parser_routines: 1/' "$work/crowdsec/config.yaml"
  mkdir "$work/crowdsec/dump"
  (cd "$work" && crowdsec -c "$work/crowdsec/config.yaml" -no-capi -dsn "file://$work/$counted_lines.log" -type syslog -dump-data "$work/crowdsec/dump") >"$work/dump.out" 2>&1 || {
    tail -n 20 "$work/dump.out" >&2
    echo "bench-peers: crowdsec could not write down what it counted (above: the end of its output)" >&2
    exit 1
  }
  guesses crowdsec "$(awk '/^[a-zA-Z]/ {bucket = $1} bucket == "crowdsecurity/ssh-bf:" && /^ *log_type: ssh_failed-auth/ {n++} END {print n + 0}' "$work/crowdsec/dump/bucketpour-dump.yaml")"
}

for ((i = 1; i <= runs; i++)); do
  echo "  run $i of $runs: kokkuri explain" >&2
  run_kokkuri
  echo "  run $i of $runs: fail2ban-regex" >&2
  run_fail2ban_regex
  echo "  run $i of $runs: fail2ban-server" >&2
  run_fail2ban_server
  echo "  run $i of $runs: crowdsec" >&2
  run_crowdsec
done
count_crowdsec

/usr/bin/python3 - "$work" "$json" "$counted_lines" <<'PYTHON'
import json, statistics, sys
work, path, counted_lines = sys.argv[1:]
results = {}
for name in ["kokkuri", "fail2ban-regex", "fail2ban-server", "crowdsec"]:
    runs = [json.loads(line) for line in open(f"{work}/{name}.runs")]
    n = runs[0]["lines"]
    truth = json.load(open(f"{work}/{counted_lines if name == 'crowdsec' else n}.truth"))["guesses"]
    counted = int(open(f"{work}/{name}.guesses").read())
    median = lambda key: statistics.median(r[key] for r in runs)
    results[name] = {
        "lines": n, "runs": len(runs), "lines_per_second": round(n / median("seconds")), "cpu_us_per_line": round(median("cpu") / n * 1e6, 2),
        "peak_mib": round(median("kib") / 1024, 1), "guesses": counted, "truth": truth, "counted_per_guess": round(counted / truth, 3),
    }
ours = results["kokkuri"]
print(f"{'':16} {'lines':>9} {'lines/s':>10} {'CPU µs/line':>12} {'peak MiB':>9} {'guesses':>8} {'truth':>8}   against kokkuri: slower, CPU, memory")
for name, r in results.items():
    r["slower"] = round(ours["lines_per_second"] / r["lines_per_second"], 1)
    r["cpu_ratio"] = round(r["cpu_us_per_line"] / ours["cpu_us_per_line"], 1)
    r["memory_ratio"] = round(r["peak_mib"] / ours["peak_mib"], 1)
    print(f"{name:16} {r['lines']:>9} {r['lines_per_second']:>10} {r['cpu_us_per_line']:>12} {r['peak_mib']:>9} {r['guesses']:>8} {r['truth']:>8}   {r['slower']}×, {r['cpu_ratio']}×, {r['memory_ratio']}×")
if path:
    with open(path, "w") as out:
        json.dump(results, out, indent=2)
if ours["lines_per_second"] < 1_000_000 or ours["peak_mib"] > 100 or ours["guesses"] != ours["truth"]:
    sys.exit("bench-peers: kokkuri explain is not within its bounds: 1,000,000 lines a second, 100 MiB, every guess and no more")
PYTHON
