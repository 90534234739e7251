// Data frames from Prometheus' answers, with the panel's field configuration, as Grafana's data source and panels make them.
import {
  FieldType, fieldMatchers, getDisplayProcessor, getFieldDisplayName, standardTransformers, standardTransformersRegistry, toDataFrame,
  transformDataFrame,
} from "@grafana/data";
import { firstValueFrom } from "rxjs";

standardTransformersRegistry.setInit(() =>
  [...new Map(Object.values(standardTransformers).map((t) => [t.id, t])).values()] // some have two names
    .map((t) => ({ id: t.id, name: t.name, aliasIds: [], transformation: t })));

/** A legend with its {{labels}} filled in; by default the labels themselves. */
function legend(format, metric) {
  if (format && format !== "__auto") {
    return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => metric[label] ?? "").trim();
  }
  const { __name__: _, ...labels } = metric;
  return Object.entries(labels).map(([k, v]) => `${k}="${v}"`).join(", ") || "Value";
}

function overTime({ refId, legendFormat, result }) {
  return result.map(({ metric, values }) => {
    const name = legend(legendFormat, metric);
    return toDataFrame({
      refId, name,
      fields: [
        { name: "Time", type: FieldType.time, values: values.map(([t]) => t * 1000), config: {} },
        { name: "Value", type: FieldType.number, values: values.map(([, v]) => Number(v)), labels: metric, config: { displayNameFromDS: name } },
      ],
    });
  });
}

function rows({ refId, result }, several) {
  const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  return toDataFrame({
    refId,
    fields: [
      { name: "Time", type: FieldType.time, values: result.map(({ value: [t] }) => t * 1000), config: {} },
      ...labels.map((l) => ({ name: l, type: FieldType.string, values: result.map(({ metric }) => metric[l] ?? ""), config: {} })),
      { name: several ? `Value #${refId}` : "Value", type: FieldType.number, values: result.map(({ value: [, v] }) => Number(v)), config: {} },
    ],
  });
}

/** Values missing at a scrape stay gaps. */
function set(config, id, value) {
  const path = id.split(".");
  let at = config;
  for (const key of path.slice(0, -1)) at = at[key] ??= {};
  at[path.at(-1)] = value;
}

export async function frames(panel, results, theme) {
  let data;
  if (panel.type === "table") data = results.filter((r) => r.result.length > 0).map((r) => rows(r, results.length > 1));
  else if (panel.type === "stat") {
    data = results.flatMap((r) => r.result.map((one) => overTime({ ...r, result: [{ metric: one.metric, values: [one.value] }] })[0]));
  } else data = results.flatMap(overTime);
  if (panel.transformations?.length) {
    data = await firstValueFrom(transformDataFrame(panel.transformations, data, { interpolate: (s) => s }));
  }
  let index = 0;
  for (const frame of data) {
    for (const field of frame.fields) {
      const given = field.config;
      const config = structuredClone({ ...panel.fieldConfig.defaults, ...given });
      for (const { matcher, properties } of panel.fieldConfig.overrides ?? []) {
        const name = getFieldDisplayName(field, frame, data);
        const fits = matcher.id === "byName" ? name === matcher.options
          : fieldMatchers.get(matcher.id).get(matcher.options)(field, frame, data);
        if (fits) for (const { id, value } of properties) set(config, id, value);
      }
      delete config.links;
      if (field.type === FieldType.time && panel.type !== "table") delete config.unit;
      field.config = config;
      field.state = { ...field.state, seriesIndex: field.type === FieldType.number ? index++ : 0 };
      field.display = getDisplayProcessor({ field, theme, timeZone: "utc" });
    }
  }
  return data;
}
