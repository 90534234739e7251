# What the packages promise, asked of a booted system. Sourced by install-test.
# shellcheck shell=bash disable=SC2154,SC2119,SC2120,SC2317,SC2034 # variables and callers are in the files that source it

passed=0 failed=0

# check NAME COMMAND...: the command must succeed. Not in a subshell, so that what it sets stays set.
check() {
  local name=$1
  shift
  if "$@" >"$work/output" 2>&1; then
    passed=$((passed + 1))
    # A measured figure is always shown.
    if [[ $1 == at_most ]]; then
      echo "$suite: $name: $(<"$work/output")"
    elif [[ -n ${VERBOSE-} ]]; then
      echo "ok: $suite: $name"
    fi
  else
    failed=$((failed + 1))
    printf 'FAILED: %s: %s\n' "$suite" "$name"
    sed 's/^/    /' "$work/output" | tail -30
  fi
}

# equal WANT GOT
equal() {
  [[ $1 == "$2" ]] || { printf 'want: %s\ngot:  %s\n' "$1" "$2"; return 1; }
}

# at_most LIMIT NUMBER
at_most() {
  echo "$2, at most $1"
  (($2 <= $1))
}

unit=vxlan_exporter.service

scrape() { enter curl -sfS --max-time 10 http://127.0.0.1:10059/metrics; }
metric() { scrape | grep -F -- "$1" | awk '{ print $NF }'; }
active() { equal active "$(enter systemctl is-active "${1-$unit}")"; }
inactive() { ! enter systemctl --quiet is-active "${1-$unit}"; }
enabled() { equal enabled "$(enter systemctl is-enabled "${1-$unit}")"; }
disabled() { equal disabled "$(enter systemctl is-enabled "${1-$unit}")"; }
main_pid() { enter systemctl show --property=MainPID --value "${1-$unit}"; }
property() { enter systemctl show --property="$1" --value "${2-$unit}"; }

# install FILE as the package manager at hand does.
install_deb() {
  cp "$work/packages/vxlan-exporter_$1-1_$arch.deb" "$root/var/tmp/package.deb"
  enter dpkg --install /var/tmp/package.deb
}

# install_quickly installs the package and scrapes; took is how many ms that lasted, the best of three on a machine that is busy with
# other things.
install_quickly() {
  local start try now
  took=999999
  for try in 1 2 3; do
    ((try == 1)) || enter dpkg --purge vxlan-exporter || return
    start=$(date +%s%N)
    install_deb 1.0.0 && eventually 10 scrape >/dev/null || return
    now=$((($(date +%s%N) - start) / 1000000))
    took=$((now < took ? now : took))
    ((took > 3000)) || break
  done
}

# network makes a VXLAN device whose outer packets are masqueraded as kube-proxy once did, and sends a packet.
network() {
  shell '
    ip link add u0 type veth peer name u1
    ip addr add 192.0.2.1/24 dev u0
    ip link set u0 up
    ip link set u1 up
    ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev u0
    ip link add flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.1 dev u0 nolearning udpcsum
    ip addr add 198.51.100.1/24 dev flannel.1
    ip link set flannel.1 up
    ip neigh add 198.51.100.2 lladdr 02:00:00:00:01:02 dev flannel.1
    bridge fdb add 02:00:00:00:01:02 dev flannel.1 dst 192.0.2.2
    iptables -t nat -N KUBE-POSTROUTING
    iptables -t nat -A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully
    iptables -t nat -A POSTROUTING -j KUBE-POSTROUTING
    iptables -t mangle -A OUTPUT -o flannel.1 -j MARK --set-xmark 0x4000/0x4000
    for i in 1 2 3; do echo hello >/dev/udp/198.51.100.2/53; done'
}

# snat_flows counts them with conntrack(8): the reply's destination port is not the source port.
snat_flows() {
  enter conntrack -L -p udp --orig-port-dst 8472 2>/dev/null |
    awk '{ n = 0; for (i = 1; i <= NF; i++) if ($i ~ /^(sport|dport)=/) { sub(/.*=/, "", $i); p[n++] = $i } if (p[0] != p[3]) flows++ } END { print flows + 0 }'
}

one_capability() {
  local pid status key
  pid=$(main_pid)
  status=$(enter cat "/proc/$pid/status")
  # CAP_NET_ADMIN is bit 12 (include/uapi/linux/capability.h).
  for key in CapInh CapPrm CapEff CapBnd CapAmb; do
    equal 0000000000001000 "$(awk -v k="$key:" '$1 == k { print $2 }' <<<"$status")" || return
  done
  equal 1 "$(awk '$1 == "NoNewPrivs:" { print $2 }' <<<"$status")" || return
  equal 2 "$(awk '$1 == "Seccomp:" { print $2 }' <<<"$status")" || return
  awk '$1 == "Uid:" { print "uid " $2; exit $2 == 0 }' <<<"$status"
}

# collectors_succeed [NAME]: all collectors get their answer; the one named may be refused it instead.
collectors_succeed() {
  local metrics failing
  metrics=$(scrape) || return
  enter journalctl --unit="$unit" --no-pager --lines=10 --output=cat
  grep '^vxlan_scrape_collector_success' <<<"$metrics" || return
  failing=$(sed -n 's/^vxlan_scrape_collector_success{collector="\(.*\)"} 0$/\1/p' <<<"$metrics")
  [[ -z $failing ]] || { equal "${1-}" "$failing" && grep -q "^vxlan_scrape_collector_not_permitted{collector=\"$failing\"} 1\$" <<<"$metrics"; }
}

# with_drop_in NAME ARGS COMMAND...: runs the command while the drop-in, if any, and the arguments are in place.
with_drop_in() {
  local dir=/etc/systemd/system/vxlan_exporter.service.d status=0
  shell "mkdir -p $dir; ${1:+cp /usr/share/doc/vxlan-exporter/examples/$1 $dir/}
    cp /etc/default/vxlan_exporter /var/tmp/settings; echo 'ARGS=\"$2\"' >>/etc/default/vxlan_exporter
    systemctl daemon-reload; systemctl restart vxlan_exporter.service"
  "${@:3}" || status=$?
  shell "rm -r $dir; mv /var/tmp/settings /etc/default/vxlan_exporter
    systemctl daemon-reload; systemctl restart vxlan_exporter.service"
  eventually 10 scrape >/dev/null
  return "$status"
}

# legacy_rules: the NAT rules can be read, and no secret.
legacy_rules() {
  local pid
  eventually 10 collectors_succeed || return
  pid=$(main_pid)
  echo "visible: $(enter ls -A "/proc/$pid/root/etc" "/proc/$pid/root/run" "/proc/$pid/root/var" | paste -sd' ')"
  enter test ! -e "/proc/$pid/root/etc/shadow" && enter test ! -e "/proc/$pid/root/var/lib"
}

# wire_probe: packets of the VXLAN port are captured.
wire_probe() {
  eventually 10 collectors_succeed natrules || return
  shell 'for i in 1 2 3; do echo hello >/dev/udp/198.51.100.2/53; done'
  eventually 10 wire_packets
}
wire_packets() {
  scrape | grep '^vxlan_wire_packets_total{direction="out",family="ipv4",.*} [1-9]'
}

# path_probe: the other node answers packets with finished checksums, and no others: all are masqueraded.
path_probe() {
  shell '
    mac=$(cat /sys/class/net/flannel.1/address)
    ip netns add peer
    ip link set u1 netns peer
    ethtool -K u0 tx off
    ip -n peer link set u1 address 02:00:00:00:00:02 up
    ip -n peer addr add 192.0.2.2/24 dev u1
    ip -n peer link add vx address 02:00:00:00:01:02 type vxlan id 1 dstport 8472 local 192.0.2.2 dev u1 nolearning
    ip -n peer addr add 198.51.100.2/24 dev vx
    ip -n peer link set vx up
    ip -n peer neigh add 198.51.100.1 lladdr $mac dev vx
    bridge -n peer fdb add $mac dev vx dst 192.0.2.1
    ip neigh replace 198.51.100.2 lladdr 02:00:00:00:01:02 dev flannel.1 nud permanent'
  eventually 10 path_is_spoiled && collectors_succeed natrules
}
path_is_spoiled() {
  scrape | grep '^vxlan_path_[ps]'
  scrape | grep -E '^vxlan_path_state\{.*state="(nat|offload)"\} 1$'
}

# features_are_right: every feature that is published is what ethtool(8) says, which has names of its own for some.
features_are_right() {
  enter ethtool -k flannel.1 | sed -nE 's/^\t*([a-z0-9_-]+): (on|off).*/\1 \2/p' |
    sed 's/^rx-checksumming /rx-checksum /; s/^generic-receive-offload /rx-gro /; s/^generic-segmentation-offload /tx-generic-segmentation /' |
    sort >"$work/ethtool"
  scrape | sed -nE 's/^vxlan_device_feature_active\{device="flannel.1",feature="([^"]+)"\} ([01])$/\1 \2/p' |
    sed 's/ 1$/ on/; s/ 0$/ off/' | sort >"$work/published"
  cat "$work/published"
  grep -qx 'tx-checksum-ip-generic on' "$work/published" || return
  # Nothing is published that ethtool does not say.
  equal "" "$(comm -13 "$work/ethtool" "$work/published")"
}

# sandboxed UNIT [ATTEMPT...]: in the unit's own sandbox, hostile is refused everything but the attempts named.
sandboxed() {
  local name=$1 of=$2
  shift 2
  sed -e '/^\(ExecStart\|Type\|NotifyAccess\|WatchdogSec\|Restart\|RestartSec\|RemainAfterExit\|RuntimeDirectory.*\|User\)=/d' \
    -e 's#^ExecPaths=.*#ExecPaths=/usr/bin/hostile#' -e 's#^\[Service\]#&\nType=oneshot\nExecStart=/usr/bin/hostile\nStandardOutput=file:/var/tmp/hostile.out#' \
    "$root/usr/lib/systemd/system/$of" >"$root/run-hostile.service"
  enter mv /run-hostile.service /run/systemd/system/hostile.service
  cp "$work/hostile" "$root/usr/bin/hostile"
  : >"$root/var/tmp/hostile.out"
  enter systemctl daemon-reload
  enter systemctl start hostile.service || { enter journalctl -u hostile.service --no-pager -n 20; return 1; }
  cp "$root/var/tmp/hostile.out" "$work/hostile.$name"
  enter rm /run/systemd/system/hostile.service /usr/bin/hostile /var/tmp/hostile.out
  enter systemctl daemon-reload
  cat "$work/hostile.$name"
  equal "$*" "$(sed -n 's/^allowed \([^:]*\):.*/\1/p' "$work/hostile.$name" | paste -sd' ')" &&
    equal "$attempts" "$(wc -l <"$work/hostile.$name")"
}

# outside: the same attempts outside of a sandbox mostly work, or the checks would show nothing.
outside() {
  cp "$work/hostile" "$root/var/tmp/hostile"
  enter unshare --mount /var/tmp/hostile >"$work/hostile.outside"
  rm "$root/var/tmp/hostile"
  cat "$work/hostile.outside"
  attempts=$(wc -l <"$work/hostile.outside")
  (($(grep -c ^allowed "$work/hostile.outside") >= 24))
}

recovers_from_kill() {
  local before
  before=$(main_pid)
  enter kill -KILL "$before"
  eventually 10 new_main_pid "$before" && eventually 10 scrape >/dev/null && active
}
new_main_pid() {
  local now
  now=$(main_pid)
  echo "pid $1, now $now"
  [[ $now != 0 && $now != "$1" ]]
}

# A reader that hangs: the kernel does not return from opening a FIFO that nobody writes to (fifo(7)).
watchdog_bites() {
  shell '
    mkdir -p /run/hung/1/net /run/systemd/system/vxlan_exporter.service.d
    ln -s 1 /run/hung/self
    mkfifo /run/hung/1/net/snmp
    chmod -R a+rX /run/hung
    printf "[Service]\nWatchdogSec=4s\nEnvironment=GOTRACEBACK=none\nEnvironmentFile=\nEnvironment=ARGS=--path.procfs=/run/hung\n" \
      >/run/systemd/system/vxlan_exporter.service.d/hung.conf
    systemctl daemon-reload
    systemctl restart vxlan_exporter.service'
  eventually 60 journal_says 'Watchdog timeout'
}
journal_says() { enter journalctl --unit="${2-$unit}" --no-pager --boot | grep -F -- "$1"; }

after_the_hang() {
  shell '
    rm -r /run/hung /run/systemd/system/vxlan_exporter.service.d
    systemctl daemon-reload
    systemctl restart vxlan_exporter.service'
  eventually 10 scrape
}

# guard_judges: without --device it is the diagnosis that names the devices.
guard_judges() {
  enter systemctl start vxlan_exporter-guard.service
  eventually 10 feature_is off flannel.1 || { journal_says "" vxlan_exporter-guard.service; return 1; }
  journal_says 'before=on after=off' vxlan_exporter-guard.service
  shell 'systemctl stop vxlan_exporter-guard.service; ethtool -K flannel.1 tx-checksum-ip-generic on'
}
guard_works() {
  shell '
    echo "GUARD_ARGS=--device=flannel.*" >>/etc/default/vxlan_exporter
    systemctl enable --now vxlan_exporter-guard.service 2>&1
    ip link add flannel.2 type vxlan id 2 dstport 8472
    ip link add other.2 type vxlan id 3 dstport 8472'
  eventually 5 feature_is off flannel.2 && feature_is off flannel.1 && feature_is on other.2 && active vxlan_exporter-guard.service
}
feature_is() {
  enter ethtool -k "$2" | grep tx-checksum-ip-generic
  equal "$1" "$(enter ethtool -k "$2" | sed -n 's/.*tx-checksum-ip-generic: //p')"
}
guard_stops() {
  shell '
    systemctl disable --now vxlan_exporter-guard.service 2>&1
    ethtool -K flannel.1 tx-checksum-ip-generic on
    ip link del flannel.2
    ip link del other.2
    sed -i /^GUARD_ARGS=--device/d /etc/default/vxlan_exporter'
}

socket_activates() {
  shell '
    cp /etc/default/vxlan_exporter /var/tmp/settings
    echo "ARGS=--web.systemd-socket" >>/etc/default/vxlan_exporter
    systemctl stop vxlan_exporter.service
    systemctl start vxlan_exporter.socket'
  inactive && scrape >/dev/null && active && shell '
    systemctl stop vxlan_exporter.socket vxlan_exporter.service
    mv /var/tmp/settings /etc/default/vxlan_exporter
    systemctl start vxlan_exporter.service'
}

# files lists all that is on the disk, but for what every system writes all the time.
files() {
  shell 'find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/tmp -o -path /var/log -o -path /dev -o -path /var/cache \) -prune \
    -o \( -name "*-old" -o -path "/var/lib/systemd/*" -not -path "/var/lib/systemd/deb*" \) -prune -o -print | sort'
  # Users and groups, and what DynamicUser= may leave.
  shell 'cut -d: -f1 /etc/passwd /etc/group; ls -A /var/lib/private /var/cache/private /run/private 2>/dev/null || true'
}

nothing_is_left() {
  files >"$work/files.after"
  diff "$work/files.before" "$work/files.after" && equal "" "$(shell '
    systemctl list-units --all --no-legend "vxlan*"; systemctl list-unit-files --no-legend "vxlan*"
    find /run /tmp /var/tmp /var/lib/systemd /var/cache -name "*vxlan*"
    getent passwd vxlan_exporter vxlan_exporter-guard vxlan_exporter-selftest || true')"
}

# textfile: the example that writes a file for node_exporter works as it is shipped, and reads all that the exporter reads.
textfile() {
  local folder=/var/lib/prometheus/node-exporter status=0
  shell "mkdir -p $folder; cp /usr/share/doc/vxlan-exporter/examples/vxlan_exporter-textfile.* /run/systemd/system
    systemctl daemon-reload; systemctl start vxlan_exporter-textfile.timer"
  eventually 20 enter test -s $folder/vxlan.prom &&
    equal "$folder/vxlan.prom" "$(enter find $folder -type f)" && enter cat $folder/vxlan.prom >"$work/textfile" || status=$?
  shell "systemctl stop vxlan_exporter-textfile.timer vxlan_exporter-textfile.service; rm -r /var/lib/prometheus
    rm /run/systemd/system/vxlan_exporter-textfile.*; systemctl daemon-reload"
  grep -E '^vxlan_(scrape_collector_success|conntrack_nat_flows)' "$work/textfile"
  ((status == 0)) && ! grep -q '^vxlan_scrape_collector_success.* 0$' "$work/textfile"
}

test_deb() {
  suite=$1
  local begin=$SECONDS old
  boot "$suite"
  enter dpkg --list >/dev/null # makes its files
  files >"$work/files.before"

  check "the package installs and can be scraped" install_quickly
  check "from the package to the first scrape in under 3 s, in ms" at_most 3000 "$took"
  check "the unit is active" active
  check "the unit is enabled" enabled
  check "opt-in: the guard" disabled vxlan_exporter-guard.service
  check "opt-in: the socket" disabled vxlan_exporter.socket
  check "an unprivileged user with one capability" one_capability
  check "the self-test has run" eventually 15 enter test -s /run/vxlan_exporter/selftest.json
  check "the self-test's unit is content" active vxlan_exporter-selftest.service

  check "a VXLAN device, masqueraded" network
  check "collectors succeed under the sandbox, legacy NAT rules may be refused" eventually 15 collectors_succeed natrules
  check "legacy NAT rules by the drop-in" with_drop_in legacy-rules.conf "" legacy_rules
  check "the wire probe by the drop-in" with_drop_in wire-probe.conf --collector.wire wire_probe
  check "the probe of the path sends and judges under the sandbox" with_drop_in "" --collector.path path_probe
  check "features are what ethtool says" features_are_right
  check "there are NATed flows" test "$(snat_flows)" -ge 1
  check "NATed flows are what conntrack says" eventually 15 equal_flows
  check "the self-test's verdict is published" eventually 15 selftest_verdict
  check "the check command says that the node is failing or exposed" check_command
  check "the example for node_exporter's textfile collector" textfile
  scrape >/dev/null
  check "resident memory at most 18.5 MB, in KB" at_most 18500 "$(enter awk '$1 == "VmRSS:" { print $2 }' "/proc/$(main_pid)/status")"

  check "hostile attempts work outside of the sandbox" outside
  # NoExecPaths= came with 248.
  local execute='' both=''
  if (($(enter systemctl --version | awk 'NR == 1 { print $2 }') < 248)); then
    execute=execute both='net-namespace execute'
  fi
  # shellcheck disable=SC2086 # words
  {
    check "hostile attempts are refused to the exporter" sandboxed exporter vxlan_exporter.service $execute
    check "hostile attempts are refused to the guard" sandboxed guard vxlan_exporter-guard.service $execute
    check "hostile attempts are refused to the self-test, but for packets" \
      sandboxed selftest vxlan_exporter-selftest.service packet-socket raw-socket $both
  }

  check "killed, it comes back" recovers_from_kill
  check "the guard turns the offload of exposed devices off" guard_judges
  check "the guard turns the offload of chosen devices off" guard_works
  check "the guard can be switched off" guard_stops
  check "socket activation" socket_activates
  check "a reader that hangs trips the watchdog" watchdog_bites
  check "after the hang" after_the_hang

  # Upgrades.
  shell 'echo "ARGS=\"--log.level=debug\"" >>/etc/default/vxlan_exporter'
  old=$(main_pid)
  check "upgrade" install_deb 1.0.1
  check "an upgrade restarts it" new_main_pid "$old"
  check "an upgrade keeps edited settings" enter grep -q log.level=debug /etc/default/vxlan_exporter
  check "settings are used" eventually 5 arguments --log.level=debug
  enter systemctl disable --now --quiet "$unit"
  check "downgrade" install_deb 1.0.0
  check "an administrator's disable outlives it" disabled
  check "and what was stopped stays stopped" inactive
  enter systemctl enable --now --quiet "$unit"

  # A reboot.
  enter systemctl reboot --no-wall >/dev/null 2>&1 || true
  local status=0
  ended || status=$?
  check "the reboot is one" equal 133 "$status"
  boot "$suite"
  check "active after a reboot" eventually 15 active
  check "scraped after a reboot" eventually 15 scrape
  check "the self-test ran after the reboot" eventually 15 enter test -s /run/vxlan_exporter/selftest.json

  # Removal.
  check "remove" enter dpkg --remove vxlan-exporter
  check "removed: stopped" inactive
  check "removed: no process is left" no_process
  check "removed: settings stay" enter test -e /etc/default/vxlan_exporter
  check "purge" enter dpkg --purge vxlan-exporter
  check "purged: no file, user or unit is left" nothing_is_left
  poweroff_container
  echo "$suite: deb, $((SECONDS - begin)) s"
}

equal_flows() {
  local now
  now=$(metric 'vxlan_conntrack_nat_flows{family="ipv4",nat="snat",port="8472"}')
  echo "conntrack: $(snat_flows), exporter: $now"
  [[ $now == "$(snat_flows)" ]]
}
selftest_verdict() { equal 1 "$(metric 'vxlan_kernel_nat_checksum_bug{evidence="selftest",variant="offloaded_checksum",verdict="affected"}')"; }
check_command() {
  local status=0
  enter vxlan_exporter check --interval=0s || status=$?
  ((status == 1 || status == 2))
}
arguments() { enter cat "/proc/$(main_pid)/cmdline" | tr '\0' ' ' | grep -F -- "$1"; }
no_process() { ! enter pgrep -f /usr/bin/vxlan_exporter; }

# test_rpm SUITE: the rpm on Debian, which has rpm(8) but no such packages: dependencies are not looked at.
test_rpm() {
  suite="$1 rpm"
  local begin=$SECONDS kind
  boot "$1"
  local rpmarch
  rpmarch=$(uname -m)
  for kind in "" .el7; do
    suite="$1 rpm$kind"
    for version in 1.0.0 1.0.1; do
      cp "$work/packages/vxlan-exporter-$version-1$kind.$rpmarch.rpm" "$root/var/tmp/$version.rpm"
    done
    # Its database, and directories that are other packages' where rpm is at home.
    enter rpm --query --all >/dev/null
    shell 'touch /root/.rpmdb/.rpm.lock
      mkdir -p /usr/lib/systemd/system /usr/lib/systemd/system-preset /usr/share/fish/vendor_completions.d /usr/share/licenses \
        /usr/share/zsh/site-functions'
    files >"$work/files.before"
    check "install" enter rpm --install --nodeps /var/tmp/1.0.0.rpm
    check "it can be scraped" eventually 10 scrape
    check "active" active
    check "enabled by its preset" enabled
    check "an unprivileged user with one capability" one_capability
    shell 'echo "ARGS=\"--log.level=debug\"" >>/etc/default/vxlan_exporter'
    local old
    old=$(main_pid)
    check "upgrade" enter rpm --upgrade --nodeps /var/tmp/1.0.1.rpm
    check "an upgrade restarts it" new_main_pid "$old"
    check "an upgrade keeps edited settings" enter grep -q log.level=debug /etc/default/vxlan_exporter
    enter systemctl disable --now --quiet "$unit"
    check "downgrade" enter rpm --upgrade --oldpackage --nodeps /var/tmp/1.0.0.rpm
    check "an administrator's disable outlives it" disabled
    check "and what was stopped stays stopped" inactive
    enter systemctl enable --now --quiet "$unit"
    check "erase" enter rpm --erase vxlan-exporter
    check "erased: stopped" inactive
    check "erased: settings that were edited are saved" enter test -e /etc/default/vxlan_exporter.rpmsave
    enter rm /etc/default/vxlan_exporter.rpmsave
    if [[ $kind == .el7 ]]; then
      check "erased: the user stays, as it may own files" enter getent passwd vxlan_exporter
      shell 'userdel vxlan_exporter; groupdel vxlan_exporter 2>/dev/null || true'
    fi
    enter rm -f /var/tmp/1.0.0.rpm /var/tmp/1.0.1.rpm
    check "erased: no file, user or unit is left" nothing_is_left
  done
  poweroff_container
  echo "$1: rpm, $((SECONDS - begin)) s"
}
