#!/usr/bin/env bash
# Installs what the demo, the tests or the lint need, and starts a Docker engine where none answers.
#
#   scripts/deps.sh demo|test|lint|ebpf|bench…
#
# Present things are left alone, nothing is started but the engine, and running it again changes nothing.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

readonly socket="${KOKKURI_DOCKER_SOCKET:-/var/run/docker.sock}"
readonly engine_log=/var/log/kokkuri-dockerd.log
readonly engine_patience=60 # seconds

# What each purpose needs: the command that shows that it is there, and Debian's package that brings it.
demo=(dockerd=docker.io nft=nftables iptables=iptables mmdebstrap=mmdebstrap)
test=("${demo[@]}" gcc=gcc git=git ip=iproute2 ss=iproute2 conntrack=conntrack ssh=openssh-client
  sshd=openssh-server sshpass=sshpass rsyslogd=rsyslog lmnsd_gtls=rsyslog-gnutls lmnsd_ossl=rsyslog-openssl unshare=util-linux journalctl=systemd
  rsync=rsync plink=putty-tools dbclient=dropbear-bin python3=python3 busybox=busybox-static paramiko=python3-paramiko curl=curl
  nmap=nmap sshfs=sshfs fusermount=fuse3 ssh-agent=openssh-client
  mariadbd=mariadb-server pg_ctlcluster=postgresql redis-server=redis-server
  pymysql=python3-pymysql nginx=nginx apache2=apache2 vsftpd=vsftpd openssl=openssl
  telnetd=inetutils-telnetd inetutils-telnet=inetutils-telnet)
lint=(shellcheck=shellcheck git=git)
ebpf=(clang-16=clang-16 llvm-strip-16=llvm-16 bpf_helpers.h=libbpf-dev) # scripts/ebpf.sh
bench=(fail2ban-server=fail2ban crowdsec=crowdsec gzip=gzip wrk=wrk)

usage() {
  echo "usage: scripts/deps.sh demo|test|lint|ebpf|bench…" >&2
  exit 2
}

step() { printf '  deps: %s\n' "$*"; }

die() {
  printf 'deps: %s\n' "$*" >&2
  exit 1
}

# engine_answers asks the engine's socket for a ping; perl-base is on every Debian, curl is not.
engine_answers() {
  [[ -S $socket ]] && perl -MIO::Socket::UNIX -e '
    alarm 5;
    my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 1;
    print $s "GET /_ping HTTP/1.0\r\n\r\n";
    exit(<$s> =~ m{^HTTP/\S+ 200} ? 0 : 1);
  ' "$socket" 2>/dev/null
}

service_manager_runs() { [[ -d /run/systemd/system ]]; }

# missing prints the packages whose command is not there. libc's headers come with no command.
missing() {
  local need
  for need in "$@"; do
    if [[ ${need%%=*} == dockerd ]] && engine_answers; then continue; fi
    if [[ ${need#*=} == python3-* ]]; then # a library, not a command
      /usr/bin/python3 -c "import ${need%%=*}" 2>/dev/null || echo "${need#*=}"
      continue
    fi
    if [[ ${need%%=*} == *.h ]]; then # a header
      [[ -e /usr/include/bpf/${need%%=*} ]] || echo "${need#*=}"
      continue
    fi
    if [[ ${need%%=*} == lmnsd_* ]]; then # a module of rsyslog's
      compgen -G "/usr/lib/*/rsyslog/${need%%=*}.so" >/dev/null || echo "${need#*=}"
      continue
    fi
    command -v "${need%%=*}" >/dev/null || echo "${need#*=}"
    if [[ ${need%%=*} == gcc && ! -e /usr/include/stdlib.h ]]; then echo libc6-dev; fi
  done | sort -u
}

# keep_crowdsec_home keeps crowdsec's package from registering with its maker, which fails without a network: the package
# takes a file that is there already for this wish.
keep_crowdsec_home() {
  local credentials=/etc/crowdsec/online_api_credentials.yaml
  if [[ ! -s $credentials ]]; then
    mkdir -p "${credentials%/*}"
    echo "# not registered: installed to be measured" >"$credentials"
  fi
}

# install installs packages without letting any of them start a daemon.
install() {
  local policy=/usr/sbin/policy-rc.d made=""
  [[ $(id -u) == 0 ]] || die "installing $* needs root: run it as root"
  command -v apt-get >/dev/null || die "no apt-get here: install $* by hand and try again"
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=$policy
  fi
  # shellcheck disable=SC2064 # the path as it is now
  trap "rm -f '$made'" EXIT
  step "apt-get update"
  apt-get -qq update || step "apt-get update had errors; trying with the lists that are there"
  if [[ " $* " == *" crowdsec "* ]]; then keep_crowdsec_home; fi
  step "apt-get install $*"
  local log
  log=$(mktemp)
  apt-get -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends install "$@" >"$log" 2>&1 || {
    tail -n 30 "$log" >&2
    die "apt-get could not install $* (above: its last lines)"
  }
  rm -f "$log"
  [[ -z $made ]] || rm -f "$made"
  trap - EXIT
  if service_manager_runs; then keep_off "$@"; fi
}

# keep_off sees to it that daemons which only tests need don't start at the next boot either.
keep_off() {
  local package
  for package in "$@"; do
    case $package in
      openssh-server) systemctl --quiet disable ssh.service ssh.socket 2>/dev/null || true ;;
      rsyslog) systemctl --quiet disable rsyslog.service 2>/dev/null || true ;;
      fail2ban) systemctl --quiet disable fail2ban.service 2>/dev/null || true ;;
      crowdsec) systemctl --quiet disable crowdsec.service 2>/dev/null || true ;;
      mariadb-server) systemctl --quiet disable mariadb.service 2>/dev/null || true ;;
      postgresql | redis-server | nginx | apache2 | vsftpd) systemctl --quiet disable "$package.service" 2>/dev/null || true ;;
    esac
  done
}

start_engine() {
  if engine_answers; then
    step "a Docker engine answers on $socket"
    return
  fi
  [[ $(id -u) == 0 ]] || die "no Docker engine answers on $socket, and starting one needs root"
  if service_manager_runs; then
    step "starting docker.service"
    systemctl start docker.service || die "docker.service does not start: journalctl -u docker says why"
  else
    mount_cgroups
    step "starting dockerd (no service manager runs here); its log is $engine_log"
    setsid nohup dockerd --live-restore --host "unix://$socket" >>"$engine_log" 2>&1 </dev/null &
  fi
  local waited=0
  until engine_answers; do
    ((waited++ < engine_patience)) || {
      tail -n 20 "$engine_log" >&2 || true
      die "no Docker engine answers on $socket after $engine_patience s (above: the end of $engine_log)"
    }
    sleep 1
  done
  step "the engine answers after $waited s"
}

# mount_cgroups is for machines whose init left /sys/fs/cgroup empty; an engine can't run without.
mount_cgroups() {
  if grep -q ' /sys/fs/cgroup' /proc/mounts; then return; fi
  command -v cgroupfs-mount >/dev/null || install cgroupfs-mount
  step "mounting the control groups"
  cgroupfs-mount
}

main() {
  (($# > 0)) || usage
  local purpose engine="" need=() packages=()
  for purpose in "$@"; do
    case $purpose in
      demo) need+=("${demo[@]}") engine=yes ;;
      test) need+=("${test[@]}") engine=yes ;;
      lint) need+=("${lint[@]}") ;;
      ebpf) need+=("${ebpf[@]}") ;;
      bench) need+=("${bench[@]}") ;; # the peers that `make bench` measures Kokkuri against
      *) usage ;;
    esac
  done
  command -v go >/dev/null || die "no Go here: install the version that go.mod names from https://go.dev/dl/ and put it into PATH"
  mapfile -t packages < <(missing "${need[@]}")
  if ((${#packages[@]} > 0)); then
    install "${packages[@]}"
  else
    step "everything for $* is installed"
  fi
  if [[ -n $engine ]]; then start_engine; fi
}

main "$@"
