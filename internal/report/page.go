package report

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"strings"

	"vxlan_exporter/internal/diagnosis"
)

// PageOptions are what the page shows besides the report.
type PageOptions struct {
	MetricsPath string // of the metrics, relative to the page or not; empty: no link
	DocsURL     string // of the documentation; empty: no link
	Version     string // of the program that serves the page
}

// HTML writes the report as a page: no script, one style sheet in the page, everything escaped. Serve it with ContentSecurityPolicy.
// Nothing is written when it cannot be rendered.
func HTML(w io.Writer, l diagnosis.Look, d diagnosis.Diagnosis, o PageOptions) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"clean": clean, "remedy": remedyLines, "tone": stateTone, "icon": icon, "words": stateWords,
		"css": func() template.CSS { return style },
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("status page: %w", err)
	}
	host := ""
	if l.Now != nil {
		host = l.Now.Hostname
	}
	var b bytes.Buffer
	if err := t.Execute(&b, struct {
		model
		PageOptions
		Host string
	}{newModel(l, d), o, host}); err != nil {
		return fmt.Errorf("status page: %w", err)
	}
	if _, err := b.WriteTo(w); err != nil {
		return fmt.Errorf("status page: %w", err)
	}
	return nil
}

// icon is the page's icon, a disc in the color of the verdict, so that a tab tells it.
func icon(s diagnosis.State) template.URL {
	fill := map[tone]string{good: "12703d", warn: "d98a00", bad: "c8232c"}[stateTone(s)]
	return template.URL("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='%23" + fill + "'/%3E%3C/svg%3E")
}

// Wide tables are turned into blocks on a phone.
func (t table) Wide() bool { return len(t.Columns) > 4 }

// Class is a cell's CSS class.
func (t table) Class(i int, c cell) string {
	s := string(c.Tone)
	if t.Columns[i].Right {
		s += " n"
	}
	return strings.TrimSpace(s)
}

// Column is the heading over a cell.
func (t table) Column(i int) string { return t.Columns[i].Name }

const page = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{{words .State}}{{with .Host}} · {{clean .}}{{end}} · vxlan_exporter</title>
<link rel="icon" href="{{icon .State}}">
<style>{{css}}</style>
</head>
<body>
<header>
<strong>vxlan_exporter{{with .Host}} <span>on {{clean .}}</span>{{end}}</strong>
<nav aria-label="Pages">
{{- with .MetricsPath}}<a href="{{.}}">Metrics</a>{{end}}
<a href="-/healthy">Health</a>
<a href="-/ready">Readiness</a>
{{- with .DocsURL}} <a href="{{.}}">Documentation</a>{{end -}}
</nav>
</header>
<main>
<div class="verdict {{tone .State}}" role="status">
<h1>{{words .State}}</h1>
<p>{{clean .Headline}}</p>
{{if .Steps}}<p class="jump"><a href="#steps">What to type</a></p>{{end}}
</div>
{{with .Facts}}<dl class="facts">{{range .}}<div><dt>{{.Name}}</dt><dd>{{clean .Value}}</dd></div>{{end}}</dl>{{end}}
{{if .Findings}}<section id="findings">
<h2>Findings</h2>
<ul class="findings card">
{{range .Findings}}<li><span class="badge {{.Severity}}">{{.Severity}}</span><code class="code">{{.Code}}</code>
<p>{{clean .Summary}}</p>
{{if .Evidence}}<details><summary>Evidence</summary><dl class="pairs">{{range .Evidence}}<dt>{{clean .Name}}</dt><dd>{{clean .Value}}</dd>{{end}}</dl></details>{{end}}
</li>
{{end}}{{range .Omitted}}<li>{{clean .}}</li>
{{end}}</ul>
</section>
{{end}}{{range $t := .Tables}}<section id="{{.ID}}">
<h2>{{.Title}}</h2>
<div class="card">
{{if .Rows}}<div class="scroll"><table{{if .Wide}} class="wide"{{end}}>
<thead><tr>{{range .Columns}}<th scope="col"{{if .Right}} class="n"{{end}}>{{.Name}}</th>{{end}}</tr></thead>
<tbody>
{{range .Rows}}<tr>{{range $i, $c := .}}<td data-name="{{$t.Column $i}}"{{with $t.Class $i $c}} class="{{.}}"{{end}}>{{clean $c.Text}}</td>{{end}}</tr>
{{end}}</tbody>
</table></div>
{{end}}{{if .Notes}}<dl class="pairs">{{range .Notes}}{{if .Name}}<dt>{{clean .Name}}</dt><dd>{{clean .Value}}</dd>{{else}}<dd class="alone">{{clean .Value}}</dd>{{end}}{{end}}</dl>
{{end}}</div>
</section>
{{end}}{{if .Steps}}<section id="steps">
<h2>What to type</h2>
<ol class="steps card">
{{range .Steps}}<li><h3>{{clean .Title}}{{with .For}} <span>· {{clean .}}</span>{{end}}</h3>
{{range .Commands}}<pre><code>{{clean .}}</code></pre>
{{end}}<dl class="pairs">{{range remedy .Remedy}}<dt>{{.Name}}</dt><dd>{{clean .Value}}</dd>{{end}}</dl>
{{range .Also}}<pre><code>{{clean .}}</code></pre>
{{end}}</li>
{{end}}</ol>
</section>
{{end}}</main>
<footer>{{with .Version}}vxlan_exporter {{clean .}}. {{end}}This page shows the node at the time above; reload it for a new observation.</footer>
</body>
</html>
`
