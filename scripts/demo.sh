#!/usr/bin/env bash
# The demo: installs what is missing, builds, brings the lab up, attacks it and shows what came of it.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly steps=4
step() { printf '\n[%d/%d] %s\n' "$1" "$steps" "$2"; }

[[ $(id -u) == 0 ]] || {
  echo "the demo makes networks, namespaces and containers: run it as root" >&2
  exit 1
}
step 1 "install what is missing"
scripts/deps.sh demo
step 2 "build bin/kokkuri and bin/kokkuri-agent"
make --no-print-directory build
step 3 "bring the lab up (three machines in containers, a server and a honeypot node)"
bin/kokkuri lab up
step 4 "attack it"
bin/kokkuri lab attack
cat <<'END'

The lab keeps running. Look around:

  bin/kokkuri redirects ls        who is redirected where, and why
  bin/kokkuri pots ls             the containers that belong to attackers
  bin/kokkuri sessions ls         what came through the front
  bin/kokkuri sessions replay ID  the attacker's shell, at its own pace
  bin/kokkuri lab status          the machines of the lab
  bin/kokkuri lab attack          again

make down removes everything.
END
