// One node: what it suffers and causes, and everything the exporter knows about it.
import { DashboardBuilder, DashboardCursorSync } from "@grafana/grafana-foundation-sdk/dashboard";
import { alerts, nodeAlerts } from "./alerts.js";
import { counters } from "./node/counters.js";
import { devices } from "./node/devices.js";
import { exporter } from "./node/exporter.js";
import { flows } from "./node/flows.js";
import { path } from "./node/path.js";
import { rules } from "./node/rules.js";
import { verdict } from "./node/verdict.js";
import { wire } from "./node/wire.js";
import { link } from "./panels.js";
import { cluster, datasource, device, job, oneInstance, runbook } from "./variables.js";

export function nodeDashboard(): DashboardBuilder {
  const d = new DashboardBuilder("VXLAN checksum failure: node")
    .uid("vxlan-node")
    .description("What one node suffers and causes: devices, features, NATed flows, NAT rules, counters, packets on the wire, and its exporter.")
    .tags(["vxlan_exporter"])
    .time({ from: "now-1h", to: "now" })
    .refresh("30s")
    .timezone("browser")
    .readonly()
    .tooltip(DashboardCursorSync.Crosshair)
    .variables([datasource(), job(), cluster(), oneInstance(), device(), runbook()])
    .links([
      link("Fleet", "/d/vxlan-fleet/?var-datasource=${datasource}", "Who suffers and who causes it in the whole fleet"),
      link("Runbook", "${runbook}/RUNBOOK.md", "What each alert means, how to confirm it, how to cure it"),
    ])
    .annotation(alerts(nodeAlerts));
  for (const part of [verdict, devices, flows, rules, counters, path, wire, exporter]) {
    part(d);
  }
  return d;
}
