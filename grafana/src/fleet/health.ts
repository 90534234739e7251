// Alerts, and whether the exporters themselves can be believed.
import { FieldColorBuilder, FieldColorModeId, type DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { node, sel } from "../expr.js";
import { nothing, words } from "../mappings.js";
import { POINTS, column, fixed, row, series, table, timeline, toNode } from "../panels.js";

const height = 8;

const firing = timeline({
  title: "Alerts firing", unit: "short", width: 12, height,
  why: "No Vxlan alert fired in the shown time, or prometheus/rules is not loaded in this Prometheus.",
  description: "Number of alerts by name; of those for nodes, ten a cluster at most. VxlanChecksumFailure is the page; the runbook has a section for each. " +
    "Do: open the runbook at the alert's name.",
}, [[`count by (alertname) (ALERTS{alertname=~"Vxlan.*",alertstate="firing",cluster=~"$cluster"})`, "{{alertname}}"]], [])
  .maxDataPoints(POINTS)
  .withOverride(column("VxlanChecksumFailure", fixed("red")))
  .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Fixed).fixedColor("orange"));

const reporting = series({
  title: "Exporters scraped", unit: "short", width: 12, height, why: "no data: no vxlan_exporter is scraped",
  description: "By version. A drop: nodes are down, or their exporters. Do: see the table below.",
}, [[`count by (version) (${sel("vxlan_exporter_build_info")})`, "{{version}}"]]).maxDataPoints(POINTS);

const gone = table({
  title: "Exporters that went away in the shown time, the first 100", unit: "short", width: 12, height,
  why: "Every exporter that was scraped in the shown time still is.",
  description: "Scraped earlier in the shown time, and not now. Their nodes are blind. " +
    "Do: `systemctl status vxlan_exporter` there, or see whether the node is gone for good.",
}, [[`topk(100, max by (${node}) (last_over_time(${sel("vxlan_exporter_build_info")}[$__range])) unless max by (${node}) (${sel("vxlan_exporter_build_info")}))`]],
{ instance: "node", cluster: "cluster" }, ["Value"]);

const failing = table({
  title: "Collectors that fail, the first 100", unit: "short", width: 12, height,
  why: "Every collector of every exporter got its answer.",
  description: "What these collectors would tell is missing, not 0. not permitted: the unit lacks a capability (conntrack and natrules: " +
    "CAP_NET_ADMIN, wire: CAP_NET_RAW). failed: see `journalctl -u vxlan_exporter` there.",
}, [
  [`topk(100, max by (${node}, collector) (${sel("vxlan_scrape_collector_success")} == 0))`],
  [`topk(100, max by (${node}, collector) (${sel("vxlan_scrape_collector_not_permitted", 'collector=~"conntrack|natrules|wire"')} == 1))`],
], { instance: "node", collector: "collector", "Value #B": "why", cluster: "cluster" }, ["Value #A"])
  .withOverride(column("node", toNode("node")))
  .withOverride(column("why", { mappings: [...words({ 1: ["not permitted", "orange"] }), ...nothing("failed", "red")], "custom.cellOptions": { type: "color-text" } }));

export function health(d: DashboardBuilder): void {
  d.withRow(row("Alerts, and the exporters themselves"));
  for (const panel of [firing, reporting, gone, failing]) {
    d.withPanel(panel);
  }
}
