// Who causes it: one row for each device whose port had NATed flows in the shown time. Each query looks at the whole fleet once for each
// selector in it, so the selectors are few, and what a row needs to be put together, the table merges.
import { dev, firstTime, fleet, rise, sel, snatNow, snatSeen } from "./expr.js";

const by = "cluster, instance, port";
const key = "cluster, instance, device";

/** The busiest ports with NATed flows: new ones in the shown time, or those that are there now if none is new. */
const busiest = `topk(100, (sum by (${by}) (${rise(snatSeen, "$__range")}) > 0) or (sum by (${by}) (${snatNow}) > 0))`;

/** Only their nodes' rows are sent to the browser. */
const listed = (rows: string): string => `${rows} and on (cluster, instance) ${busiest}`;

// A culprit keeps its name for a while when its exporter falls silent.
const devices = `max by (${by}, device) (last_over_time(${dev("vxlan_device_info")}[15m]))`;

/** The rows, with their flows. A port that no device explains is named all the same. */
export const culpritFlows =
  `${busiest} * on (${by}) group_right () ${devices}` +
  ` or label_replace(${busiest} unless on (${by}) last_over_time(${sel("vxlan_device_info")}[15m]), "device", "unknown", "", "")`;

/**
 * Variants whose exposure was active at some time, with what to type there. Devices that are clear now, or never were active, spoil
 * nothing: they get no command that costs throughput. Only plain device names go into one: others need quotes, and `check` prints those.
 */
export const culpritVariant = listed((() => {
  const labels = `${key}, variant`;
  const active = `max by (${labels}) (max_over_time(${dev("vxlan_device_exposure", 'state="active"')}[$__range])) == 1`;
  const clear = `max by (${labels}) (${dev("vxlan_device_exposure", 'state="clear"')}) == 1`;
  return `(label_replace(${active} unless on (${labels}) (${clear}),` +
    ` "command", "ethtool -K $1 tx-checksum-ip-generic off", "device", "([A-Za-z0-9_.@-]+)")` +
    ` or label_replace(${active} and on (${labels}) (${clear}), "command", "nothing: it is clear now", "", ""))`;
})());

/** What each device is now: 3 active, 2 exposed, 1 unknown, 0 clear. */
export const culpritState = listed((() => {
  const state = (s: string): string => dev("vxlan_device_exposure", `state="${s}"`);
  return `max by (${key}) (3 * ${state("active")} or 2 * ${state("exposed")} or ${state("unknown")})`;
})());

/** When the first new flow of the shown time was seen. */
export const culpritSince = listed(
  `max by (${key}) (${devices} * on (${by}) group_left () min by (${by}) (${firstTime(`${rise(snatSeen)} > 0`)}))`);

/**
 * Bad packets by peer, with the node that owns its address. arrived: incoming ones only, whose peers are senders.
 */
function peers(arrived: boolean): string {
  const bad = arrived ? sel("vxlan_wire_bad_packets_total", 'direction="in"') : sel("vxlan_wire_bad_packets_total");
  // A peer's series appears with its first packets, and increase() cannot see those: what was not there before counts whole.
  const grown = `(${rise(bad, "$__range")} > 0 or (${bad} unless ${bad} offset $__range))`;
  const sums = `sum by (cluster, instance, peer, variant) (${grown})`;
  const local = `max by (cluster, local, instance) (vxlan_device_info{${fleet},local!=""})`;
  const as = (rows: string, sender: string, from: string): string =>
    `label_replace(label_replace(${rows}, "peer", "$1", "local", "(.+)"), "sender", "${sender}", "${from}", "(.+)")`;
  // An address that several nodes have: networks that do not see each other, watched as one cluster.
  const several = `(count by (cluster, local) (${local}) > 1)`;
  const owner = `(${as(`(${local} unless on (cluster, local) ${several})`, "$1", "instance")} or ${as(several, "several nodes", "local")})`;
  return `topk(50, ${sums} * on (cluster, peer) group_left (sender) (${owner} ^ 0)` +
    ` or ${sums} unless on (cluster, peer) label_replace(${local}, "peer", "$1", "local", "(.+)"))`;
}

/** Who sent bad packets to whom. */
export const badSenders = peers(true);

/** Every peer of bad packets, the receivers of those that left too. */
export const badPeers = peers(false);
