// The exporter itself: can its answers be believed, and what does it cost.
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { sel } from "../expr.js";
import { SUCCESS, words } from "../mappings.js";
import { column, row, series, table, timeline } from "../panels.js";

const height = 7;
const why = "no data: this node's exporter is not scraped";
/** Series of this exporter only: process_ and up are everybody's. */
const mine = (metric: string): string => `${sel(metric)} and on (job, instance) ${sel("vxlan_exporter_build_info")}`;

const collectors = timeline({
  title: "Collectors", unit: "short", width: 12, height: 8, why,
  description: "ok: it got its answer, \"none here\" included. not permitted: the unit lacks a capability (conntrack, natrules: CAP_NET_ADMIN; " +
    "wire: CAP_NET_RAW). failed: see `journalctl -u vxlan_exporter`. What a failing collector would tell is missing, not 0.",
}, [[`max by (collector) (2 * ${sel("vxlan_scrape_collector_success")} + on (job, instance, collector) ${sel("vxlan_scrape_collector_not_permitted")})`, "{{collector}}"]], SUCCESS);

const duration = series({
  title: "Time of each collector", unit: "s", width: 12, height: 8, why,
  description: "Collectors run side by side; the slowest decides. Do: conntrack above 1 s: see docs/PERFORMANCE.md and --conntrack.strategy.",
}, [[`max by (collector) (${sel("vxlan_scrape_collector_duration_seconds")})`, "{{collector}}"]]);

const scraped = timeline({
  title: "Scraped", unit: "short", width: 6, height, why,
  description: "down: Prometheus got no answer. Gaps in all other panels then are blindness, not health.",
}, [[`max by (job) (${sel("up")} and on (job, instance) last_over_time(${sel("vxlan_exporter_build_info")}[$__range]))`, "{{job}}"]],
words({ 1: ["up", "green"], 0: ["down", "red"] }));

const cpu = series({
  title: "CPU", unit: "percentunit", width: 6, height, why,
  description: "Of one core. The exporter uses one at most.",
}, [[`max(rate(${sel("process_cpu_seconds_total")}[$__rate_interval]) and on (job, instance) ${sel("vxlan_exporter_build_info")})`, "CPU"]]);

const memory = series({
  title: "Memory", unit: "bytes", width: 6, height, why,
  description: "Resident. It stays below 18.5 MB with the packet capture off; the shipped unit ends it far above that.",
}, [[`max(${mine("process_resident_memory_bytes")})`, "resident"]]);

const version = table({
  title: "Version", unit: "short", width: 6, height, why,
  description: "What runs there, and since when.",
}, [[`1000 * max by (instance, version) (${sel("process_start_time_seconds")} * on (job, instance) group_left (version) ${sel("vxlan_exporter_build_info")})`]],
{ instance: "node", version: "version", Value: "started" })
  .withOverride(column("started", { unit: "dateTimeAsIso" }));

export function exporter(d: DashboardBuilder): void {
  d.withRow(row("The exporter itself"));
  for (const panel of [collectors, duration, scraped, cpu, memory, version]) {
    d.withPanel(panel);
  }
}
