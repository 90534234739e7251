package report

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

func textOf(t *testing.T, l *node.Node, color bool) string {
	t.Helper()
	var b bytes.Buffer
	if err := Text(&b, l, diagnosis.Judge(l), color); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test ./report -update writes it)", err)
	}
	if string(want) != got {
		t.Errorf("%s differs (go test ./report -update, then look at the diff):\n%s", path, got)
	}
}

func TestTextGolden(t *testing.T) {
	for name, n := range observations() {
		t.Run(name, func(t *testing.T) {
			if got := diagnosis.Judge(n).State; string(got) != name {
				t.Fatalf("the observation is %s", got)
			}
			golden(t, name+".txt", textOf(t, n, false))
		})
	}
}

func TestTextColourOnlyAsAsked(t *testing.T) {
	for name, n := range observations() {
		mono, color := textOf(t, n, false), textOf(t, n, true)
		if strings.ContainsRune(mono, 0x1b) {
			t.Errorf("%s has an escape sequence without color", name)
		}
		if !strings.Contains(color, "\x1b[1;3") {
			t.Errorf("%s has no color", name)
		}
		if stripped := uncolor(color); stripped != mono {
			t.Errorf("%s: colors change the layout:\n%s\n%s", name, stripped, mono)
		}
	}
}

func uncolor(s string) string {
	var b strings.Builder
	in := false
	for _, r := range s {
		switch {
		case r == 0x1b:
			in = true
		case in:
			in = r != 'm'
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hostile has text in every place that an observation leaves to others.
func hostile(evil string) *node.Node {
	l := observations()["failing"]
	for _, n := range []*node.Node{l.Earlier, l} {
		n.Hostname, n.Exporter, n.Kernel.Release, n.Kernel.Version = evil, evil, evil, evil
		n.Kernel.OS = map[string]string{"PRETTY_NAME": evil}
		n.Devices[0].Name, n.Devices[0].Underlay = evil, evil
		n.Devices[0].FeaturesError = evil
		n.Results[evil] = node.Result{Status: node.Status(evil), Error: evil}
		n.Results["kernel"] = node.Result{Status: node.Failed, Error: evil}
		n.Sockets[0].Family = evil
		n.Conntrack.Ports = append(n.Conntrack.Ports, node.ConntrackPort{Family: evil, Port: 1, SNAT: 1, DNAT: 1})
		n.NATRules.Rulesets[1] = natrules.Ruleset{
			Family: evil, Backend: evil, Status: node.Status(evil), Error: evil,
			MarkState: natrules.MarkState(evil),
		}
		n.NATRules.Outer[0].Why, n.NATRules.Outer[0].Rule.Text, n.NATRules.Outer[0].Rule.Table = natrules.Why(evil), evil,
			evil
		n.Underlays[0].Name, n.Underlays[0].Driver.Name = evil, evil
	}
	return l
}

func TestTextNeutralisesTerminals(t *testing.T) {
	for _, evil := range []string{
		"\x1b[2J\x1b]0;owned\x07", "a\nCRITICAL", "\r\rok", "\u202ereversed\u202c", "\xff\xfe",
		"\u009b31m", strings.Repeat("long", 5000), "nul\x00", "",
	} {
		got := textOf(t, hostile(evil), false)
		for i, r := range got {
			if r == utf8.RuneError || (r != '\n' && !unicode.IsPrint(r)) {
				t.Fatalf("%q reaches the terminal as %q", evil, got[max(0, i-20):i+10])
			}
		}
		if strings.Contains(got, "\nCRITICAL") {
			t.Errorf("%q makes a line of its own", evil)
		}
	}
}

func TestTextFitsTheWidth(t *testing.T) {
	list := observations()
	list["hostile"] = hostile("x y")
	list["long names"] = hostile("averyveryverylongnamewithoutblanks")
	for name, n := range list {
		for line := range strings.Lines(textOf(t, n, false)) {
			line = strings.TrimSuffix(line, "\n")
			// A quoted word of a command cannot be broken.
			if utf8.RuneCountInString(line) > 80 && !strings.Contains(line, "'") {
				t.Errorf("%s: %q", name, line)
			}
			if strings.HasSuffix(line, " ") {
				t.Errorf("%s: blank at the end of %q", name, line)
			}
		}
	}
}

func TestTextCapsWhatRepeats(t *testing.T) {
	l := observations()["exposed"]
	d := l.Devices[0]
	for i := range 500 {
		d.Name = "flannel." + strconv.Itoa(i+2)
		l.Devices = append(l.Devices, d)
	}
	got := textOf(t, l, false)
	if n := strings.Count(got, "\n"); n > 400 {
		t.Errorf("%d lines", n)
	}
	if !strings.Contains(got, "and 461 more") || !strings.Contains(got, "493 more findings nat_could_spoil") ||
		!strings.Contains(got, "more remedies are in the JSON report") {
		t.Errorf("nothing says what was left out:\n%s", got)
	}
}

func TestCommandsSurviveWrapping(t *testing.T) {
	command := `timeout 60 tcpdump -vv -ni any -c 500 'udp and (dst port 8472 or dst port 4789) and udp[6:2] != 0' ` +
		`| grep -B1 'bad udp cksum' | $'a \' b' | head`
	var b bytes.Buffer
	if err := Text(&b, oneNode(0), diagnosis.Diagnosis{
		State: diagnosis.Failing,
		Findings: []diagnosis.Finding{{
			Severity: diagnosis.Critical,
			Remedies: []diagnosis.Remedy{{Commands: []string{command}}},
		}},
	}, false); err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(b.String(), "     $ ")
	joined := strings.Join(strings.Fields(strings.ReplaceAll(strings.Split(after, "\n     effect")[0], "\\\n", " ")), " ")
	if !strings.HasPrefix(joined, command) {
		t.Errorf("typed back: %s\nwant: %s", joined, command)
	}
}
