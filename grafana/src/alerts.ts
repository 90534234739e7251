// Alerts of prometheus/rules as annotations.
import { AnnotationQueryBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { DATASOURCE } from "./variables.js";

const firing = 'alertname=~"Vxlan.*",alertstate="firing",cluster=~"$cluster"';

/** One mark for each alert's name: a bad day in a large fleet fires thousands. */
export const fleetAlerts = `max by (cluster, alertname, severity) (ALERTS{${firing}})`;

/** Alerts about one node. */
export const nodeAlerts = `max by (alertname, severity, device, variant) (ALERTS{${firing},instance=~"$instance"})`;

export const alerts = (expr: string): AnnotationQueryBuilder =>
  new AnnotationQueryBuilder().name("Vxlan alerts").datasource(DATASOURCE).enable(true).hide(false).iconColor("red").expr(expr);

/** How Grafana's Prometheus data source words an annotation; the published schema leaves this to each data source. */
export const marks = { titleFormat: "{{alertname}}", textFormat: "{{severity}} {{device}} {{variant}}", tagKeys: "severity" };
