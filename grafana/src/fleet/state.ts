// What the fleet is like: exposure, rules, offload, kernels. Counts and lists cut short, never a line for each node.
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { dev, sel } from "../expr.js";
import { VARIANT, words } from "../mappings.js";
import { POINTS, column, fixed, matching, row, series, table, toNode } from "../panels.js";

const height = 8;

const exposures = series({
  title: "Devices by exposure and variant", unit: "short", width: 12, height, why: "no data: no VXLAN device was judged",
  description: "active: spoils packets now. exposed: the next connection that kube-proxy marks will. Not counted: clear and unknown ones. " +
    "Do: cure exposed devices by day: `vxlan_exporter check` there names the rule.",
}, [[`sum by (variant, state) (${dev("vxlan_device_exposure", 'state=~"active|exposed"')})`, "{{state}}: {{variant}}"]])
  .maxDataPoints(POINTS)
  .withOverride(matching("^active: offloaded.*", fixed("red"))).withOverride(matching("^active: zero.*", fixed("dark-red")))
  .withOverride(matching("^exposed: offloaded.*", fixed("orange"))).withOverride(matching("^exposed: zero.*", fixed("dark-orange")));

const paths = series({
  title: "Devices by what their probe of the path found", unit: "short", width: 24, height,
  why: "no data: no exporter probes the path (--collector.path)",
  description: "nat and offload are proof that packets are lost, with nobody's traffic; mtu: those that fill the MTU. Which nodes: the alerts VxlanPathSpoilsChecksums and VxlanPathMTU. " +
    "Do: `vxlan_exporter check --probe` there.",
}, [[`sum by (state) (${dev("vxlan_path_state")}) > 0`, "{{state}}"]])
  .maxDataPoints(POINTS)
  .withOverride(matching("^(nat|offload)$", fixed("red"))).withOverride(column("mtu", fixed("orange")))
  .withOverride(column("ok", fixed("green"))).withOverride(column("unknown", fixed("purple"))).withOverride(column("unreachable", fixed("text")));

const exposed = table({
  title: "Exposed or unknown now, the first 100", unit: "short", width: 12, height,
  why: "No device is exposed or unknown, or none was judged.",
  description: "Devices that are not clear and not active. Do: `vxlan_exporter check` on the node.",
}, [[`topk(100, max by (cluster, instance, device, variant, state) (${dev("vxlan_device_exposure", 'state=~"exposed|unknown"')} == 1))`]],
{ instance: "node", device: "device", variant: "variant", state: "state", cluster: "cluster" }, ["Value"])
  .withOverride(column("node", toNode("node")))
  .withOverride(column("variant", { mappings: VARIANT }));

const marks = table({
  title: "Nodes that keep the masquerade mark, the first 100", unit: "short", width: 8, height,
  why: "Every kube-proxy clears its mark, or no NAT rules could be read (CAP_NET_ADMIN).",
  description: "The mark is not cleared before MASQUERADE. kept: the old form; upgrade kube-proxy. bypassed: another MASQUERADE runs ahead; " +
    "reorder it. A row for each family and backend. Since when: the node's dashboard.",
}, [[`topk(100, max by (cluster, instance, family, backend, state) (${sel("vxlan_nat_masquerade_mark_state", 'state=~"kept|bypassed"')} == 1))`]],
{ instance: "node", state: "masquerade mark", family: "family", backend: "backend", cluster: "cluster" }, ["Value"])
  .withOverride(column("node", toNode("node")))
  .withOverride(matching("mark|family|backend", { "custom.width": 90 }));

const feature = dev("vxlan_device_feature_active", 'feature="tx-checksum-ip-generic"');
const offload = series({
  title: "Part of the devices with tx-checksum-ip-generic on", unit: "percentunit", width: 8, height, why: "no data: no features of VXLAN devices could be read",
  description: "On: one of the failure's conditions, and the default. Neither all nor none: the fleet has drifted; the CNI makes devices anew with it on. " +
    "Do: find the odd ones in the table beside.",
}, [[`avg(${feature})`, "on"]])
  .max(1)
  .maxDataPoints(POINTS)
  .withOverride(column("on", fixed("blue")));

// The rarer of the two settings; with equal halves, those that have it on.
const odd = `${feature} != on (cluster) group_left () (avg by (cluster) (${feature}) > bool 0.5)`;
const drift = table({
  title: "Devices that differ from their cluster's majority, the first 100", unit: "short", width: 8, height,
  why: "All devices of each cluster are alike, or no features could be read.",
  description: "tx-checksum-ip-generic of these is not what most of their cluster's devices have. Do: find out what made them different: " +
    "a remedy typed by hand, a missing guard, another CNI version.",
}, [[`topk(100, ${odd})`]], { instance: "node", device: "device", Value: "offload", cluster: "cluster" },
["__name__", "job", "feature"])
  .withOverride(column("node", toNode("node")))
  .withOverride(column("offload", { "custom.width": 80, mappings: words({ 0: ["off", "text"], 1: ["on", "blue"] }), "custom.cellOptions": { type: "color-text" } }));

const kernels = table({
  title: "Kernels on which NAT spoils outer checksums, or may", unit: "short", width: 24, height: 6,
  why: "Every kernel is known to be fixed, or the kernel collector is off.",
  description: "Nodes by verdict; those of fixed kernels are not counted. By release, offloaded_checksum is never fixed; zero_checksum is where the fix of 5.7 or a backport is known. " +
    "evidence selftest: proven on the running kernel by `vxlan_exporter selftest --write`, which counts more.",
}, [[`count by (variant, verdict, evidence) (${sel("vxlan_kernel_nat_checksum_bug", 'verdict!="fixed"')} == 1)`]],
{ variant: "variant", verdict: "verdict", evidence: "evidence", Value: "nodes" });

export function fleetState(d: DashboardBuilder): void {
  d.withRow(row("Exposure, rules, offload, kernels"));
  for (const panel of [exposures, exposed, marks, offload, drift, paths, kernels]) {
    d.withPanel(panel);
  }
}
