// The packet capture: verdicts and peers.
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { badPeers } from "../culprits.js";
import { perMinute, sel } from "../expr.js";
import { VARIANT, nothing } from "../mappings.js";
import { column, fixed, row, series, table } from "../panels.js";

const height = 7;
const off = "no data: the packet capture is off (--collector.wire, CAP_NET_RAW)";

const verdicts = (direction: "in" | "out", title: string, description: string) => series({
  title, unit: "cpm", width: 8, height, why: off, description,
}, [[perMinute(sel("vxlan_wire_packets_total", `direction="${direction}"`), "verdict"), "{{verdict}}"]])
  .withOverride(column("bad", { ...fixed("red"), "custom.lineWidth": 3 }))
  .withOverride(column("ok", fixed("blue")))
  .withOverride(column("completed_ok", fixed("light-blue")))
  .withOverride(column("partial", fixed("purple")))
  .withOverride(column("unjudgeable", fixed("text")));

const incoming = verdicts("in", "Packets that arrive, by verdict",
  "Outer VXLAN packets with a checksum, scaled up where they are sampled. bad: dropped by this kernel, sent by the peer in the table beside.");
const outgoing = verdicts("out", "Packets that leave, by verdict",
  "partial: the NIC will finish the checksum, which is in order. bad: spoiled before it reached the NIC: this node is the culprit.");

const peers = table({
  title: "Bad packets by peer", unit: "short", width: 8, height,
  why: "No bad packet was seen in the shown time, or the packet capture is off (--collector.wire, CAP_NET_RAW).",
  description: "address: the sender of packets that arrived, or the receiver of those that left. node: who owns the address. Do: `vxlan_exporter check` on the sender.",
}, [[badPeers]], { peer: "address", sender: "node", variant: "variant", Value: "packets" }, ["cluster", "instance"])
  .withOverride(column("node", { mappings: nothing("no such node") }))
  .withOverride(column("variant", { mappings: VARIANT, "custom.cellOptions": { type: "color-text" } }))
  .withOverride(column("packets", { decimals: 0, "custom.width": 80 }));

const sampling = series({
  title: "Part of the packets that is looked at", unit: "percentunit", width: 8, height, why: off,
  description: "Sampling keeps the probe cheap; counters are scaled up by it. Below 1 % a single bad packet is easily missed: raise --wire.max-packets-per-second.",
}, [[`max by (direction) (${sel("vxlan_wire_sample_ratio")})`, "{{direction}}"]]);

const captured = series({
  title: "Packets looked at and lost", unit: "cpm", width: 8, height, why: off,
  description: "lost: picked, and not looked at because the queue was full. Do: lower --wire.sample-rate.",
}, [
  [perMinute(sel("vxlan_wire_captured_packets_total")), "looked at"],
  [perMinute(sel("vxlan_wire_lost_packets_total")), "lost"],
]).withOverride(column("lost", fixed("red")));

const interfaces = series({
  title: "NICs watched", unit: "short", width: 8, height, why: off,
  description: "0: no NIC below a VXLAN device was found, and the probe sees nothing.",
}, [[`max(${sel("vxlan_wire_interfaces")})`, "NICs"]]);

export function wire(d: DashboardBuilder): void {
  d.withRow(row("Packets on the wire"));
  for (const panel of [incoming, outgoing, peers, sampling, captured, interfaces]) {
    d.withPanel(panel);
  }
}
