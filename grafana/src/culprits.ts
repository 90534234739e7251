// Who causes it: one row for each device and variant that had NATed flows in the shown time.
import { dev, exposure, firstTime, rise, sel, snatNow, snatSeen } from "./expr.js";

const by = "cluster, instance, port";
const devices = `max by (${by}, device) (${dev("vxlan_device_info")})`;
const flows = `sum by (${by}) (${rise(snatSeen, "$__range")})`;
const now = `sum by (${by}) (${snatNow})`;

/** Devices whose exposure was active at some time, with their port: the variant is known. */
const proven =
  `(max by (cluster, instance, device, variant) (max_over_time(${dev("vxlan_device_exposure", 'state="active"')}[$__range])) == 1)` +
  ` * on (cluster, instance, device) group_left (port) ${devices}`;

/** What no exposure explains is named all the same: devices on a port with NATed flows, and such ports without a device. */
const busy = `((${flows} + ${now}) > 0)`;
const unproven =
  `label_replace((${devices} and on (${by}) ${busy}) unless on (cluster, instance, device) (${proven})` +
  ` or label_replace(${busy} ^ 0 unless on (${by}) ${devices}, "device", "unknown", "", ""), "variant", "unknown", "", "")`;

/** Only plain device names go into a command: others need quotes, and `check` prints those. */
const command = (rows: string): string =>
  `label_replace(label_replace(${rows}, "command", "vxlan_exporter check", "", ""),` +
  ` "command", "ethtool -K $1 tx-checksum-ip-generic off", "device", "([A-Za-z0-9_.@-]+)")`;

const rows = `(${command(proven)} or label_replace(${unproven}, "command", "vxlan_exporter check", "", ""))`;

/** NATed flows of the shown time. */
export const culpritFlows = `topk(100, ${rows} * on (${by}) group_left () ${flows})`;

export const culpritNow = `${rows} * on (${by}) group_left () ${now}`;

/** When the first of them was seen: in a scan, or between two of them. */
export const culpritSince =
  `${rows} * on (${by}) group_left () min by (${by}) (${firstTime(`${rise(snatSeen)} > 0 or ${snatNow} > 0`)})`;

/** What each row's device is now. */
export const culpritState =
  `${rows} * on (cluster, instance, device, variant) group_left () ${exposure("cluster, instance, device, variant")}`;

/**
 * Bad packets by peer, with the node that owns its address. arrived: without the probes that saw bad packets leave and none arrive, whose
 * peers are receivers.
 */
function peers(arrived: boolean): string {
  const bad = sel("vxlan_wire_bad_packets_total");
  // A peer's series appears with its first packets, and increase() cannot see those: what was not there before counts whole.
  const grown = `(${rise(bad, "$__range")} > 0 or (${bad} unless ${bad} offset $__range))`;
  const seen = (direction: string): string => rise(sel("vxlan_wire_packets_total", 'verdict="bad"', `direction="${direction}"`), "$__range");
  const left = `unless on (job, instance, cluster) (${seen("out")} > 0 unless on (job, instance, cluster) ${seen("in")} > 0)`;
  const sums = `sum by (cluster, instance, peer, variant) (${arrived ? `${grown} ${left}` : grown})`;
  const local = `max by (cluster, local, instance) (vxlan_device_info{cluster=~"$cluster",local!=""})`;
  const as = (rows: string, sender: string, from: string): string =>
    `label_replace(label_replace(${rows}, "peer", "$1", "local", "(.+)"), "sender", "${sender}", "${from}", "(.+)")`;
  // An address that several nodes have: networks that do not see each other, watched as one cluster.
  const several = `count by (cluster, local) (${local})`;
  const owner =
    `sum by (cluster, peer, sender) (${as(`(${local} and on (cluster, local) ${several} == 1)`, "$1", "instance")}` +
    ` or ${as(`(${several} > 1)`, "several nodes", "local")})`;
  return `topk(50, ${sums} * on (cluster, peer) group_left (sender) (${owner} ^ 0) or ${sums} unless on (cluster, peer) ${owner})`;
}

/** Who sent bad packets to whom. */
export const badSenders = peers(true);

/** Every peer of bad packets, the receivers of those that left too. */
export const badPeers = peers(false);
