package exporter

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/node"
)

// An observation that begins too late still asks every collector that is free: none is said to hang that does not.
func TestNothingHangsWhereTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		had := &fake{name: "had", observe: func(ctx context.Context, _ *node.Node) (collectors.Fill, error) {
			return func(n *node.Node) { n.Sockets = nil }, ctx.Err()
		}}
		o := newObserver(&logBuffer{}, had)
		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		const looks = 100 // a choice between two that are ready is made at random
		for i := range looks {
			l := &observing{answered: map[string]bool{}}
			l.node.Results = map[string]node.Result{}
			o.observe(ctx, l, o.slots[1], &node.Node{})
			if r := l.node.Results["had"]; !l.answered["had"] || strings.Contains(r.Error, "hanging") {
				t.Fatalf("look %d: %+v", i, r)
			}
		}
		if n := had.calls.Load(); n != looks {
			t.Errorf("called %d times, want %d", n, looks)
		}
	})
}

// How long a call has been hanging is said only of one that is known to be under way since some time.
func TestHangingSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		o := newObserver(&logBuffer{},
			&fake{name: "hung", observe: func(context.Context, *node.Node) (collectors.Fill, error) {
				<-release
				return nil, nil
			}})
		observe(t, o, 2*time.Second)
		time.Sleep(time.Minute)
		got := observe(t, o, 2*time.Second)
		if r := got.Node.Results["hung"]; r.Error != "hung: an earlier call has been hanging for 1m2s" {
			t.Errorf("%+v", r)
		}
		close(release)
		synctest.Wait()

		s := o.slots[1]
		s.turn <- struct{}{} // as between a call's end and the next one's beginning
		got = observe(t, o, 2*time.Second)
		if r := got.Node.Results["hung"]; r.Status != node.Failed ||
			r.Error != "hung: an earlier call has only just come back" {
			t.Errorf("%+v", r)
		}
		<-s.turn
	})
}
