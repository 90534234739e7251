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
  const fill = (expr) => expr
    .replaceAll("$__rate_interval", `${4 * scrape}s`).replaceAll("$__interval", `${scrape}s`).replaceAll("$__range", `${to - from}s`)
    .replaceAll("$cluster", ".*").replaceAll("$instance", node).replaceAll("$device", ".*");
  const results = {};
  for (const panel of dashboard.panels) {
    for (const target of panel.targets ?? []) {
      const query = fill(target.expr);
      const result = target.range
        ? await ask("query_range", { query, start: from, end: to, step: scrape })
        : await ask("query", { query, time: to });
      (results[panel.id] ??= []).push({ ...target, result });
    }
  }
  const data = { dashboard, results, from: from * 1000, to: to * 1000, instance };
  writeFileSync(`${out}/${dashboard.uid}.js`, `window.DATA = ${JSON.stringify(data)};\n`);
}
