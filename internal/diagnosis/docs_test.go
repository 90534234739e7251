package diagnosis

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCodesAreDocumented compares docs/DIAGNOSIS.md with the code: every code has its section and no other has, with
// the severities that the cases lead to, and the exit statuses are those of the program.
func TestCodesAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/DIAGNOSIS.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[Code]string{}
	for _, part := range strings.Split(string(data), "\n### ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		text, _, _ = strings.Cut(text, "\n## ")
		sections[Code(strings.Trim(name, "`"))] = text
	}
	for _, code := range Codes() {
		if sections[code] == "" {
			t.Errorf("%s is not documented", code)
		}
	}
	severity := regexp.MustCompile(`\| severity \| (.*) \|`)
	for code, text := range sections {
		if !slices.Contains(Codes(), code) {
			t.Errorf("%s is documented, and there is no such code", code)
		}
		if !severity.MatchString(text) {
			t.Errorf("%s has no severity", code)
		}
	}
	for _, c := range allCases() {
		for _, f := range Judge(c.node).Findings {
			m := severity.FindStringSubmatch(sections[f.Code])
			if m != nil && !strings.Contains(m[1], string(f.Severity)) {
				t.Errorf("%s: %s is %s here, documented as %s", c.name, f.Code, f.Severity, m[1])
			}
		}
	}
	for _, s := range []State{Healthy, Exposed, Failing, Unknown} {
		if row := fmt.Sprintf("\n| `%s` | %d |", s, s.ExitStatus()); !strings.Contains(string(data), row) {
			t.Errorf("no row %q", row)
		}
	}
}
