// Runs the dashboards' queries against a Prometheus, as Grafana would, and writes what they gave: collect.mjs FOLDER OUT INTERVAL.
// BEGAN: first moment to show, in seconds since 1970. INSTANCE: the node dashboard's node.
import { readFileSync, readdirSync, writeFileSync, mkdirSync } from "node:fs";

const prometheus = process.env.PROMETHEUS ?? "http://127.0.0.1:9090";
const [folder, out, scrape] = [process.argv[2], process.argv[3], Number(process.argv[4])];
const to = Math.floor(Date.now() / 1000);
const from = Number(process.env.BEGAN);
const instance = process.env.INSTANCE ?? "node-1:10059";
if (!folder || !out || !scrape || !from) throw new Error("usage: BEGAN=… collect.mjs FOLDER OUT INTERVAL");

const escape = (text) => text.replace(/[\\^$*+?.()|[\]{}]/g, "\\\\$&");

/** A step as Grafana rounds it (roundInterval of @grafana/data), never shorter than the scrape interval. */
const interval = (seconds) =>
  Math.max(scrape, [[1.5, 1], [3.5, 2], [7.5, 5], [12.5, 10], [17.5, 15], [25, 20], [45, 30]].find(([below]) => seconds < below)?.[1] ?? 60);

async function ask(path, params) {
  const res = await fetch(`${prometheus}/api/v1/${path}?${new URLSearchParams(params)}`);
  const body = await res.json();
  if (body.status !== "success") throw new Error(`${params.query}: ${JSON.stringify(body)}`);
  return body.data.result;
}

mkdirSync(out, { recursive: true });
for (const file of readdirSync(folder).filter((f) => f.endsWith(".json"))) {
  const dashboard = JSON.parse(readFileSync(`${folder}/${file}`, "utf8"));
  const node = dashboard.uid === "vxlan-node" ? escape(instance) : ".*";
  const fill = (expr, step) => expr
    .replaceAll("$__rate_interval", `${Math.max(4 * scrape, step + scrape)}s`).replaceAll("$__interval", `${step}s`).replaceAll("$__range", `${to - from}s`)
    .replaceAll("$job", ".+").replaceAll("$cluster", ".*").replaceAll("$instance", node).replaceAll("$device", ".*");
  const results = {};
  for (const panel of dashboard.panels) {
    const step = interval((to - from) / (panel.maxDataPoints ?? panel.gridPos.w * 78));
    for (const target of panel.targets ?? []) {
      const query = fill(target.expr, step);
      const result = target.range
        ? await ask("query_range", { query, start: from, end: to, step })
        : await ask("query", { query, time: to });
      (results[panel.id] ??= []).push({ ...target, result });
    }
  }
  const data = { dashboard, results, from: from * 1000, to: to * 1000, instance };
  writeFileSync(`${out}/${dashboard.uid}.js`, `window.DATA = ${JSON.stringify(data)};\n`);
}
