package report

// ContentSecurityPolicy is the header that the page is made for: no script, nothing loaded from anywhere, the one style sheet by its
// hash, and the icon in the page itself. A test computes the hash from style.
const ContentSecurityPolicy = "default-src 'none'; style-src 'sha256-n9QNv9A9l6RdlTOJ3PpR2qjT3Wz5+0HtsgiMghj0ync='; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const style = `
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --line: #dfe3e8; --text: #1b2330; --soft: #5c6878; --code: #f0f2f5; --link: #0b5cad;
  --ok: #12703d; --ok-bg: #e4f5ea; --warning: #8a5300; --warning-bg: #fdf1d8; --critical: #b3161d; --critical-bg: #fde7e7; --info: #235a97; --info-bg: #e6f0fa;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10141a; --card: #181e27; --line: #2c3542; --text: #e4e9f0; --soft: #99a5b5; --code: #0c1016; --link: #7db7f5;
    --ok: #6fd49a; --ok-bg: #12301f; --warning: #f0bd63; --warning-bg: #352810; --critical: #ff8f8f; --critical-bg: #3c1619; --info: #8fc0f3; --info-bg: #14283f;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 64rem; margin: 0 auto; padding: 0 1.25rem; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 1.25rem; padding-top: 1.1rem; padding-bottom: .9rem; }
header strong { font-size: 1.05rem; margin-right: auto; overflow-wrap: anywhere; }
header strong span { color: var(--soft); font-weight: 400; }
a { color: var(--link); text-underline-offset: .15em; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; }
.verdict { border: 1px solid var(--line); border-left-width: .5rem; border-radius: .5rem; background: var(--card); padding: 1.1rem 1.3rem 1.2rem; }
.verdict h1 { margin: 0; font-size: 1.7rem; line-height: 1.25; letter-spacing: -.01em; }
.verdict p { margin: .35rem 0 0; font-size: 1.08rem; overflow-wrap: anywhere; }
.verdict .jump { font-size: 1rem; margin-top: .7rem; }
.verdict.ok { border-color: var(--ok); } .verdict.ok h1 { color: var(--ok); }
.verdict.warning { border-color: var(--warning); } .verdict.warning h1 { color: var(--warning); }
.verdict.critical { border-color: var(--critical); background: var(--critical-bg); } .verdict.critical h1 { color: var(--critical); }
.facts { display: flex; flex-wrap: wrap; gap: .15rem 1.4rem; margin: .8rem .1rem 0; color: var(--soft); font-size: .9rem; }
.facts div { display: flex; gap: .4rem; min-width: 0; }
.facts dd { margin: 0; color: var(--text); overflow-wrap: anywhere; }
section { margin-top: 2rem; }
h2 { font-size: 1.15rem; margin: 0 0 .6rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; overflow: hidden; }
.findings, .steps { list-style: none; margin: 0; padding: 0; }
.findings > li, .steps > li { padding: .85rem 1.1rem; border-top: 1px solid var(--line); }
.findings > li:first-child, .steps > li:first-child { border-top: 0; }
.findings p { margin: .3rem 0 0; overflow-wrap: anywhere; }
.badge { display: inline-block; border-radius: 1rem; padding: .05rem .65rem; font-size: .8rem; font-weight: 600; }
.badge.ok { color: var(--ok); background: var(--ok-bg); } .badge.info { color: var(--info); background: var(--info-bg); }
.badge.warning { color: var(--warning); background: var(--warning-bg); } .badge.critical { color: var(--critical); background: var(--critical-bg); }
.code { color: var(--soft); font-size: .85rem; margin-left: .4rem; overflow-wrap: anywhere; }
details { margin-top: .4rem; font-size: .92rem; }
summary { cursor: pointer; color: var(--soft); }
.pairs { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .9rem; margin: .45rem 0 0; font-size: .92rem; }
.pairs dt { color: var(--soft); }
.pairs dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.pairs .alone { grid-column: 1 / -1; }
.steps { counter-reset: step; }
.steps > li { counter-increment: step; }
.steps h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
.steps h3::before { content: counter(step) ". "; color: var(--soft); font-weight: 400; }
.steps h3 span { color: var(--soft); font-weight: 400; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: .35rem; margin: .5rem 0 0; padding: .5rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .9rem; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre code::before { content: "$ "; color: var(--soft); user-select: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem 1.1rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); overflow-wrap: break-word; }
thead th { border-top: 0; color: var(--soft); font-weight: 500; white-space: nowrap; }
th.n, td.n { text-align: right; white-space: nowrap; }
td.ok { color: var(--ok); font-weight: 600; } td.warning { color: var(--warning); font-weight: 600; } td.critical { color: var(--critical); font-weight: 600; } td.faint { color: var(--soft); }
.card > .pairs { margin: 0; padding: .7rem 1.1rem .8rem; border-top: 1px solid var(--line); }
.card > .pairs:first-child { border-top: 0; }
footer { color: var(--soft); font-size: .85rem; padding-top: 2rem; padding-bottom: 2rem; }
@media (max-width: 40rem) {
  header, main, footer { padding-left: .8rem; padding-right: .8rem; }
  header strong { width: 100%; }
  .pairs:not(.steps .pairs) { grid-template-columns: 1fr; gap: 0; }
  .pairs:not(.steps .pairs) dd { margin-bottom: .35rem; }
  th, td { padding-left: .5rem; padding-right: .5rem; }
  th:first-child, td:first-child { padding-left: .8rem; }
  th:last-child, td:last-child { padding-right: .8rem; }
  .findings > li, .steps > li, .card > .pairs { padding-left: .8rem; padding-right: .8rem; }
  .verdict { padding: .9rem 1rem 1rem; }
  table.wide, .wide tbody, .wide tr, .wide td { display: block; }
  .wide thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  .wide tr { border-top: 1px solid var(--line); padding: .5rem .8rem; }
  .wide tr:first-child { border-top: 0; }
  .wide td, .wide td.n { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .1rem 0; text-align: right; white-space: normal; overflow-wrap: anywhere; }
  .wide td:first-child { font-weight: 600; }
  .wide td::before { content: attr(data-name); color: var(--soft); font-weight: 400; white-space: nowrap; }
}
`
