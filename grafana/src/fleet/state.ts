// What the fleet is like: exposure, rules, offload, kernels. Counts of nodes, never a line for each.
import { StackingConfigBuilder, StackingMode } from "@grafana/grafana-foundation-sdk/common";
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { dev, sel } from "../expr.js";
import { VARIANT, words } from "../mappings.js";
import { POINTS, column, fixed, matching, row, series, table, toNode } from "../panels.js";

const stacked = () => new StackingConfigBuilder().mode(StackingMode.Normal).group("A");
const height = 8;

const exposures = series({
  title: "Devices by exposure and variant", unit: "short", width: 12, height, why: "no data: no VXLAN device was judged",
  description: "active: spoils packets now. exposed: the next connection that kube-proxy marks will. Not counted: clear and unknown ones. " +
    "Do: cure exposed devices by day: `vxlan_exporter check` there names the rule.",
}, [[`sum by (variant, state) (${dev("vxlan_device_exposure", 'state=~"active|exposed"')})`, "{{state}}: {{variant}}"]])
  .maxDataPoints(POINTS)
  .withOverride(matching("^active: offloaded.*", fixed("red"))).withOverride(matching("^active: zero.*", fixed("dark-red")))
  .withOverride(matching("^exposed: offloaded.*", fixed("orange"))).withOverride(matching("^exposed: zero.*", fixed("dark-orange")));

const exposed = table({
  title: "Exposed or unknown now, the first 100", unit: "short", width: 12, height,
  why: "No device is exposed or unknown, or none was judged.",
  description: "Devices that are not clear and not active. Do: `vxlan_exporter check` on the node.",
}, [[`topk(100, max by (cluster, instance, device, variant, state) (${dev("vxlan_device_exposure", 'state=~"exposed|unknown"')} == 1))`]],
{ instance: "node", device: "device", variant: "variant", state: "state", cluster: "cluster" }, ["Value"])
  .withOverride(column("node", toNode("node")))
  .withOverride(column("variant", { mappings: VARIANT }));

const guards = series({
  title: "Nodes whose kube-proxy does not guard", unit: "short", width: 8, height,
  why: "no data: no NAT rules could be read (CAP_NET_ADMIN), or no node has any",
  description: "The mark is not cleared before MASQUERADE. unguarded: the old form; upgrade kube-proxy. preempted: another MASQUERADE runs ahead; " +
    "reorder it. A node counts once for each family and backend it has such rules in.",
}, [[`sum by (state) (${sel("vxlan_nat_mark_guard", 'state=~"unguarded|preempted"')})`, "{{state}}"]])
  .maxDataPoints(POINTS)
  .withOverride(column("unguarded", fixed("red"))).withOverride(column("preempted", fixed("orange")));

const feature = dev("vxlan_device_feature_active", 'feature="tx-checksum-ip-generic"');
const offload = series({
  title: "Devices by tx-checksum-ip-generic", unit: "short", width: 8, height, why: "no data: no features of VXLAN devices could be read",
  description: "on: one of the failure's conditions. A fleet where some are on and some off has drifted: the CNI makes devices anew with it on. " +
    "Do: find the odd ones in the table beside.",
}, [[`label_replace(label_replace(count_values("is", ${feature}), "is", "on", "is", "1"), "is", "off", "is", "0")`, "{{is}}"]])
  .maxDataPoints(POINTS)
  .stacking(stacked()).lineWidth(0).fillOpacity(60) // a line of 0 would lie on top
  .withOverride(column("on", fixed("blue"))).withOverride(column("off", fixed("text")));

// The rarer of the two settings; with equal halves, those that have it on.
const odd = `${feature} != on (cluster) group_left () (avg by (cluster) (${feature}) > bool 0.5)`;
const drift = table({
  title: "Devices that differ from their cluster's majority, the first 100", unit: "short", width: 8, height,
  why: "All devices of each cluster are alike, or no features could be read.",
  description: "tx-checksum-ip-generic of these is not what most of their cluster's devices have. Do: find out what made them different: " +
    "a remedy typed by hand, a missing guard, another CNI version.",
}, [[`topk(100, ${odd})`]], { instance: "node", device: "device", Value: "tx-checksum-ip-generic", cluster: "cluster" },
["__name__", "job", "feature"])
  .withOverride(column("node", toNode("node")))
  .withOverride(column("tx-checksum-ip-generic", { mappings: words({ 0: ["off", "text"], 1: ["on", "blue"] }), "custom.cellOptions": { type: "color-text" } }));

const kernels = table({
  title: "Kernels on which NAT spoils outer checksums, or may", unit: "short", width: 24, height: 6,
  why: "Every kernel is known to be fixed, or the kernel collector is off.",
  description: "Nodes by verdict; those of fixed kernels are not counted. By release, offloaded_checksum is never fixed; zero_checksum is where the fix of 5.7 or a backport is known. " +
    "evidence selftest: proven on the running kernel by `vxlan_exporter selftest --write`, which counts more.",
}, [[`count by (variant, verdict, evidence) (${sel("vxlan_kernel_nat_checksum_bug", 'verdict!="fixed"')} == 1)`]],
{ variant: "variant", verdict: "verdict", evidence: "evidence", Value: "nodes" });

export function fleetState(d: DashboardBuilder): void {
  d.withRow(row("Exposure, rules, offload, kernels"));
  for (const panel of [exposures, exposed, guards, offload, drift, kernels]) {
    d.withPanel(panel);
  }
}
