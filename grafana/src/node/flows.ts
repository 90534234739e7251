// Connection tracking: flows of the tunnel, NATed ones, and what reading them costs.
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { perMinute, sel } from "../expr.js";
import { column, fixed, lines, matching, row, series } from "../panels.js";

const height = 7;
const why = "no data: connection tracking is not readable (CAP_NET_ADMIN), or not in the kernel";

const tracked = series({
  title: "VXLAN flows tracked", unit: "short", width: 8, height, why,
  description: "UDP flows to each VXLAN port. 0 with overlay traffic: the port is not tracked (NOTRACK), and the failure cannot happen.",
}, [[`sum by (family, port) (${sel("vxlan_conntrack_flows")})`, "{{family}} port {{port}}"]]);

const natted = series({
  title: "VXLAN flows NATed now", unit: "short", width: 8, height, why,
  description: "Any snat is the cause of the failure. dnat is no known cause, and is not meant to happen to a tunnel. Do: `vxlan_exporter check` names the rule.",
}, [[`sum by (family, port, nat) (${sel("vxlan_conntrack_nat_flows")})`, "{{nat}} {{family}} port {{port}}"]]).withOverride(matching("^snat", fixed("purple")));

const fresh = series({
  title: "New NATed VXLAN flows", unit: "cpm", width: 8, height, why,
  description: "Distinct NATed flows found since the scan before. not counted: more were there at once than are remembered.",
}, [
  [perMinute(sel("vxlan_conntrack_nat_flows_seen_total"), "family, port, nat"), "{{nat}} {{family}} port {{port}}"],
  [perMinute(sel("vxlan_conntrack_nat_flows_seen_overflow_total")), "not counted"],
]).withOverride(matching("^snat", fixed("purple")));

const table = lines({
  title: "Connection tracking table", unit: "short", width: 8, height, why: "no data: the kernel has no connection tracking",
  description: "At its limit the kernel drops new connections, which looks like this failure and is not. Do: raise net.netfilter.nf_conntrack_max.",
}, [
  [`max(${sel("vxlan_conntrack_entries")})`, "entries"],
  [`max(${sel("vxlan_conntrack_entries_limit")})`, "limit"],
  [`max(${sel("vxlan_conntrack_buckets")})`, "buckets"],
]).min(0).withOverride(column("limit", { ...fixed("red"), "custom.fillOpacity": 0 })).withOverride(column("buckets", { ...fixed("text"), "custom.fillOpacity": 0 }));

const cost = series({
  title: "Scans", unit: "s", width: 8, height, why,
  description: "duration: of the whole scan. longest receive: softirqs of one CPU were held off for it; above 10 ms see docs/PERFORMANCE.md. " +
    "interval: from one scan to the next, by --conntrack.max-cpu. age: of the scan when it was served; time since: it ended. They grow when scans fail, or nobody scrapes.",
}, [
  [`max(${sel("vxlan_conntrack_scan_duration_seconds")})`, "duration"],
  [`max(${sel("vxlan_conntrack_scan_longest_receive_seconds")})`, "longest receive"],
  [`max(${sel("vxlan_conntrack_scan_interval_seconds")})`, "interval"],
  [`max(${sel("vxlan_conntrack_scan_age_seconds")})`, "age"],
  [`time() - max(${sel("vxlan_conntrack_scan_timestamp_seconds")})`, "time since"],
]).withOverride(matching("interval|age|time since", { "custom.axisPlacement": "right", "custom.fillOpacity": 0 }));

const entries = series({
  title: "Entries sent by the kernel in a scan", unit: "short", width: 8, height, why,
  description: "Few where the kernel filters for us (filtered: 1). stale 1: a later scan failed, and the last complete one is served.",
}, [
  [`max(${sel("vxlan_conntrack_scan_entries")})`, "entries"],
  [`max(${sel("vxlan_conntrack_scan_filtered")})`, "filtered"],
  [`max(${sel("vxlan_conntrack_scan_stale")})`, "stale"],
]).withOverride(column("filtered", { "custom.axisPlacement": "right" })).withOverride(column("stale", { "custom.axisPlacement": "right", ...fixed("red") }));

export function flows(d: DashboardBuilder): void {
  d.withRow(row("Flows and connection tracking"));
  for (const panel of [tracked, natted, fresh, table, cost, entries]) {
    d.withPanel(panel);
  }
}
