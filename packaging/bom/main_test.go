package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

func TestMain(m *testing.M) {
	if err := labtest.BuildExporter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	m.Run()
}

func TestEveryModuleIsListed(t *testing.T) {
	program := labtest.Binary(t)
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Deps) < 5 {
		t.Fatalf("%d modules in the program", len(info.Deps))
	}
	var sbom, again, text, table bytes.Buffer
	for args, to := range map[string]*bytes.Buffer{"sbom": &sbom, "licenses": &text, "table": &table} {
		if err := run([]string{args, program}, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := run([]string{"sbom", program}, &again); err != nil || again.String() != sbom.String() {
		t.Errorf("two runs differ, or failed: %v", err)
	}
	var b bom
	if err := json.Unmarshal(sbom.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	listed := map[string]component{}
	for _, c := range b.Components {
		listed[c.Name] = c
	}
	if len(listed) != len(info.Deps)+1 || len(b.Dependencies[0].DependsOn) != len(listed) {
		t.Errorf("%d components, %d dependencies, of %d modules and the standard library", len(listed), len(b.Dependencies[0].DependsOn), len(info.Deps))
	}
	for _, d := range info.Deps {
		c := listed[d.Path]
		if c.Version != d.Version || len(c.Licenses) != 1 || c.Licenses[0].License.ID == "" || len(c.Hashes) != 1 {
			t.Errorf("%s %s: listed as %+v", d.Path, d.Version, c)
		}
		if !strings.Contains(text.String(), d.Path+" "+d.Version+" (") {
			t.Errorf("%s: no licence", d.Path)
		}
		if row := "| " + d.Path + " | " + d.Version + " | " + c.Licenses[0].License.ID + " |\n"; !strings.Contains(table.String(), row) {
			t.Errorf("the table has no row %s", row)
		}
	}
	if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(b.Serial) {
		t.Errorf("serial number %s", b.Serial)
	}
	if !strings.Contains(text.String(), "std ") || !strings.Contains(text.String(), "The Go Authors") {
		t.Error("the standard library's licence is missing")
	}
}

func TestLicenceThatIsNotKnown(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/LICENSE", []byte("You may look at this.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&module{}).read(dir); err == nil {
		t.Error("an unknown licence was accepted")
	}
}

func TestEscape(t *testing.T) {
	if got := escape("github.com/CycloneDX/x"); got != "github.com/!cyclone!d!x/x" {
		t.Error(got)
	}
}
