// The fleet: who suffers, who causes it, which variant, since when, what to type.
import { DashboardBuilder, DashboardCursorSync } from "@grafana/grafana-foundation-sdk/dashboard";
import { alerts, fleetAlerts } from "./alerts.js";
import { answer } from "./fleet/answer.js";
import { correlation } from "./fleet/correlation.js";
import { fleetState } from "./fleet/state.js";
import { health } from "./fleet/health.js";
import { link } from "./panels.js";
import { anyInstance, cluster, datasource, device, job, runbook } from "./variables.js";

export function fleet(): DashboardBuilder {
  const d = new DashboardBuilder("VXLAN checksum failure: fleet")
    .uid("vxlan-fleet")
    .description("Which nodes receive VXLAN packets with bad checksums, which nodes send them, why, and what to type there.")
    .tags(["vxlan_exporter"])
    .time({ from: "now-1h", to: "now" })
    .refresh("1m")
    .timezone("browser")
    .readonly()
    .tooltip(DashboardCursorSync.Crosshair)
    .variables([datasource(), job(), cluster(), anyInstance(), device(), runbook()])
    .links([
      link("One node", "/d/vxlan-node/?var-datasource=${datasource}", "Devices, features, flows, rules and counters of one node"),
      link("Runbook", "${runbook}/RUNBOOK.md", "What each alert means, how to confirm it, how to cure it"),
    ])
    .annotation(alerts(fleetAlerts));
  for (const part of [answer, correlation, fleetState, health]) {
    part(d);
  }
  return d;
}
