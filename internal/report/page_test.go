package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

func pageOf(t *testing.T, l *node.Node, o PageOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := HTML(&b, l, diagnosis.Judge(l), o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func options() PageOptions {
	return PageOptions{MetricsPath: "/metrics", Version: "1.0.0"}
}

// TestPages writes the pages where a browser can open them, when told where.
func TestPages(t *testing.T) {
	dir := os.Getenv("PAGES")
	if dir == "" {
		dir = t.TempDir()
	}
	for name, n := range observations() {
		got := pageOf(t, n, options())
		if err := os.WriteFile(filepath.Join(dir, name+".html"), []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		d := diagnosis.Judge(n)
		text := words(t, got)
		for _, want := range append([]string{stateWords(d.State), d.Headline, "worker-3", "Udp InCsumErrors"},
			commands(d)...) {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the page has no %q", name, want)
			}
		}
		for _, link := range []string{`href="/metrics"`, `href="-/healthy"`, `href="-/ready"`} {
			if !strings.Contains(got, link) {
				t.Errorf("%s: no %s", name, link)
			}
		}
	}
}

func commands(d diagnosis.Diagnosis) (list []string) {
	for _, f := range d.Findings {
		for _, r := range f.Remedies {
			list = append(append(list, r.Commands...), r.Also...)
		}
	}
	return list
}

// words is the text that a reader sees.
func words(t *testing.T, page string) string {
	t.Helper()
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if !errors.Is(z.Err(), io.EOF) {
				t.Fatal(z.Err())
			}
			return b.String()
		case html.TextToken:
			b.Write(z.Text())
		}
	}
}

func TestPolicyAllowsTheStyle(t *testing.T) {
	got := pageOf(t, observations()["failing"], options())
	m := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(got)
	if m == nil {
		t.Fatal("no style")
	}
	sum := sha256.Sum256([]byte(m[1]))
	if want := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'"; !strings.Contains(ContentSecurityPolicy, want) {
		t.Errorf("the policy must have %s", want)
	}
	if strings.Count(got, "<style") != 1 || regexp.MustCompile(`\sstyle=|<script|\son[a-z]+=`).MatchString(got) {
		t.Error("the page has what the policy forbids")
	}
}

// TestPageEscapes puts markup where names come from, and compares the elements of the page with those of a page without
// it: the same ones, with the same attributes.
func TestPageEscapes(t *testing.T) {
	calm := shape(t, pageOf(t, hostile("plain"), options()))
	for _, evil := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'onmouseover='alert(1)`, `</style><h1>`, `x--><b>`,
		`&lt;b&gt;`, `{{.Host}}`, "\x1b[31m", "\u202e",
		"\xff", "</title><p>", "javascript:alert(1)",
	} {
		got := pageOf(t, hostile(evil), options())
		if s := shape(t, got); s != calm {
			t.Errorf("%q changes the page's elements", evil)
		}
		for _, r := range got {
			if r == 0x1b || r == 0x202e || r == '\ufffd' {
				t.Errorf("%q is not neutralised", evil)
			}
		}
	}
	if got := pageOf(t, observations()["healthy"], PageOptions{
		MetricsPath: "javascript:alert(1)", Version: "<b>",
	}); strings.Contains(got, `"javascript:`) || strings.Contains(got, "<b>") {
		t.Error("options are not escaped")
	}
}

// shape lists the elements of a page with their attributes, but for the data-name of cells.
func shape(t *testing.T, page string) string {
	t.Helper()
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if !errors.Is(z.Err(), io.EOF) {
				t.Fatal(z.Err())
			}
			return b.String()
		case html.StartTagToken, html.EndTagToken, html.SelfClosingTagToken, html.CommentToken:
			tok := z.Token()
			b.WriteString(tok.String())
			b.WriteByte('\n')
		}
	}
}

func TestPageOfNothing(t *testing.T) {
	if got := pageOf(t, nil, PageOptions{}); !strings.Contains(got, "Nothing was observed") {
		t.Errorf("the page says %q", words(t, got))
	}
}

func BenchmarkPage(b *testing.B) {
	l := observations()["failing"]
	d := diagnosis.Judge(l)
	for b.Loop() {
		if err := HTML(io.Discard, l, d, options()); err != nil {
			b.Fatal(err)
		}
	}
}
