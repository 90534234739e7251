// The first screen: is it happening, who suffers, who causes it, which variant, since when, what to type.
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { culpritFlows, culpritSince, culpritState, culpritVariant } from "../culprits.js";
import { blind, causing, csumErrors, dev, firstTime, happening, rise, snatNow, snatSeen, suffering, wireBadIn } from "../expr.js";
import { EXPOSURE, HAPPENING, VARIANT, nothing } from "../mappings.js";
import { POINTS, coloredCell, column, stat, steps, table, text, toNode } from "../panels.js";
import { badChecksums, natFlows } from "./halves.js";
import { receivers } from "./receivers.js";

const height = 4;

const stats = [
  stat({
    title: "Is it happening?", unit: "short", width: 5, height, why: "no data: no vxlan_exporter is scraped, or the variables match none",
    description: "Last 5 minutes. YES: receivers get bad checksums while senders NAT their VXLAN packets, in the same cluster. " +
      "ARMED: senders NAT, nobody counted a bad checksum (yet, or a firewall hides them: see \"Blind spot\"). " +
      "ERRORS, no sender seen: bad checksums, and no scraped node NATs VXLAN: is the exporter on every node? " +
      "NAT unseen: connection tracking could not be read. Do: go to the table below.",
  }, [[happening()]], HAPPENING),
  stat({
    title: "Nodes that suffer", unit: "short", width: 3, height, why: "no data: no checksum counters are scraped",
    description: "Nodes that received bad UDP checksums in the last 5 minutes, by the kernel's counters or by the packet capture. " +
      "Do not repair these: the nodes that cause it are in the table below.",
  }, [[suffering]]).thresholds(steps("green", [1, "red"])),
  stat({
    title: "Nodes that NAT VXLAN", unit: "short", width: 4, height, why: "no data: nobody may read connection tracking (CAP_NET_ADMIN), or it is not in the kernel",
    description: "The cause: nodes that source-NATed their own VXLAN packets in the last 5 minutes. One whose device is clear below NATs " +
      "harmlessly, for now. Do: type the command of the table below on each other.",
  }, [[causing]]).thresholds(steps("green", [1, "red"])),
  stat({
    title: "Devices active, by variant", unit: "short", width: 5, height, why: "no data: no VXLAN device was judged",
    description: "VXLAN devices that spoil checksums now. zero_checksum (A): outer checksum off, kernel without the fix of 5.7. " +
      "offloaded_checksum (B): outer checksum on, every kernel. 0 with NATed flows: see devices that are unknown.",
  }, [[`sum by (variant) (${dev("vxlan_device_exposure", 'state="active"')})`, "{{variant}}"]])
    .thresholds(steps("green", [1, "red"])),
  stat({
    title: "First seen", unit: "dateTimeAsIsoNoDateIfToday", width: 4, height, why: "not in the shown time",
    description: "First bad checksum and first NATed VXLAN flow of the shown time. As old as the shown time: it began earlier; widen it. " +
      "Do: look for what was changed then: a CNI or kube-proxy upgrade, a firewall reload, new nodes.",
  }, [
    [`min(${firstTime(`sum(${rise(csumErrors)}) > 0 or sum(${rise(wireBadIn)}) > 0`)})`, "bad checksum"],
    [`min(${firstTime(`(sum(${rise(snatSeen)}) + sum(${snatNow})) > 0`)})`, "NATed flow"],
  ]).maxDataPoints(POINTS).thresholds(steps("blue")),
  stat({
    title: "Nodes that cannot see", unit: "short", width: 3, height, why: "no data: no vxlan_exporter is scraped",
    description: "Scraped in the shown time and not now, or their exporter cannot read connection tracking, devices or the kernel's counters. What " +
      "the other values say is said without them. Do: see \"Exporters that went away\" and \"Collectors that fail\" at the bottom.",
  }, [[blind]]).thresholds(steps("green", [1, "orange"])),
];

const culprits = table({
  title: "Who causes it, and what to type there", unit: "short", width: 17, height: 7,
  why: "No node NATed VXLAN packets in the shown time, or none may read connection tracking (CAP_NET_ADMIN).",
  description: "A row for each device with source-NATed flows in the shown time, of the 100 busiest nodes, active ones first. variant: of the exposure while it was active; " +
    "unknown: no exposure explains the flows, `vxlan_exporter check` there says what is missing. now: the device's exposure. " +
    "A row that is clear now has been cured, and needs nothing. since: the first new flow of the shown time. Do: type the command as root on that node; it holds until the CNI makes the device anew. " +
    "For good: cure the NAT rules (`vxlan_exporter check` names the rule).",
}, [[culpritFlows], [culpritVariant], [culpritState], [culpritSince]], {
  instance: "node", cluster: "cluster", device: "device", variant: "variant", "Value #C": "now", "Value #D": "since", command: "type there, as root",
  "Value #A": "flows", port: "port",
}, ["Value #B"])
  .maxDataPoints(POINTS)
  .withTransformation({ id: "sortBy", options: { fields: {}, sort: [{ field: "now", desc: true }] } })
  .withTransformation({ id: "limit", options: { limitField: 100 } })
  .withOverride(column("node", { ...toNode("node"), "custom.width": 140 }))
  .withOverride(column("cluster", { "custom.width": 90 }))
  .withOverride(column("device", { "custom.width": 85 }))
  .withOverride(column("variant", { mappings: [...VARIANT, ...nothing("unknown", "purple")], "custom.width": 185, "custom.cellOptions": { type: "color-text" } }))
  .withOverride(column("now", { mappings: [...EXPOSURE, ...nothing("not judged")], ...coloredCell, "custom.width": 75 }))
  .withOverride(column("since", { unit: "dateTimeAsIsoNoDateIfToday", "custom.width": 85 }))
  .withOverride(column("flows", { decimals: 0, "custom.width": 65 }))
  .withOverride(column("port", { "custom.width": 60 }))
  .withOverride(column("type there, as root", { mappings: nothing("vxlan_exporter check"), "custom.width": 340, "custom.inspect": true }));

const what = text({
  title: "What to do now", width: 7, height: 9,
  description: "The short form of the runbook.",
}, `[Runbook](\${runbook}/RUNBOOK.md) · [metrics](\${runbook}/METRICS.md) · [verdicts](\${runbook}/DIAGNOSIS.md)

1. \`vxlan_exporter check\` on a node of the table confirms, and names the rule.
2. \`ethtool -K DEVICE tx-checksum-ip-generic off\` there cures new and stalled connections. It costs overlay throughput.
3. \`systemctl enable --now vxlan_exporter-guard\` keeps it when the CNI makes the device anew.

**For good:** kube-proxy 1.16.13, 1.17.9, 1.18.6, 1.19 or later, and no other MASQUERADE ahead of it.
Then \`conntrack -D -p udp --dport PORT\`.`);

export function answer(d: DashboardBuilder): void {
  for (const panel of [...stats, culprits, receivers, badChecksums, natFlows, what]) {
    d.withPanel(panel);
  }
}
