package labtest

import (
	"testing"

	"vxlan_exporter/test/lab"
)

// NewRig builds a two-node rig for t.
func NewRig(t testing.TB, o lab.Options) *lab.Rig {
	t.Helper()
	r, err := lab.New(o)
	if err != nil {
		t.Fatalf("this test needs root and network namespaces: %v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}
