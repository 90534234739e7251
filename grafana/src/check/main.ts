// Writes, for each dashboard and for the oldest and the newest of Grafana's published schemas, a program that compiles only where the
// committed JSON has the schema's types, all required fields, and no field that the schema does not know. `npm run check` compiles them.
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";

/** The schema's module of each panel type. */
const modules: Record<string, string> = {
  stat: "stat/panelcfg/x/StatPanelCfg_types.gen",
  timeseries: "timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen",
  "state-timeline": "statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen",
  table: "table/panelcfg/x/TablePanelCfg_types.gen",
  text: "text/panelcfg/x/TextPanelCfg_types.gen",
};

/** JSON has no enums: a value of one stands as its plain string or number. */
const PLAIN = `
type Plain<T> = unknown extends T ? T
  : T extends string ? \`\${T}\`
  : T extends number ? (\`\${T}\` extends \`\${infer N extends number}\` ? N : number)
  : T extends boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Typed<T extends string, O, C> = Omit<Panel, "type" | "options" | "fieldConfig"> & {
  type: T;
  options: Partial<O>; // Grafana fills in the rest
  fieldConfig: { defaults: Omit<Source["defaults"], "custom" | "thresholds"> & { custom?: C; thresholds?: Thresholds }; overrides: Source["overrides"] };
};
type Source = NonNullable<Panel["fieldConfig"]>;
type Thresholds = { mode: "absolute" | "percentage"; steps: { value: number | null; color: string }[] }; // null: what JSON makes of -Infinity
`;

const folder = process.argv[2];
if (!folder) {
  throw new Error("usage: check/main.js FOLDER");
}
const files = readdirSync(folder).filter((f) => f.endsWith(".json"));
if (files.length === 0) {
  throw new Error(`${folder}: no dashboards`);
}
for (const schema of ["oldest", "newest"]) {
  const out = `build/check/${schema}`;
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  for (const file of files) {
    writeFileSync(`${out}/${file}.ts`, program(schema, JSON.parse(readFileSync(`${folder}/${file}`, "utf8"))));
  }
  const paths = { "@grafana/schema": [`../../../node_modules/schema-${schema}`] }; // what the schema calls itself
  writeFileSync(`${out}/tsconfig.json`, JSON.stringify({
    compilerOptions: { target: "es2022", module: "node16", strict: true, noEmit: true, types: [], skipLibCheck: true, paths },
    include: ["*.ts"],
  }));
}
console.log(`${files.length} dashboards against 2 schemas`);

interface Json { panels: { type: string }[]; [key: string]: unknown }

function program(schema: string, { panels, ...rest }: Json): string {
  const from = `schema-${schema}`;
  const lines = [
    `import type { Dashboard, Panel, RowPanel } from "${from}";`,
    ...Object.entries(modules).map(([type, path]) => `import type * as ${name(type)} from "${from}/dist/esm/raw/composable/${path}";`),
    PLAIN,
    // Only these are not in the schema: they belong to the data source (docs of Grafana's Prometheus data source, annotations).
    `type Annotation = NonNullable<NonNullable<Dashboard["annotations"]>["list"]>[number] & { expr?: string; titleFormat?: string; textFormat?: string; tagKeys?: string };`,
    `type Rest = Omit<Dashboard, "panels" | "annotations"> & { annotations?: { list?: Annotation[] } };`,
    optional(schema),
    `({${JSON.stringify(rest, null, 1).slice(1, -1)}}) satisfies Plain<Relaxed<Rest>>;`,
  ];
  for (const panel of panels) {
    const type = panel.type === "row" ? "RowPanel" : `Typed<"${panel.type}", ${name(panel.type)}.Options, ${custom(schema, panel.type)}>`;
    lines.push(`(${JSON.stringify(panel, null, 1)}) satisfies Plain<${type}>;`);
  }
  return lines.join("\n") + "\n";
}

function name(type: string): string {
  return type.replace(/-/g, "_");
}

function custom(schema: string, type: string): string {
  const has = type === "timeseries" || type === "state-timeline" || (type === "table" && schema === "newest");
  return has ? `Partial<${name(type)}.FieldConfig>` : "Record<string, unknown>";
}

/** The oldest schema still requires what Grafana 10 itself never needed in a file: a style, and every variable's id. */
function optional(schema: string): string {
  return schema === "oldest"
    ? `type Relaxed<T extends { templating?: { list?: { id: unknown }[] } }> = Omit<T, "style" | "templating"> & { style?: string; templating?: { list?: (Omit<NonNullable<NonNullable<T["templating"]>["list"]>[number], "id" | "datasource"> & { datasource?: unknown; refresh?: number; sort?: number; allValue?: string; includeAll?: boolean; regex?: string })[] } };`
    : "type Relaxed<T> = T;";
}
