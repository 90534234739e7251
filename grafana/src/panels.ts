// Panels with what every one of them must have: a description, a unit, the data source variable, and why there is no data.
import * as common from "@grafana/grafana-foundation-sdk/common";
import {
  DashboardLinkBuilder, DashboardLinkType, FieldColorBuilder, FieldColorModeId, RowBuilder, ThresholdsConfigBuilder, ThresholdsMode,
  type DynamicConfigValue, type Threshold, type ValueMapping,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder, PromQueryFormat } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as Stat } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as StateTimeline } from "@grafana/grafana-foundation-sdk/statetimeline";
import { PanelBuilder as Table } from "@grafana/grafana-foundation-sdk/table";
import { PanelBuilder as Text, TextMode } from "@grafana/grafana-foundation-sdk/text";
import { PanelBuilder as TimeSeries } from "@grafana/grafana-foundation-sdk/timeseries";
import { DATASOURCE } from "./variables.js";

/** What a panel says about itself. why: what it means that there is no data. */
export interface About {
  title: string;
  description: string;
  unit: string;
  why: string;
  width: number;
  height: number;
}

/** A query and, in time series, its legend. */
export type Query = [expr: string, legend?: string];

/**
 * Points of a line over a whole fleet, and steps of a search through its past: a minute each where an hour is shown. Without it Grafana
 * asks for one for each pixel, and a fleet of thousands is asked for long.
 */
export const POINTS = 60;

const refs = "ABCDEFGH";
const range = ([expr, legend]: Query, i: number): DataqueryBuilder =>
  new DataqueryBuilder().refId(refs[i]!).datasource(DATASOURCE).expr(expr).range().legendFormat(legend ?? "__auto");
const instant = ([expr, legend]: Query, i: number): DataqueryBuilder =>
  new DataqueryBuilder().refId(refs[i]!).datasource(DATASOURCE).expr(expr).instant().legendFormat(legend ?? "__auto");
const rows = (q: Query, i: number): DataqueryBuilder => instant(q, i).format(PromQueryFormat.Table);

type Common = Stat | StateTimeline | Table | TimeSeries;

function dress<P extends Common>(panel: P, a: About): P {
  panel.title(a.title).description(a.description).datasource(DATASOURCE).height(a.height).span(a.width).unit(a.unit).noValue(a.why);
  return panel;
}

/** Thresholds from a base color and steps upwards. */
export function steps(base: string, ...up: [from: number, color: string][]): ThresholdsConfigBuilder {
  const list: Threshold[] = [{ value: null, color: base }, ...up.map(([value, color]) => ({ value, color }))];
  return new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(list);
}

/** One or a few big values of now. */
export function stat(a: About, queries: Query[], mappings: ValueMapping[] = []): Stat {
  return dress(new Stat(), a)
    .targets(queries.map(instant))
    .mappings(mappings)
    .colorMode(common.BigValueColorMode.Background)
    .graphMode(common.BigValueGraphMode.None)
    .justifyMode(common.BigValueJustifyMode.Center)
    .textMode(queries.length > 1 ? common.BigValueTextMode.ValueAndName : common.BigValueTextMode.Value)
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Thresholds))
    .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(["lastNotNull"]).values(false).fields(""));
}

/** Lines over time that never go below 0. */
export const series = (a: About, queries: Query[]): TimeSeries => lines(a, queries).min(0);

/** Lines over time. */
export function lines(a: About, queries: Query[]): TimeSeries {
  return dress(new TimeSeries(), a)
    .targets(queries.map(range))
    .drawStyle(common.GraphDrawStyle.Line)
    .lineWidth(2)
    .fillOpacity(15)
    .showPoints(common.VisibilityMode.Never)
    .thresholds(steps("green"))
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.PaletteClassic))
    .tooltip(new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi).sort(common.SortOrder.Descending))
    .legend(new common.VizLegendOptionsBuilder()
      .showLegend(true).displayMode(common.LegendDisplayMode.List).placement(common.LegendPlacement.Bottom).calcs([]));
}

/** States over time, one bar for each series. */
export function timeline(a: About, queries: Query[], mappings: ValueMapping[]): StateTimeline {
  return dress(new StateTimeline(), a)
    .targets(queries.map(range))
    .mappings(mappings)
    .mergeValues(true)
    .showValue(common.VisibilityMode.Auto)
    .alignValue(common.TimelineValueAlignment.Left)
    .rowHeight(0.8)
    .fillOpacity(80)
    .thresholds(steps("text"))
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Thresholds))
    .tooltip(new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Single).sort(common.SortOrder.None))
    .legend(new common.VizLegendOptionsBuilder()
      .showLegend(false).displayMode(common.LegendDisplayMode.List).placement(common.LegendPlacement.Bottom).calcs([]));
}

/** A table of instant queries, whose rows are joined on the labels they share. Columns come in the order given, others are hidden. */
export function table(a: About, queries: Query[], columns: Record<string, string>, hide: string[] = []): Table {
  const renameByName = { ...columns };
  const indexByName = Object.fromEntries(Object.keys(columns).map((name, i) => [name, i]));
  const excludeByName = Object.fromEntries(["Time", ...hide].map((name) => [name, true]));
  const t = dress(new Table(), a)
    .targets(queries.map(rows))
    .showHeader(true)
    .cellHeight(common.TableCellHeight.Sm)
    .thresholds(steps("text"))
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Thresholds));
  t.withOverride(matching(".*", { noValue: "–" })); // the panel's own says why there are no rows
  t.withOverride({ matcher: { id: "byType", options: "string" }, properties: [{ id: "unit", value: "string" }] }); // else port 8472 is 8.47 K
  if (queries.length > 1) {
    t.withTransformation({ id: "merge", options: {} });
  }
  return t.withTransformation({ id: "organize", options: { excludeByName, indexByName, renameByName } });
}

/** A table of two labels and a value between them. */
export function matrix(a: About, query: string, row: string, column: string, mappings: ValueMapping[]): Table {
  return dress(new Table(), a)
    .targets([rows([query], 0)])
    .showHeader(true)
    .cellHeight(common.TableCellHeight.Sm)
    .mappings(mappings)
    .thresholds(steps("text"))
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Thresholds))
    .withTransformation({ id: "groupingToMatrix", options: { rowField: row, columnField: column, valueField: "Value", emptyValue: "null" } })
    .withOverride(coloredText(".*"))
    .withOverride(matching(".*", { noValue: "–" }));
}

/** Markdown. */
export function text(a: Omit<About, "unit" | "why">, content: string): Text {
  return new Text().title(a.title).description(a.description).datasource(DATASOURCE).height(a.height).span(a.width)
    .mode(TextMode.Markdown).content(content);
}

export const row = (title: string): RowBuilder => new RowBuilder(title);

export interface Override {
  matcher: { id: string; options: string };
  properties: DynamicConfigValue[];
}

/** Properties of one column or series, by the name it is shown with. */
export const column = (name: string, properties: Record<string, unknown>): Override => ({
  matcher: { id: "byName", options: name },
  properties: Object.entries(properties).map(([id, value]) => ({ id, value })),
});

export const matching = (regexp: string, properties: Record<string, unknown>): Override => ({
  matcher: { id: "byRegexp", options: `/${regexp}/` },
  properties: Object.entries(properties).map(([id, value]) => ({ id, value })),
});

/** What receivers suffer is red, what senders cause is purple, on both dashboards. */
export const SUFFERS = "red";
export const SENDS = "purple";

/** A single color in shades: the lines are alike in what they mean. */
export const shades = (color: string): FieldColorBuilder => new FieldColorBuilder().mode(FieldColorModeId.Shades).fixedColor(color);

export const fixed = (color: string): Record<string, unknown> => ({ color: { mode: "fixed", fixedColor: color } });

/** A second quantity in a time series, as steps: a count, on an axis of its own. */
export const rightAxis = (label: string): Record<string, unknown> => ({
  unit: "short", "custom.axisPlacement": "right", "custom.axisLabel": label, "custom.fillOpacity": 0, "custom.lineInterpolation": "stepAfter",
});

/** Cells in the color of their value. */
export const coloredText = (regexp: string): Override =>
  matching(regexp, { "custom.cellOptions": { type: "color-text" } });
export const coloredCell = { "custom.cellOptions": { type: "color-background", mode: "basic" } };

/** Link from a cell to the node's dashboard. */
export const toNode = (field: string): Record<string, unknown> => ({
  links: [{
    title: "This node",
    url: `/d/vxlan-node/?var-datasource=\${datasource}&\${cluster:queryparam}&var-instance=\${__data.fields["${field}"]}&\${__url_time_range}`,
  }],
});

export const link = (title: string, url: string, tooltip: string): DashboardLinkBuilder =>
  new DashboardLinkBuilder(title).type(DashboardLinkType.Link).url(url).icon("dashboard").tooltip(tooltip).tags([])
    .asDropdown(false).targetBlank(false).includeVars(false).keepTime(true);
