#!/bin/bash
# Runs in the virtual machine, as root, with nothing else around. Each line that starts with VM is read by vm-test.
set -uo pipefail

check() {
  local name=$1 out
  shift
  if out=$("$@" 2>&1); then
    echo "VM ok: $name"
  else
    echo "VM FAILED: $name"
    tail -n 15 <<<"$out" | sed 's/^/    /'
  fi
}
equal() { [[ $1 == "$2" ]] || { printf 'want: %s\ngot:  %s\n' "$1" "$2"; return 1; }; }
eventually() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { "$@"; return; }
    sleep 0.5
  done
}
scrape() { curl -sfS --max-time 20 http://127.0.0.1:10059/metrics; }
modules() { lsmod | awk 'NR > 1 { print $1 }' | sort; }
# collectors_succeed: all collectors get their answer. The names of legacy tables may be refused: systemd loads ip_tables at boot, and
# only root may read them.
collectors_succeed() {
  local metrics log
  metrics=$(scrape) || return
  log=$(journalctl --unit=vxlan_exporter.service --no-pager --output=cat | grep 'collector failed' | tail -n 1)
  echo "$log"
  grep '^vxlan_scrape_collector_success' <<<"$metrics" || return
  equal "" "$(sed -n 's/^vxlan_scrape_collector_success{collector="\(.*\)"} 0$/\1/p' <<<"$metrics" | grep -vx natrules)" || return
  ! grep -q '^vxlan_scrape_collector_success{collector="natrules"} 0$' <<<"$metrics" ||
    { grep -q ip_tables_names <<<"$log" && ! grep -q nftables: <<<"$log"; }
}
cgroup() { cat "/sys/fs/cgroup/system.slice/vxlan_exporter.service/$1"; }

# in_sandbox UNIT ATTEMPT: runs hostile in the sandbox of a unit; prints what came of it.
in_sandbox() {
  sed -e '/^\(ExecStart\|Type\|NotifyAccess\|WatchdogSec\|Restart\|RestartSec\|RemainAfterExit\|RuntimeDirectory.*\|User\)=/d' \
    -e 's#^ExecPaths=.*#ExecPaths=/usr/bin/hostile#' -e "s#^\[Service\]#&\nType=oneshot\nExecStart=/usr/bin/hostile $2\nStandardOutput=file:/var/tmp/hostile.out#" \
    "/usr/lib/systemd/system/$1" >/run/systemd/system/hostile.service
  : >/var/tmp/hostile.out
  systemctl daemon-reload
  systemctl reset-failed hostile.service 2>/dev/null
  systemctl start hostile.service 2>/dev/null
  echo "$(systemctl show --property=Result --value hostile.service): $(cat /var/tmp/hostile.out)"
}
refused_all() {
  local out
  out=$(in_sandbox vxlan_exporter.service "")
  echo "$out"
  ! grep -q '^allowed\|: allowed' <<<"$out" && (($(wc -l <<<"$out") > 25))
}
verdicts() {
  cat /run/vxlan_exporter/selftest.json
  grep -q '"verdict": "affected"' /run/vxlan_exporter/selftest.json
}
guard() {
  systemctl start vxlan_exporter-guard.service
  ip link add flannel.1 type vxlan id 1 dstport 8472
  sed -i 's/^GUARD_ARGS=.*/GUARD_ARGS="--device=flannel.*"/' /etc/default/vxlan_exporter
  systemctl restart vxlan_exporter-guard.service
  eventually 20 eval 'ethtool -k flannel.1 | grep -q "tx-checksum-ip-generic: off"'
}
# monitoring_only: with the drop-in, localhost is answered and another address is not.
monitoring_only() {
  local dir=/run/systemd/system/vxlan_exporter.service.d
  ip addr add 198.51.100.1/32 dev lo
  curl -sfS --max-time 20 --interface 198.51.100.1 http://198.51.100.1:10059/-/healthy || return
  mkdir -p "$dir" && cp /usr/share/doc/vxlan-exporter/examples/monitoring-only.conf "$dir" && systemctl daemon-reload &&
    systemctl restart vxlan_exporter.service && eventually 60 scrape || return
  ! curl -sfS --max-time 5 --interface 198.51.100.1 http://198.51.100.1:10059/-/healthy || return
  rm -r "$dir" && systemctl daemon-reload && systemctl restart vxlan_exporter.service && eventually 60 scrape
}

ip link set lo up
echo "VM kernel $(uname -r), systemd $(systemctl --version | awk 'NR == 1 { print $2 }')"
# The self-test loads what it tests. Here the question is what the exporter does.
systemctl mask --quiet vxlan_exporter-selftest.service
modules >/var/tmp/before
check "the package installs" dpkg --install /var/tmp/package.deb
check "scraped" eventually 60 scrape
check "all collectors succeed where there is no netfilter module" collectors_succeed
for _ in 1 2 3; do scrape >/dev/null; done
modules >/var/tmp/after
# nfnetlink is the transport: opening its socket loads it (net/netlink/af_netlink.c), and it does nothing by itself.
check "scraping loads no module but nfnetlink" equal "" "$(comm -13 /var/tmp/before /var/tmp/after | grep -vx nfnetlink)"
check "only the monitoring network, by the drop-in" monitoring_only
check "memory limit" equal 67108864 "$(cgroup memory.max)"
check "task limit" equal 64 "$(cgroup pids.max)"
check "CPU weight" equal 50 "$(cgroup cpu.weight)"
check "hostile attempts are refused" refused_all
check "outside of the sandbox, memory is given" equal "allowed eat" "$(/usr/bin/hostile eat)"
check "too much memory is refused to the exporter" grep -qx 'oom-kill: ' <<<"$(in_sandbox vxlan_exporter.service eat)"
check "the exporter may send packets" grep -q 'success: allowed send' <<<"$(in_sandbox vxlan_exporter.service send)"
check "the guard may not" grep -q 'exit-code: refused send: operation not permitted' <<<"$(in_sandbox vxlan_exporter-guard.service send)"
systemctl unmask --quiet vxlan_exporter-selftest.service
check "the self-test" systemctl start vxlan_exporter-selftest.service
check "its verdict" verdicts
check "collectors succeed with the modules of nf_tables loaded" collectors_succeed
check "the guard" guard
echo "VM end"
