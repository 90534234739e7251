// Who suffers: the receivers' half, as a list.
import { NOW, csumErrors, node, rise, wireBadIn } from "../expr.js";
import { column, table, toNode } from "../panels.js";

/** By the kernel's counters, and by the packet capture where these stand still. */
const dropped = (window: string): string =>
  `((sum by (${node}) (${rise(csumErrors, window)}) > 0) or (sum by (${node}) (${rise(wireBadIn, window)}) > 0))`;

export const receivers = table({
  title: "Who suffers, the 100 worst", unit: "short", width: 7, height: 7,
  why: "No node received a bad UDP checksum in the shown time.",
  description: "UDP packets with a bad checksum, in the last 5 minutes and in the shown time: dropped by the kernel, or seen on the wire by the packet capture. " +
    "Do not repair these nodes: somebody sends them bad packets. Behind a firewall that drops INVALID, only the probe sees them; without it, see \"Blind spot\". –: not among the 100 worst of that time.",
}, [[`topk(100, ${dropped(NOW)})`], [`topk(100, ${dropped("$__range")})`]],
{ instance: "node", cluster: "cluster", "Value #A": "last 5 min", "Value #B": "shown time" })
  .withTransformation({ id: "sortBy", options: { fields: {}, sort: [{ field: "last 5 min", desc: true }] } })
  .withTransformation({ id: "limit", options: { limitField: 100 } })
  .withOverride(column("node", toNode("node")))
  .withOverride(column("last 5 min", { decimals: 0, "custom.width": 90 }))
  .withOverride(column("shown time", { decimals: 0, "custom.width": 100 }));
