// The page: a dashboard's panels on its grid, from window.DATA. ?rows=FROM-TO chooses lines of the grid.
import React from "react";
import { createRoot } from "react-dom/client";
import { createTheme, dateTime, ThemeContext } from "@grafana/data";
import { GlobalStyles } from "@grafana/ui";
import { Panel } from "./panel.jsx";

const { dashboard, results, from, to, instance } = window.DATA;
const params = new URLSearchParams(location.search);
const [first, last] = (params.get("rows") ?? "0-1000").split("-").map(Number);
const width = window.innerWidth - 16, unit = 38; // Grafana: 30 high, 8 between
const column = width / 24;
const range = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
const vars = (text) => text.replaceAll("$instance", instance).replaceAll("${runbook}", "docs");
const shown = dashboard.panels.filter(({ gridPos: g }) => g.y >= first && g.y + g.h <= last);

function App() {
  return (
    <ThemeContext.Provider value={createTheme({ colors: { mode: "dark" } })}>
      <GlobalStyles />
      <div style={{ position: "relative", margin: 8 }}>
        <h1 style={{ fontSize: 18, height: 30, margin: "0 4px 8px" }}>
          {dashboard.title}
          <span style={{ fontSize: 13, fontWeight: 400, marginLeft: 24, opacity: 0.7 }}>
            Prometheus: lab · Cluster: All · Node: {dashboard.uid === "vxlan-node" ? instance : "All"} · Device: All
          </span>
        </h1>
        {shown.map((p) => {
          const { x, y, w, h } = p.gridPos;
          const box = { position: "absolute", left: x * column, top: 38 + (y - first) * unit, width: w * column - 8, height: h * unit - 8 };
          return (
            <div key={p.id} style={box}>
              {p.type === "row" ? <h6 style={{ padding: "6px 4px", margin: 0 }}>⌄ {p.title}</h6>
                : <Panel panel={p} results={results[p.id] ?? []} range={range} width={box.width} height={box.height} vars={vars} />}
            </div>
          );
        })}
      </div>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById("root")).render(<App />);
