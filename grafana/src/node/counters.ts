// The kernel's counters.
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { csumErrors, invalid, perMinute, sel } from "../expr.js";
import { column, fixed, matching, row, series, shades } from "../panels.js";

const height = 7;

const udp = series({
  title: "UDP receive errors", unit: "cpm", width: 8, height, why: "no data: the host collector fails",
  description: "InCsumErrors: bad checksums, whatever the port. InErrors: these, full socket buffers and more. Errors without bad checksums are another trouble.",
}, [
  [perMinute(csumErrors, "family"), "InCsumErrors {{family}}"],
  [perMinute(sel("vxlan_host_udp_in_errors_total"), "family"), "InErrors {{family}}"],
])
  .withOverride(matching("^InCsumErrors", { ...fixed("red"), "custom.lineWidth": 3 }))
  .withOverride(matching("^InErrors", { ...fixed("blue"), "custom.fillOpacity": 0 }));

const conntrack = series({
  title: "Packets that connection tracking calls invalid", unit: "cpm", width: 8, height, why: "no data: the kernel has no connection tracking",
  description: "Rises with InCsumErrors where connection tracking is active, and alone where a firewall drops INVALID packets. Many harmless reasons as well.",
}, [[perMinute(invalid), "invalid"]]).withOverride(column("invalid", fixed("orange")));

const drops = series({
  title: "Drops of the VXLAN sockets", unit: "cpm", width: 8, height, why: "no data: no VXLAN device is up, or /proc/net/udp could not be read",
  description: "With bad checksums: they are VXLAN's for certain. Stays 0 where connection tracking is active, which drops them first.",
}, [[perMinute(sel("vxlan_socket_drops_total"), "family, port"), "{{family}} port {{port}}"]]).colorScheme(shades("red"));

const syn = series({
  title: "TCP connections that wait for an answer", unit: "cpm", width: 12, height, why: "no data: the host collector fails",
  description: "The sender's half of a stall, in the node's own namespace. SYN retransmits rise with this failure and with any unreachable peer. " +
    "timeout rehash: a stalled connection was moved to another path, which frees it after 1 s (kernels with net.core.txrehash).",
}, [
  [perMinute(sel("vxlan_host_tcp_syn_retransmits_total")), "SYN retransmits"],
  [perMinute(sel("vxlan_host_tcp_timeout_rehash_total")), "timeout rehash"],
]).withOverride(column("SYN retransmits", fixed("orange"))).withOverride(column("timeout rehash", fixed("blue")));

const inner = series({
  title: "Bad inner TCP checksums", unit: "cpm", width: 12, height, why: "no data: this kernel does not count them",
  description: "Tcp InCsumErrors of the node's own namespace (pods have their own). Rising while InCsumErrors of UDP stands still: variant D, a NIC or " +
    "hypervisor spoils the inner checksum. Do: look at driver and tunnel offloads of the senders' NICs.",
}, [[perMinute(sel("vxlan_host_tcp_in_csum_errors_total")), "Tcp InCsumErrors"]]).withOverride(column("Tcp InCsumErrors", fixed("red")));

export function counters(d: DashboardBuilder): void {
  d.withRow(row("Counters of the kernel"));
  for (const panel of [udp, conntrack, drops, syn, inner]) {
    d.withPanel(panel);
  }
}
