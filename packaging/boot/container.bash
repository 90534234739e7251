# Functions that boot Debian in systemd-nspawn and enter it. Sourced by install-test, in a mount and PID namespace of its own.
# shellcheck shell=bash disable=SC2154,SC2317,SC2034 # variables and callers are in the files that source it

# boot SUITE makes an overlay over the suite's root and boots it. Sets root and leader.
boot() {
  root=$work/$1/root
  if [[ ! -d $root ]]; then
    mkdir -p "$work/$1"
    mount -t tmpfs -o size=1g,mode=755 tmpfs "$work/$1"
    mkdir -p "$root" "$work/$1/upper" "$work/$1/work"
    mount -t overlay -o "lowerdir=$rootfs/$1,upperdir=$work/$1/upper,workdir=$work/$1/work" overlay "$root"
  fi
  SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --directory="$root" --boot --machine="vxlan-$1" --register=no --keep-unit \
    --private-network --capability=CAP_NET_ADMIN --resolv-conf=off --timezone=off --link-journal=no --console=pipe \
    </dev/null >"$work/console.$1" 2>&1 &
  nspawn=$!
  local i
  for ((i = 0; i < 300; i++)); do
    leader=$(leader_of "$nspawn")
    # degraded: something that is not ours has failed.
    if [[ -n $leader ]] && [[ $(enter systemctl is-system-running 2>/dev/null) =~ ^(running|degraded)$ ]]; then
      return
    fi
    kill -0 "$nspawn" 2>/dev/null || break
    sleep 0.1
  done
  cat "$work/console.$1" >&2
  echo "install-test: $1 does not boot" >&2
  return 1
}

# leader_of PID: the container's first process, which is in another PID namespace than nspawn.
leader_of() {
  local child
  for child in $(pgrep -P "$1"); do
    if [[ $(readlink "/proc/$child/ns/pid") != $(readlink /proc/self/ns/pid) ]]; then
      echo "$child"
      return
    fi
    leader_of "$child"
  done
}

# enter COMMAND...: runs a command as root of the container, for at most two minutes.
enter() {
  timeout 120 nsenter --target "$leader" --mount --uts --ipc --net --pid --root --wd env -i \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

# shell SCRIPT: runs a script in the container.
shell() { enter bash -euo pipefail -c "$1"; }

# ended: waits until the container has ended and returns what nspawn said; 133 is a reboot.
ended() {
  local status=0 i
  for ((i = 0; i < 300; i++)); do
    kill -0 "$nspawn" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$nspawn" 2>/dev/null || true
  wait "$nspawn" || status=$?
  return "$status"
}

# poweroff_container ends it in any case.
poweroff_container() {
  enter systemctl poweroff --no-wall >/dev/null 2>&1 || true
  ended || true
}

# eventually SECONDS COMMAND...: repeats the command until it succeeds.
eventually() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= end)); then
      "$@" # for its message
      return
    fi
    sleep 0.1
  done
}
