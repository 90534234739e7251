// Package guard keeps tx-checksum-ip-generic off on VXLAN devices, which is what stops NAT from spoiling their outer
// checksums. It watches for devices, since a CNI makes them at any time and with the feature on.
package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"time"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
)

// Feature is the offload feature that the guard turns off (net/ethtool/common.c, NETIF_F_HW_CSUM).
const Feature = "tx-checksum-ip-generic"

const (
	// defaultRecheck is how often the devices are looked at without an event: rules that expose a device cause none.
	defaultRecheck = 30 * time.Second
	// judgeGap is the least time between two calls of Config.Exposed, so that a storm of events does not become a storm of
	// looks.
	judgeGap = 250 * time.Millisecond
	// listRetry is the pause after a list that could not be read.
	listRetry = time.Second
	// passTimeout bounds one pass over all devices, and what is undone when the guard stops.
	passTimeout = 10 * time.Second
)

// Config says what a guard watches. It works in the network namespace of the thread that calls Run.
type Config struct {
	Devices []string // globs (path.Match) of device names; empty: what Exposed names
	// Exposed names the devices that the diagnosis calls exposed. It is asked only while a VXLAN device has the feature
	// on.
	Exposed func(ctx context.Context) ([]string, error)
	DryRun  bool // log what would be done, and do nothing
	Restore bool // when Run ends, turn the feature on again where the guard turned it off
	Logger  *slog.Logger

	Ready   func()        // called once, when all devices that were there at the start have been dealt with; may be nil
	Recheck time.Duration // 0: every 30 seconds

	Listen func() (rtnl.Events, error) // opens the source of link events; nil: rtnetlink
	Open   nl.Opener                   // opens the socket that devices are listed by; nil: rtnetlink
	// opens the socket that features are read and set by; nil: ethtool.OpenIoctl
	Ioctl func() (ethtool.IoctlSocket, error)
}

// Validate says what is wrong with the globs.
func (c Config) Validate() error {
	for _, glob := range c.Devices {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("glob %q: %w (see path.Match: * ? [a-z])", glob, err)
		}
	}
	if len(c.Devices) == 0 && c.Exposed == nil {
		return errors.New("guard: no devices to guard are given")
	}
	return nil
}

// Run guards until ctx ends, which is no error. It fails when it cannot watch devices or make the first list; a device
// that cannot be changed is logged, and tried again with every event. Setting features needs CAP_NET_ADMIN.
func Run(ctx context.Context, c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	g := newGuard(c)
	defer func() { _ = g.client.Close() }() // done with: there is nothing to be done about an error
	// Listening begins before the first list is read, so that no device falls between.
	w, err := rtnl.Watch(ctx, g.Listen)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := g.pass(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("list devices: %w", err)
	}
	if g.Ready != nil {
		g.Ready()
	}
	err = g.watch(ctx, w)
	if g.Restore {
		err = errors.Join(err, g.restore())
	}
	return err
}

// watch makes a pass at every event. A list that cannot be read is tried again.
func (g *guard) watch(ctx context.Context, w *rtnl.Watcher) error {
	recheck := time.NewTicker(g.Recheck)
	defer recheck.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Failed():
			if ctx.Err() != nil {
				return nil // the end of ctx ends the reading, too
			}
			return err
		case <-w.Changed():
			if w.Overrun() {
				// Nothing is lost: every pass reads the whole list.
				g.Logger.Warn("link events were lost, all devices are looked at")
			}
		case <-recheck.C:
		case <-g.again:
		}
		err := g.pass(ctx)
		if ctx.Err() != nil {
			return nil
		}
		text := ""
		if err != nil {
			text = err.Error()
			g.again = time.After(listRetry)
		}
		if text != "" && text != g.listed {
			g.Logger.Error("devices cannot be listed", "err", err)
		}
		g.listed = text
	}
}

// matches reports whether one of the globs matches name.
func (c Config) matches(name string) bool {
	return slices.ContainsFunc(c.Devices, func(glob string) bool {
		ok, err := path.Match(glob, name)
		return ok && err == nil
	})
}
