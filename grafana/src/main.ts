// Writes the dashboards into a folder: vxlan-fleet.json and vxlan-node.json.
import { mkdirSync, writeFileSync } from "node:fs";
import type { Dashboard, DashboardBuilder, VariableModel } from "@grafana/grafana-foundation-sdk/dashboard";
import { marks } from "./alerts.js";
import { fleet } from "./fleet.js";
import { nodeDashboard } from "./node.js";

/** What the builders give every variable, although only other kinds than ours have it. */
const foreign: (keyof VariableModel)[] = ["id", "auto", "auto_min", "auto_count"];

/** Numbers rows and panels in the order they come, and says what the builders have no words for. */
function finished(builder: DashboardBuilder): Dashboard {
  const d = builder.build();
  d.panels?.forEach((panel, i) => (panel.id = i + 1));
  delete (d as Partial<Dashboard>).style; // gone since Grafana 10
  d.templating.list?.forEach((v) => foreign.forEach((key) => delete v[key]));
  d.annotations.list?.forEach((a) => Object.assign(a, marks));
  return d;
}

const folder = process.argv[2];
if (!folder) {
  throw new Error("usage: main.js FOLDER");
}
mkdirSync(folder, { recursive: true });
for (const d of [fleet(), nodeDashboard()].map(finished)) {
  writeFileSync(`${folder}/${d.uid}.json`, JSON.stringify(d, null, 2) + "\n");
}
