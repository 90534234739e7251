package collectors

import (
	"errors"
	"slices"
	"testing"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/internal/probe"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// TestPathReadsAgain: peers and addresses are read for ten rounds at once, and sooner when a device or the mark has
// changed, or not every path was ok.
func TestPathReadsAgain(t *testing.T) {
	t.Parallel()
	o := lab.LiveFailure()
	o.Rules = lab.RulesFixed
	r := labtest.NewRig(t, o)
	reads, mark := 0, uint32(probe.DefaultMark)
	c := NewPath(PathConfig{
		Mark: func() uint32 { return mark },
		Open: func() (nl.Socket, error) { reads++; return nl.Route() },
	})
	if err := r.A.Do(func() error {
		n := &node.Node{}
		fill, err := NewDevice(DeviceConfig{}).Observe(t.Context(), n)
		if err != nil {
			return err
		}
		fill(n)
		round := func(want int, when string) {
			if _, err := c.Observe(t.Context(), n); err != nil {
				t.Errorf("%s: %v", when, err)
			}
			if c.round(t.Context()); reads != want {
				t.Errorf("%s: read %d times, want %d", when, reads, want)
			}
		}
		for range pathKept {
			round(1, "within ten rounds")
		}
		round(2, "after ten rounds")
		n.Devices = slices.Clone(n.Devices)
		n.Devices[0].MTU--
		round(3, "another device")
		round(3, "the same device")
		mark = 0x8000
		round(4, "another mark")
		mark = probe.DefaultMark
		round(5, "the mark as before")
		err = r.SetRules(lab.RulesOld, true)
		round(5, "the path is spoiled")
		round(6, "after a path that was not ok")
		if s := c.path.Peers[0].State(); s != node.PathNAT {
			t.Errorf("the spoiled path is %s", s)
		}
		return errors.Join(err, r.SetRules(lab.RulesFixed, true))
	}); err != nil {
		t.Fatal(err)
	}
}
