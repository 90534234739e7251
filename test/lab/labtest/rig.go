package labtest

import (
	"testing"

	"vxlan_exporter/test/lab"
)

// NewRig builds a two-node rig for t.
func NewRig(t testing.TB, o lab.Options) *lab.Rig {
	t.Helper()
	NeedNamespaces(t)
	r, err := lab.New(o)
	if err != nil {
		t.Fatalf("network namespaces: %v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}
