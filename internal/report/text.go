package report

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

// textWidth is that of the text report, in columns.
const textWidth = 80

// Text writes the report for a terminal, with ANSI colors (SGR sequences) or without. No line is longer than
// textWidth, but for a word of a command that has no blank to break at.
func Text(w io.Writer, n *node.Node, d diagnosis.Diagnosis, color bool) error {
	t, m := newText(w, color), newModel(n, d)
	t.line(t.paint(stateTone(m.State), strings.ToUpper(stateWords(m.State)), true))
	t.wrap("", m.Headline)
	t.line("")
	var facts []string
	for _, p := range m.Facts {
		facts = append(facts, p.Name+" "+clean(p.Value))
	}
	t.wrap("", strings.Join(facts, ", "))
	if len(m.Findings) > 0 {
		t.title("Findings")
		for _, f := range m.Findings {
			t.finding(f)
		}
		for _, s := range m.Omitted {
			t.wrap("  ", s)
		}
	}
	for _, tab := range m.Tables {
		t.title(tab.Title)
		t.table(tab)
	}
	t.steps(m.Steps)
	return t.w.Flush()
}

// text writes lines that fit. bufio.Writer keeps the first error, so none is looked at on the way.
type text struct {
	w     *bufio.Writer
	color bool
}

func newText(w io.Writer, color bool) *text { return &text{bufio.NewWriter(w), color} }

func (t *text) line(s string) {
	_, _ = t.w.WriteString(strings.TrimRight(s, " "))
	_ = t.w.WriteByte('\n')
}

func (t *text) title(s string) {
	t.line("")
	t.line(t.paint(plain, strings.ToUpper(s), true))
}

func (t *text) finding(f diagnosis.Finding) {
	severity := fmt.Sprintf("%-8s", strings.ToUpper(string(f.Severity)))
	head := "  " + t.paint(tone(f.Severity), severity, f.Severity == diagnosis.Critical) + "  "
	const indent = "            "
	if f.Severity == diagnosis.Good {
		t.wrapFirst(head, indent, f.Summary)
		return
	}
	t.line(head + t.paint(faint, string(f.Code), false))
	t.wrap(indent, f.Summary) // its evidence stands in the sections below
}

func (t *text) pair(indent string, p pair) {
	if p.Name == "" {
		t.wrap(indent, p.Value)
		return
	}
	name := clean(p.Name) + ": "
	t.wrapFirst(indent+t.paint(faint, name, false), indent+"  ", p.Value)
}

func (t *text) steps(list []step) {
	if len(list) > 0 {
		t.title("What to type")
	}
	for i, s := range list {
		title := s.Title
		if s.For != "" {
			title += " (" + s.For + ")"
		}
		t.wrapFirst("  "+number(uint64(i+1))+". ", "     ", title)
		for _, c := range s.Commands {
			t.command(c)
		}
		for _, p := range remedyLines(s.Remedy) {
			t.pair("     ", p)
		}
		for _, c := range s.Also {
			t.command(c)
		}
	}
}

// command writes a command in lines that the shell puts together again. Its words came quoted already.
func (t *text) command(c string) {
	lead, line := "     $ ", ""
	words := shellWords(clean(c))
	for i, word := range words {
		line += word
		switch {
		case i == len(words)-1:
			t.line(lead + t.paint(plain, line, true))
		case len(lead)+width(line)+1+width(words[i+1])+2 <= textWidth:
			line += " "
		default:
			t.line(lead + t.paint(plain, line+` \`, true))
			lead, line = "         ", ""
		}
	}
}

// shellWords splits a command at the blanks that stand outside quotes.
func shellWords(s string) []string {
	var words []string
	var quoted, escaped, ansi bool
	start := 0
	for i := range len(s) {
		c := s[i]
		switch {
		case escaped:
			escaped = false
		case c == '\\' && (!quoted || ansi):
			escaped = true
		case c == '\'':
			ansi = !quoted && i > 0 && s[i-1] == '$'
			quoted = !quoted
		case c == ' ' && !quoted:
			if i > start {
				words = append(words, s[start:i])
			}
			start = i + 1
		}
	}
	if start < len(s) {
		words = append(words, s[start:])
	}
	return words
}

func (t *text) wrap(indent, s string) { t.wrapFirst(indent, indent, s) }

// wrapFirst breaks s at blanks so that it fits between indent and the width; the first line begins with first.
func (t *text) wrapFirst(first, indent, s string) {
	line, left, blank := first, room(first), ""
	next := func() { line, left, blank = indent, room(indent), "" }
	for word := range strings.FieldsSeq(clean(s)) {
		if blank != "" && width(word)+1 > left {
			t.line(line)
			next()
		}
		for width(word) > left { // wider than a whole line
			head, tail := cut(word, left)
			t.line(line + head)
			next()
			word = tail
		}
		line, left, blank = line+blank+word, left-width(blank+word), " "
	}
	if blank != "" || line != indent {
		t.line(line)
	}
}

// room is how much fits behind lead: never so little that a text has no end.
func room(lead string) int { return max(textWidth-visible(lead), 8) }

func width(s string) int { return utf8.RuneCountInString(s) }

// visible is the width of s without its colors.
func visible(s string) int {
	n, in := 0, false
	for _, r := range s {
		switch {
		case r == '\x1b':
			in = true
		case in:
			in = r != 'm'
		default:
			n++
		}
	}
	return n
}

// cut splits s after n characters.
func cut(s string, n int) (head, tail string) {
	for i := range s {
		if n == 0 {
			return s[:i], s[i:]
		}
		n--
	}
	return s, ""
}

// paint puts s in the color of a tone: ECMA-48 SGR, the eight basic colors, which every terminal scheme keeps readable.
func (t *text) paint(k tone, s string, bold bool) string {
	if !t.color || s == "" {
		return s
	}
	code := map[tone]string{good: "32", warn: "33", bad: "31", tone(diagnosis.Info): "36", faint: "2"}[k]
	if bold {
		code = strings.TrimSuffix("1;"+code, ";")
	}
	if code == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
