package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

//go:embed page.html
var page string

//go:embed page.css
var style string

// ContentSecurityPolicy is the header that the page is made for: no script, nothing loaded from anywhere, the one style
// sheet by its hash, and the icon in the page itself. A test computes the hash from style.
const ContentSecurityPolicy = "default-src 'none'; style-src 'sha256-GjT8Is2wTHQAYKcIgnyVcWQhzKqfvIrrOa7/UNSOqvU='; " +
	"img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// PageOptions are what the page shows besides the report.
type PageOptions struct {
	MetricsPath string // of the metrics, relative to the page or not; empty: no link
	Version     string // of the program that serves the page
}

// HTML writes the report as a page: no script, one style sheet in the page, everything escaped. Serve it with
// ContentSecurityPolicy. Nothing is written when it cannot be rendered.
func HTML(w io.Writer, n *node.Node, d diagnosis.Diagnosis, o PageOptions) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"clean": clean, "remedy": remedyLines, "tone": stateTone, "icon": icon, "words": stateWords,
		"css": func() template.CSS { return template.CSS(style) },
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("status page: %w", err)
	}
	host := ""
	if n != nil {
		host = n.Hostname
	}
	var b bytes.Buffer
	if err := t.Execute(&b, struct {
		model
		PageOptions
		Host string
	}{newModel(n, d), o, host}); err != nil {
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
	return template.URL("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle " +
		"cx='8' cy='8' r='7' fill='%23" + fill + "'/%3E%3C/svg%3E")
}

// Class is a cell's CSS class.
func (t *table) Class(i int, c cell) string {
	if t.Columns[i].Right {
		return strings.TrimSpace(string(c.Tone) + " n")
	}
	return string(c.Tone)
}
