// The dashboards' variables.
import {
  ConstantVariableBuilder, DatasourceVariableBuilder, QueryVariableBuilder, VariableRefresh, VariableSort,
  type DataSourceRef,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { fleet, sel } from "./expr.js";

/** The data source that every panel asks. */
export const DATASOURCE: DataSourceRef = { type: "prometheus", uid: "${datasource}" };

export const datasource = () =>
  new DatasourceVariableBuilder("datasource").label("Data source").type("prometheus");

function query(name: string, label: string, query: string): QueryVariableBuilder {
  return new QueryVariableBuilder(name)
    .label(label)
    .datasource(DATASOURCE)
    .query({ query, refId: name })
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.AlphabeticalAsc);
}

/** All is `.+`, or `.*` of a label that not every series has: a Prometheus that knows no clusters loses nothing. */
const all = (v: QueryVariableBuilder, value = ".+"): QueryVariableBuilder =>
  v.multi(true).includeAll(true).allValue(value).current({ selected: true, text: "All", value: "$__all" });

export const job = () => all(query("job", "Job", "label_values(vxlan_exporter_build_info, job)"));

export const cluster = () =>
  all(query("cluster", "Cluster", 'label_values(vxlan_exporter_build_info{job=~"$job"}, cluster)'), ".*");

const instances = `label_values(vxlan_exporter_build_info{${fleet}}, instance)`;
export const anyInstance = () => all(query("instance", "Node", instances));
export const oneInstance = () => query("instance", "Node", instances);

export const device = () =>
  all(query("device", "Device", `label_values(${sel("vxlan_device_info")}, device)`));

/** Where this site serves the project's docs/ folder. `make rules RUNBOOK_URL=…` puts the site's own here. */
export const runbook = () =>
  new ConstantVariableBuilder("runbook").label("URL of the docs folder").value("https://example.org/vxlan_exporter/docs");
