// The probe of the path: what it found, what was answered, how long that took.
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { dev } from "../expr.js";
import { PATH } from "../mappings.js";
import { column, fixed, row, series, timeline } from "../panels.js";

const height = 7;
const why = "no data: the path is not probed (--collector.path), or no device has a peer";

/** A number for each state, as PATH words them. */
export const pathState = (by: string): string => {
  const is = (state: string, value: number): string => `max by (${by}) (${dev("vxlan_path_state", `state="${state}"`)} * ${value})`;
  return [is("nat", 6), is("offload", 5), is("mtu", 4), is("ok", 3), is("unknown", 2), is("unreachable", 1)].map((e) => `(${e} > 0)`).join(" or ");
};

const states = timeline({
  title: "What the probe found on the way to other nodes", unit: "short", width: 8, height, why,
  description: "nat: packets with kube-proxy's mark are lost, others arrive. offload: those whose checksum is left to offload are lost. Both are proof. " +
    "mtu: those that fill the MTU are lost. Do: `vxlan_exporter check --probe` names the senders and peers.",
}, [[pathState("device, family"), "{{device}} {{family}}"]], PATH);

const share = (mark: string, checksum: string): string => {
  const packets = (name: string): string => `sum(increase(${dev(name, `mark="${mark}",checksum="${checksum}"`)}[$__rate_interval]))`;
  return `${packets("vxlan_path_packets_answered_total")} / (${packets("vxlan_path_packets_sent_total")} > 0)`;
};
const answers = series({
  title: "Part of the probe's packets that is answered", unit: "percentunit", width: 8, height, why,
  description: "By mark, and by who finishes the checksum. Marked and offloaded alone at 0: NAT spoils them. More are sent of what is lost, so this is no loss rate of the path.",
}, [
  [share("masquerade", "offloaded"), "marked, offloaded"],
  [share("masquerade", "software"), "marked, software"],
  [share("none", "offloaded"), "plain, offloaded"],
  [share("none", "software"), "plain, software"],
]).max(1).withOverride(column("marked, offloaded", { ...fixed("red"), "custom.lineWidth": 3 }));

const trips = series({
  title: "Round trip of the probe's packets", unit: "s", width: 8, height, why,
  description: "From a packet to its answer, through the tunnel: half and 9 of 10 are faster.",
}, [0.5, 0.9].map((q) => [
  `histogram_quantile(${q}, sum by (le) (increase(${dev("vxlan_path_round_trip_seconds_bucket")}[$__rate_interval])))`, `${q * 100} %`,
]));

export function path(d: DashboardBuilder): void {
  d.withRow(row("Path to other nodes"));
  for (const panel of [states, answers, trips]) {
    d.withPanel(panel);
  }
}
