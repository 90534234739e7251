// Each half of the failure by node, below each other's time axis; who sent to whom; and what no checksum counter shows.
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { badSenders } from "../culprits.js";
import { csumErrors, invalid, node, perMinuteOf, riseInAll, snatSeen } from "../expr.js";
import { VARIANT, nothing } from "../mappings.js";
import { POINTS, SENDS, SUFFERS, column, matching, row, series, shades, table, toNode } from "../panels.js";

const sufferers = series({
  title: "Bad UDP checksums, the 10 worst receivers", unit: "cpm", width: 12, height: 8,
  why: "no data: no receiver counted a bad UDP checksum in the shown time, or no counter is scraped",
  description: "Udp InCsumErrors of the node's network namespace, whatever the port; a line for each of the nodes that counted most in the shown time. Do not repair these nodes: somebody sends them bad packets.",
}, [[perMinuteOf(csumErrors, `topk(10, ${riseInAll(csumErrors)} > 0)`), "{{cluster}} {{instance}}"]])
  .maxDataPoints(POINTS)
  .colorScheme(shades(SUFFERS));

const senders = series({
  title: "New NATed VXLAN flows, the 10 busiest senders", unit: "cpm", width: 12, height: 8,
  why: "no data: no sender NATed VXLAN packets in the shown time, or connection tracking could not be read",
  description: "Flows to a VXLAN port whose source was rewritten, found since the scan before. Do: `vxlan_exporter check` on these nodes.",
}, [[perMinuteOf(snatSeen, `topk(10, ${riseInAll(snatSeen)} > 0)`), "{{cluster}} {{instance}}"]])
  .maxDataPoints(POINTS)
  .colorScheme(shades(SENDS));

const peers = table({
  title: "Bad packets on the wire: who sent them to whom", unit: "short", width: 12, height: 7,
  why: "No bad packet was seen in the shown time, or the packet capture is off: run exporters with --collector.wire and CAP_NET_RAW.",
  description: "What receivers' packet captures saw: the sender's address, the node that owns it, and the variant, from the packet itself. " +
    "This is proof, whatever kernels and rules say. C unfinished_checksum: a NIC or hypervisor left the sum unfinished: look at its tunnel offloads.",
}, [[badSenders]], { sender: "sent by node", peer: "from address", variant: "variant", instance: "seen by node", Value: "packets", cluster: "cluster" })
  .withOverride(column("sent by node", { mappings: nothing("no such node"), ...toNode("sent by node") }))
  .withOverride(column("seen by node", toNode("seen by node")))
  .withOverride(column("variant", { mappings: VARIANT, "custom.cellOptions": { type: "color-text" } }))
  .withOverride(column("packets", { decimals: 0, "custom.width": 80 }))
  .withOverride(matching("node|address", { "custom.width": 125 }));

const hidden = `topk(10, ${riseInAll(invalid)} > 0 unless on (${node}) (${riseInAll(csumErrors)} > 0))`;
const blind = series({
  title: "Blind spot: conntrack invalid while InCsumErrors stands still, the 10 worst", unit: "cpm", width: 12, height: 7,
  why: "no data: no node counts invalid packets without counting bad checksums, or has no connection tracking",
  description: "Where a firewall drops INVALID packets (firewalld), bad VXLAN checksums are seen here alone. The counter also rises for many " +
    "harmless reasons: it matters where it jumps while senders NAT. Nodes that counted a bad checksum in the shown time are left out. Do: run the packet capture there (--collector.wire), or `vxlan_exporter check`.",
}, [[perMinuteOf(invalid, hidden), "{{cluster}} {{instance}}"]])
  .maxDataPoints(POINTS)
  .colorScheme(shades("orange"))
  .withOverride(matching(".*", { "custom.fillOpacity": 0 }));

export function correlation(d: DashboardBuilder): void {
  d.withRow(row("Receivers and senders, by node"));
  for (const panel of [sufferers, senders, peers, blind]) {
    d.withPanel(panel);
  }
}
