//go:build load

package load_test

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// unit are the bounds that the shipped unit sets.
type unit struct {
	memoryMax int // bytes
	memLimit  string
	files     string
}

// shipped reads the unit, so that the exporter is tested within the bounds that it is shipped with.
func shipped(t *testing.T) unit {
	t.Helper()
	b, err := os.ReadFile("../../systemd/vxlan_exporter.service")
	if err != nil {
		t.Fatal(err)
	}
	setting := func(pattern string) string {
		m := regexp.MustCompile(`(?m)^` + pattern + `$`).FindSubmatch(b)
		if m == nil {
			t.Fatalf("the unit has no line %s", pattern)
		}
		return string(m[1])
	}
	mib, err := strconv.Atoi(setting(`MemoryMax=(\d+)M`))
	if err != nil {
		t.Fatal(err)
	}
	return unit{
		memoryMax: mib << 20, memLimit: setting(`Environment=GOMEMLIMIT=(\w+)`),
		files: setting(`LimitNOFILE=(\d+)`),
	}
}

// command is what starts a program within the bounds, but for the memory, which is measured.
func (u unit) command() []string {
	return []string{"prlimit", "--nofile=" + u.files + ":" + u.files, "env", "GOMEMLIMIT=" + u.memLimit}
}
