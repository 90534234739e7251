// Second row: the receivers' half and the senders' half of the failure on one time axis, then each half by node.
import { AxisPlacement, GraphTransform } from "@grafana/grafana-foundation-sdk/common";
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { badSenders } from "../culprits.js";
import { csumErrors, invalid, node, perMinute, rise, snatNow, snatSeen, wireBadIn } from "../expr.js";
import { VARIANT, nothing } from "../mappings.js";
import { column, fixed, lines, matching, row, series, table, toNode } from "../panels.js";

const both = lines({
  title: "Receivers' bad checksums (up) against senders' NATed VXLAN flows (down)", unit: "suffix: /min", width: 24, height: 10,
  why: "no data: neither checksum counters nor connection tracking are scraped",
  description: "The whole fleet. Red, upwards: UDP packets dropped for a bad checksum. Downwards: source-NATed VXLAN flows, new ones (left axis) and " +
    "those tracked now (right axis). The two rise together: it is this failure. Red alone: other UDP, or a sender without an exporter. " +
    "Below alone: NAT that hurts nobody yet, or a firewall that hides it (\"Blind spot\"). Do: the table above.",
}, [
  [`sum(${perMinute(csumErrors)})`, "receivers: bad UDP checksums"],
  [`sum(${perMinute(wireBadIn)})`, "receivers: bad VXLAN packets on the wire"],
  [`sum(${perMinute(snatSeen)})`, "senders: new NATed VXLAN flows"],
  [`sum(${snatNow})`, "senders: NATed VXLAN flows now"],
])
  .axisCenteredZero(true)
  .withOverride(column("receivers: bad UDP checksums", { ...fixed("red"), "custom.fillOpacity": 45, "custom.lineWidth": 2 }))
  .withOverride(column("receivers: bad VXLAN packets on the wire", { ...fixed("orange"), "custom.fillOpacity": 0, "custom.lineStyle": { fill: "dash", dash: [6, 4] } }))
  .withOverride(column("senders: new NATed VXLAN flows", {
    ...fixed("purple"), "custom.transform": GraphTransform.NegativeY, "custom.fillOpacity": 45,
  }))
  .withOverride(column("senders: NATed VXLAN flows now", {
    ...fixed("blue"), unit: "short", "custom.transform": GraphTransform.NegativeY, "custom.axisPlacement": AxisPlacement.Right,
    "custom.axisLabel": "flows now", "custom.fillOpacity": 0, "custom.lineInterpolation": "stepAfter",
  }));

const receivers = series({
  title: "Who suffers: bad UDP checksums, the 10 worst receivers", unit: "suffix: /min", width: 12, height: 8,
  why: "no data: no receiver counted a bad UDP checksum in the shown time, or no counter is scraped",
  description: "Udp InCsumErrors of the node's network namespace, whatever the port. Do not repair these nodes: somebody sends them bad packets.",
}, [[`topk(10, sum by (${node}) (${perMinute(csumErrors)}) > 0)`, "{{cluster}} {{instance}}"]]);

const senders = series({
  title: "Who causes it: new NATed VXLAN flows, the 10 busiest senders", unit: "suffix: /min", width: 12, height: 8,
  why: "no data: no sender NATed VXLAN packets in the shown time, or connection tracking could not be read",
  description: "Flows to a VXLAN port whose source was rewritten, found since the scan before. Do: `vxlan_exporter check` on these nodes.",
}, [[`topk(10, sum by (${node}) (${perMinute(snatSeen)}) > 0)`, "{{cluster}} {{instance}}"]]);

const peers = table({
  title: "Bad packets on the wire: who sent them to whom", unit: "short", width: 12, height: 7,
  why: "No bad packet was seen in the shown time, or the packet probe is off: run exporters with --collector.wire and CAP_NET_RAW.",
  description: "What receivers' packet probes saw: the sender's address, the node that owns it, and the variant, from the packet itself. " +
    "This is proof, whatever kernels and rules say. C unfinished_checksum: a NIC or hypervisor left the sum unfinished: look at its tunnel offloads.",
}, [[badSenders]], { sender: "sent by node", peer: "from address", variant: "variant", instance: "seen by node", Value: "packets", cluster: "cluster" })
  .withOverride(column("sent by node", { mappings: [nothing("no such node")], ...toNode("sent by node") }))
  .withOverride(column("seen by node", toNode("seen by node")))
  .withOverride(column("variant", { mappings: VARIANT, "custom.cellOptions": { type: "color-text" } }))
  .withOverride(column("packets", { decimals: 0, "custom.width": 80 }))
  .withOverride(matching("node|address", { "custom.width": 125 }));

const quiet = `unless on (${node}) (sum by (${node}) (${rise(csumErrors)}) > 0)`;
const blind = series({
  title: "Blind spot: conntrack invalid while InCsumErrors stands still, the 10 worst", unit: "suffix: /min", width: 12, height: 7,
  why: "no data: no node counts invalid packets without counting bad checksums, or has no connection tracking",
  description: "Where a firewall drops INVALID packets (firewalld), bad VXLAN checksums are seen here alone. The counter also rises for many " +
    "harmless reasons: it matters where it jumps while senders NAT. Do: run the packet probe there (--collector.wire), or `vxlan_exporter check`.",
}, [[`topk(10, (sum by (${node}) (${perMinute(invalid)}) > 0) ${quiet})`, "{{cluster}} {{instance}}"]])
  .withOverride(matching(".*", { "custom.fillOpacity": 0 }));

export function correlation(d: DashboardBuilder): void {
  d.withRow(row("Receivers against senders"));
  for (const panel of [both, receivers, senders, peers, blind]) {
    d.withPanel(panel);
  }
}
