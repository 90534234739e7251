package collectors_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"time"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// pathNode is the collector path of one node of a rig, running.
type pathNode struct {
	*collectors.Path
	t  *testing.T
	ns *lab.NS
}

func probePath(t *testing.T, ns *lab.NS, cfg collectors.PathConfig) *pathNode {
	t.Helper()
	p := &pathNode{collectors.NewPath(cfg), t, ns}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ns.Do(func() error { p.Run(ctx); return nil }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

// after observes until a round that began after the given time has been made.
func (p *pathNode) after(begun time.Time) (*node.Node, error) {
	p.t.Helper()
	n := &node.Node{}
	p.ns.Do(func() error {
		fill, err := collectors.NewDevice(collectors.DeviceConfig{}).Observe(p.t.Context(), n)
		if err != nil {
			p.t.Error(err)
		} else {
			fill(n)
		}
		return nil
	})
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		fill, err := p.Observe(p.t.Context(), n)
		if fill != nil {
			fill(n)
		}
		if err != nil || (n.Path != nil && n.Path.Time.After(begun)) {
			return n, err
		}
	}
	p.t.Fatal("no round was made")
	return nil, nil
}

func TestPath(t *testing.T) {
	t.Parallel()
	r := labtest.NewRig(t, lab.LiveFailure())
	p := probePath(t, r.A, collectors.PathConfig{Interval: 100 * time.Millisecond})
	n, err := p.after(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	first := n.Path.Totals[0]
	if n.Path.Peers[0].State() != node.PathNAT || first.Marked.Answered != 0 || first.Marked.Sent < 6 ||
		first.Plain.Answered == 0 {
		t.Errorf("%+v", n.Path)
	}
	if err := r.SetRules(lab.RulesFixed, true); err != nil {
		t.Fatal(err)
	}
	if n, err = p.after(time.Now()); err != nil {
		t.Fatal(err)
	}
	if now := n.Path.Totals[0]; n.Path.Peers[0].State() != node.PathOK || now.Marked.Answered == 0 ||
		now.Marked.Sent <= first.Marked.Sent || !now.Time.After(first.Time) {
		t.Errorf("%+v, before %+v", n.Path, first)
	}
}

func TestPathWithoutDevice(t *testing.T) {
	t.Parallel()
	p := probePath(t, labtest.New(t, "nothing").NS, collectors.PathConfig{})
	if n, err := p.after(time.Time{}); !errors.Is(err, fs.ErrNotExist) || n.Path != nil {
		t.Errorf("%v, %+v", err, n.Path)
	}
}
