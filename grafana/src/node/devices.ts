// Devices and the underlay NICs, with their features.
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { dev, sel } from "../expr.js";
import { FEATURE, UP } from "../mappings.js";
import { column, matching, matrix, row, table } from "../panels.js";

const on = "device, feature";
/** A gauge of the device as one more feature. */
const as = (metric: string, name: string, ...matchers: string[]): string =>
  `label_replace(max by (device) (${dev(metric, ...matchers)}), "feature", "${name}", "", "")`;

const state = (prefix: string, filter: (metric: string) => string): string =>
  `max by (${on}) (${filter(`${prefix}_active`)})` +
  ` + on (${on}) 2 * (max by (${on}) (${filter(`${prefix}_active`)}) != bool on (${on}) max by (${on}) (${filter(`${prefix}_requested`)}))` +
  ` + on (${on}) 4 * max by (${on}) (${filter(`${prefix}_fixed`)})`;

/** The culprit, before the feature's state: it takes the place of "on". */
const culprit = `8 * label_replace(max by (device) (${dev("vxlan_device_exposure", 'state=~"exposed|active"')}) == 1,` +
  ` "feature", "tx-checksum-ip-generic", "", "")`;

const features = matrix({
  title: "VXLAN devices and their features", unit: "short", width: 24, height: 4, why: "No VXLAN device is here, or its features could not be read.",
  description: "In the words of ethtool -k. tx-checksum-ip-generic is red where it is on and the device is exposed or active: off is the remedy. " +
    "\"off [requested on]\": the kernel may switch it on by itself. udpcsum: outer checksum on IPv4; on: variant B, off: variant A. " +
    "udp6zerocsumtx and rx: zero checksums over IPv6 sent and accepted.",
}, [
  culprit,
  state("vxlan_device_feature", (m) => dev(m)),
  as("vxlan_device_up", "up"),
  as("vxlan_device_udp_checksum_enabled", "udpcsum"),
  as("vxlan_device_udp6_zero_checksum_enabled", "udp6zerocsumtx", 'direction="tx"'),
  as("vxlan_device_udp6_zero_checksum_enabled", "udp6zerocsumrx", 'direction="rx"'),
].map((q) => `(${q})`).join(" or "), "device", "feature", FEATURE);

const info = table({
  title: "VXLAN devices", unit: "short", width: 12, height: 4, why: "No VXLAN device is in this network namespace.",
  description: "As rtnetlink tells. external: each packet brings its own settings (Cilium), and udpcsum says nothing. An empty cell: not set, or the kernel does not tell.",
}, [[`max by (device, family, vni, port, local, underlay, external) (${dev("vxlan_device_info")})`]],
{ device: "device", family: "family", vni: "VNI", port: "port", local: "local address", underlay: "underlay", external: "external" }, ["Value"])
  .withOverride(matching("family|VNI|port", { "custom.width": 70 })).withOverride(matching("device|underlay|external", { "custom.width": 105 }));

const nics = table({
  title: "Underlay NICs", unit: "short", width: 12, height: 4, why: "No underlay NIC was found.",
  description: "Variant C depends on driver and firmware: vmxnet3, ice and i40e have been reported. Do: compare with nodes that are well.",
}, [[`max by (device, driver, firmware_version) (${sel("vxlan_underlay_info")})`], [`max by (device) (${sel("vxlan_underlay_up")})`]],
{ device: "NIC", driver: "driver", firmware_version: "firmware", "Value #B": "link" }, ["Value #A"])
  .withOverride(column("link", { mappings: UP, "custom.width": 80 }));

const nicFeatures = matrix({
  title: "Features of the underlay NICs", unit: "short", width: 24, height: 4, why: "The NIC's features could not be read.",
  description: "Checksum and tunnel offloads of the underlay's NIC, and private flags that name a checksum (as \"flag: …\"). " +
    "Packets lost or bad although no flow is NATed (variant C): switch its tx-udp_tnl offloads off and compare.",
}, `max by (${on}) (${sel("vxlan_underlay_feature_active")}) or max by (${on}) (label_replace(${sel("vxlan_underlay_private_flag")}, "feature", "flag: $1", "flag", "(.+)"))`,
"device", "feature", FEATURE);

export function devices(d: DashboardBuilder): void {
  d.withRow(row("Devices and features"));
  for (const panel of [features, info, nics, nicFeatures]) {
    d.withPanel(panel);
  }
}
