// Bundles the page into build/.
import { build } from "esbuild";
import { writeFileSync } from "node:fs";

await build({
  entryPoints: ["src/page.jsx"], bundle: true, outfile: "build/page.js", minify: true, jsx: "transform",
  // Their .mjs files import CommonJS as bundlers do, and a bundler takes .mjs at Node's word.
  alias: Object.fromEntries(["data", "schema", "ui"].map((m) => [`@grafana/${m}`, `./node_modules/@grafana/${m}/dist/cjs/index.cjs`])),
  define: { "process.env.NODE_ENV": '"production"' },
  loader: { ".svg": "dataurl", ".ttf": "dataurl", ".woff": "dataurl", ".woff2": "dataurl" },
});
for (const uid of ["vxlan-fleet", "vxlan-node"]) {
  writeFileSync(`build/${uid}.html`, `<!doctype html><meta charset="utf-8"><title>${uid}</title><link rel="stylesheet" href="page.css">
<body style="background:#111217"><div id="root"></div><script src="${uid}.js"></script><script src="page.js"></script>\n`);
}
