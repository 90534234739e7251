//go:build e2e

package page_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
)

// scenario is what happens in one cluster.
type scenario struct {
	name    string
	options lab.Options
	flags   []string // of both exporters

	// before runs after the nodes have booted and before their exporters start.
	before func(context.Context, *site) error

	// A scenario either fails or stays silent.
	failure *failure
	silence func(*testing.T, *site) (did string)
	tickets []string // alerts that a silent scenario may, and in the end does, tell without paging
}

// failure is a NodePort request that goes wrong, and what the page must say of it.
type failure struct {
	patience time.Duration // how long the client waits; its SYNs leave at 0, 1, 3, 7, 15, 31 and 63 s
	variant  string        // that the page names
	early    bool          // the probe on the sender may page before a receiver's counters are scraped
}

func live(change func(*lab.Options)) lab.Options {
	o := lab.LiveFailure()
	change(&o)
	return o
}

// quietTime is how long silent scenarios go on with what must not page.
const quietTime = 150 * time.Second

func scenarios() []*scenario {
	return []*scenario{
		// These must page.
		{
			name:    "b-ipv4", // the incident itself: a client that waits until it is served
			options: live(func(*lab.Options) {}),
			failure: &failure{patience: 2 * time.Minute, variant: "offloaded_checksum"},
		},
		{
			name:    "b-ipv6", // the least there can be: one packet
			options: live(func(o *lab.Options) { o.Family = lab.IPv6 }),
			failure: &failure{patience: 900 * time.Millisecond, variant: "offloaded_checksum"},
		},
		{
			name:    "a-ipv4", // this kernel is fixed for A, so every judgment here is "clear", and may not silence the page
			options: live(func(o *lab.Options) { o.UDPChecksum, o.ImitateA = false, true }),
			failure: &failure{patience: 5 * time.Second, variant: "unknown"},
		},
		{
			name:    "a-wire", // the same with the probe, which knows better
			options: live(func(o *lab.Options) { o.UDPChecksum, o.ImitateA = false, true }),
			flags:   []string{"--collector.wire"},
			failure: &failure{patience: 5 * time.Second, variant: "zero_checksum", early: true},
		},
		{
			name:    "firewalld", // InCsumErrors stays 0
			options: live(func(o *lab.Options) { o.Receiver = lab.ReceiverFirewalld }),
			failure: &failure{patience: 5 * time.Second, variant: "offloaded_checksum"},
		},

		// These must not.
		{
			name:    "garbage", // bad checksums, and nothing of VXLAN in them; the nodes are exposed, to make it harder
			options: live(func(*lab.Options) {}),
			silence: sendGarbage,
			tickets: []string{"VxlanChecksumErrors"},
		},
		{
			name:    "heavy", // exposed nodes again, but nothing is NATed
			options: live(func(*lab.Options) {}),
			silence: sendHeavily,
		},
		{
			name:    "other-nat",
			options: live(func(o *lab.Options) { o.Rules = lab.RulesDocker }),
			before: func(_ context.Context, c *site) error {
				return c.A.IP("addr add " + containerAddress + "/32 dev lo")
			},
			silence: natOthers,
		},
		{
			name:    "exporter-restart", // with NATed flows and old errors, so that a reset could be taken for news
			options: live(func(o *lab.Options) { o.TxChecksum = false }),
			before:  oldErrors,
			silence: restartExporters,
			tickets: []string{"VxlanOuterNat"},
		},
		{
			name:    "reboot",
			options: live(func(o *lab.Options) { o.TxChecksum = false }),
			before:  oldErrors,
			silence: reboot,
			tickets: []string{"VxlanOuterNat"},
		},
		{
			name:    "notrack",
			options: live(func(o *lab.Options) { o.Notrack = true }),
			silence: withoutTracking,
		},
		{
			name:    "fixed-rules",
			options: live(func(o *lab.Options) { o.Rules = lab.RulesFixed }),
			silence: withFixedRules,
		},
		{
			name:    "remedied", // it failed, before anyone watched
			options: live(func(*lab.Options) {}),
			before:  failAndRemedy,
			silence: remedied,
			tickets: []string{"VxlanOuterNat"},
		},
	}
}

// oldErrors makes the receiver count bad checksums before its first boot is watched, and not before the next.
func oldErrors(ctx context.Context, c *site) error {
	if c.old != 0 {
		return nil
	}
	if err := garbage(c.A, c.UnderlayB, 40); err != nil {
		return err
	}
	time.Sleep(time.Second) // all has arrived
	counters, err := c.B.ReadCounters(ctx)
	c.old = counters.UDPInCsumErrors
	return err
}

func failAndRemedy(ctx context.Context, c *site) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := c.Request(ctx); !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
		return errors.Join(errors.New("the request did not stall"), err)
	}
	return c.SetTxChecksum(false)
}
