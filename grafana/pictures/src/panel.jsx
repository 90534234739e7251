// One panel, drawn with Grafana's own components; the state timeline, which Grafana does not publish, with its theme and its rules.
import React, { useEffect, useState } from "react";
import { dateTimeFormat, getFieldDisplayName, renderMarkdown } from "@grafana/data";
import { BigValue, PanelChrome, Table, TimeSeries, useTheme2 } from "@grafana/ui";
import { frames } from "./frames.js";

export function Panel({ panel, results, range, width, height, vars }) {
  const theme = useTheme2();
  const [data, setData] = useState(null);
  useEffect(() => {
    if (panel.type === "text") return setData([]);
    frames(panel, results, theme).then(setData, (e) => setData(e));
  }, [panel, results, theme]);
  if (data instanceof Error) throw data;
  if (data === null) return null;
  return (
    <PanelChrome title={vars(panel.title)} width={width} height={height} padding={panel.type === "table" ? "none" : "md"}>
      {(w, h) => <Content {...{ panel, data, range, theme, w, h, vars }} />}
    </PanelChrome>
  );
}

function Content({ panel, data, range, theme, w, h, vars }) {
  if (panel.type === "text") {
    return <div className="markdown-html" style={{ width: w, height: h, overflow: "hidden" }} dangerouslySetInnerHTML={{ __html: renderMarkdown(vars(panel.options.content)) }} />;
  }
  if (!data.some((f) => f.length > 0)) {
    return <div style={{ height: h, display: "flex", alignItems: "center", justifyContent: "center", textAlign: "center", color: theme.colors.text.secondary }}>{panel.fieldConfig.defaults.noValue}</div>;
  }
  switch (panel.type) {
    case "stat": return <Stats {...{ panel, data, theme, w, h }} />;
    case "table": return <Table data={data[0]} width={w} height={h} cellHeight={panel.options.cellHeight} showTypeIcons={false} enableSharedCrosshair={false} />;
    case "timeseries": return <TimeSeries frames={data} structureRev={1} width={w} height={h} timeRange={range} timeZone="utc" legend={panel.options.legend} />;
    case "state-timeline": return <Timeline {...{ panel, data, range, theme, w, h }} />;
    default: throw new Error(`no such panel: ${panel.type}`);
  }
}

function Stats({ panel, data, theme, w, h }) {
  const fields = data.map((frame) => [frame, frame.fields.find((f) => f.type === "number")]);
  const wide = w > h;
  const size = fields.length;
  return (
    <div style={{ display: "flex", flexDirection: wide ? "row" : "column", gap: 5, width: w, height: h }}>
      {fields.map(([frame, field], i) => {
        const v = field.values.at(-1);
        const value = { ...field.display(v), title: size > 1 ? getFieldDisplayName(field, frame, data) : undefined };
        return <BigValue key={i} value={value} theme={theme} width={wide ? (w - 5 * (size - 1)) / size : w} height={wide ? h : (h - 5 * (size - 1)) / size}
          colorMode={panel.options.colorMode} graphMode="none" justifyMode={panel.options.justifyMode} textMode={size > 1 ? "value_and_name" : panel.options.textMode} />;
      })}
    </div>
  );
}

function Timeline({ panel, data, range, theme, w, h }) {
  const left = 190, foot = 22;
  const from = range.from.valueOf(), to = range.to.valueOf();
  const x = (t) => ((t - from) / (to - from)) * (w - left);
  const rowHeight = (h - foot) / data.length;
  const ticks = Array.from({ length: 6 }, (_, i) => from + ((to - from) * (i + 0.5)) / 6);
  return (
    <svg width={w} height={h} style={{ fontFamily: theme.typography.fontFamily, fontSize: 12 }}>
      {data.map((frame, row) => {
        const time = frame.fields[0].values, field = frame.fields[1];
        const step = time.length > 1 ? Math.min(...time.slice(1).map((t, i) => t - time[i])) : 0;
        const runs = [];
        time.forEach((t, i) => {
          const value = field.values[i], open = runs.at(-1);
          if (open && open.value === value && t - open.end <= step * 1.5) open.end = t;
          else {
            if (open && t - open.end <= step * 1.5) open.end = t;
            runs.push({ value, start: t, end: t });
          }
        });
        const y = row * rowHeight + rowHeight * 0.1, tall = rowHeight * (panel.options.rowHeight ?? 0.9);
        return (
          <g key={row}>
            <text x={left - 8} y={y + tall / 2 + 4} textAnchor="end" fill={theme.colors.text.primary}>{getFieldDisplayName(field, frame, data)}</text>
            {runs.map((r, i) => {
              const d = field.display(r.value), wide = Math.max(2, x(r.end + step) - x(r.start));
              return (
                <g key={i}>
                  <rect x={left + x(r.start)} y={y} width={Math.min(wide, w - left - x(r.start))} height={tall} fill={d.color} fillOpacity={0.8} />
                  {wide > 55 && <text x={left + x(r.start) + 6} y={y + tall / 2 + 4} fill={theme.colors.getContrastText(d.color)}>{d.text}{d.suffix}</text>}
                </g>
              );
            })}
          </g>
        );
      })}
      {ticks.map((t) => <text key={t} x={left + x(t)} y={h - 5} textAnchor="middle" fill={theme.colors.text.secondary}>{dateTimeFormat(t, { timeZone: "utc", format: "HH:mm:ss" })}</text>)}
    </svg>
  );
}
