package diagnosis

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestRemediesAreUsed compares remedies.json with the code, which has nothing but the names.
func TestRemediesAreUsed(t *testing.T) {
	d := json.NewDecoder(bytes.NewReader(remedyFile))
	d.DisallowUnknownFields()
	var read map[string]remedyText
	if err := d.Decode(&read); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\bremedy\((?:v, )?"(\w+)"`).FindAllSubmatch(text, -1) {
			named[string(m[1])] = true
		}
	}
	want, got := slices.Sorted(maps.Keys(named)), slices.Sorted(maps.Keys(read))
	if !slices.Equal(want, got) {
		t.Errorf("the code names %q, remedies.json has %q", want, got)
	}
}

// TestRemediesAreFilledIn: no word in braces reaches a reader.
func TestRemediesAreFilledIn(t *testing.T) {
	words := regexp.MustCompile(`{[a-zA-Z -]+}`)
	for _, c := range allCases() {
		for _, f := range Judge(c.node).Findings {
			for _, r := range f.Remedies {
				text := strings.Join(slices.Concat([]string{r.Title, r.Effect, r.Cost, r.Persist}, r.Commands, r.Also), "\n")
				if found := words.FindString(text); found != "" || r.Title == "" {
					t.Errorf("%s: %s has %q", c.name, r.Title, found)
				}
			}
		}
	}
}
