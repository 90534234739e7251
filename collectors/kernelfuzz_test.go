package collectors

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vxlan_exporter/test/fuzz/bound"
)

// FuzzBootID: a boot id is a UUID that stands in the file, or an error.
func FuzzBootID(f *testing.F) {
	for _, s := range []string{testBootID + "\n", testBootID, testBootID[:20], "", strings.Repeat("a", 100), "\x00" +
		testBootID} {
		f.Add([]byte(s))
	}
	proc := f.TempDir()
	path := filepath.Join(proc, "sys/kernel/random/boot_id")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.Fatal(err)
	}
	form := regexp.MustCompile(`^[0-9a-f-]{36}$`)
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		var id string
		var err error
		bound.Read(t, len(content), 1, 0, func() { id, err = readBootID(proc) })
		if (err == nil) != form.MatchString(id) || !strings.Contains(string(content), id) {
			t.Errorf("%q, %v of %q", id, err, content)
		}
	})
}
