package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/rtnl"
)

// guard is a running guard.
type guard struct {
	Config
	client *ethtool.Client

	changed map[int]string // devices whose feature the guard turned off, with their name then
	told    map[int]string // what was logged last of a device that could not be changed, or would be
	asked   string         // the error that Exposed gave last
	listed  string         // the error that listing gave last

	judged time.Time        // when Exposed was asked last
	again  <-chan time.Time // fires when it may be asked again and was not
}

func newGuard(c Config) *guard {
	if c.Recheck <= 0 {
		c.Recheck = defaultRecheck
	}
	if c.Listen == nil {
		c.Listen = rtnl.ListenLinks
	}
	return &guard{Config: c, client: ethtool.NewClient(c.Ioctl), changed: map[int]string{}, told: map[int]string{}}
}

// pass lists all VXLAN devices and deals with those that are to be guarded. It acts on what the kernel says now, never
// on what an event said, so events may be lost, late, doubled or forged.
func (g *guard) pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	links, listError := g.links(ctx)
	if listError == nil {
		g.forget(links)
	}
	// What could be listed is dealt with in any case.
	var on []state
	for _, l := range links {
		if len(g.Devices) > 0 && !g.matches(l.Name) {
			continue
		}
		switch before, err := g.client.Features(ctx, ethtool.Device{Index: l.Index, Name: l.Name}); {
		case errors.Is(err, fs.ErrNotExist): // gone or renamed meanwhile, and that has an event of its own
		case err != nil:
			g.tell(l, err)
		default:
			if f, ok := before.Get(Feature); ok && f.Active {
				on = append(on, state{l, before, f})
			} else {
				delete(g.told, l.Index)
			}
		}
	}
	if len(g.Devices) == 0 {
		on = g.exposed(ctx, on)
	}
	for _, s := range on {
		g.turnOff(ctx, s)
	}
	return listError
}

// state is a device that has the feature on.
type state struct {
	rtnl.Link
	before  ethtool.Features
	feature ethtool.Feature
}

func (g *guard) links(ctx context.Context) ([]rtnl.Link, error) {
	conn, err := rtnl.Dial(ctx, g.Open)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	return conn.Links()
}

// forget drops what is remembered of devices that are gone.
func (g *guard) forget(links []rtnl.Link) {
	there := map[int]bool{}
	for _, l := range links {
		there[l.Index] = true
	}
	gone := func(index int, _ string) bool { return !there[index] }
	maps.DeleteFunc(g.changed, gone)
	maps.DeleteFunc(g.told, gone)
}

// exposed keeps those that the diagnosis calls exposed.
func (g *guard) exposed(ctx context.Context, on []state) []state {
	if len(on) == 0 {
		return nil
	}
	if wait := judgeGap - time.Since(g.judged); wait > 0 {
		g.again = time.After(wait)
		return nil
	}
	g.again = nil
	names, err := g.Exposed(ctx)
	g.judged = time.Now()
	if err != nil {
		if text := err.Error(); text != g.asked {
			g.asked = text
			g.Logger.Warn("cannot tell which devices are exposed; none is changed", "err", err)
		}
		return nil
	}
	g.asked = ""
	return slices.DeleteFunc(on, func(s state) bool { return !slices.Contains(names, s.Name) })
}

// turnOff turns the feature of one device off and logs what it was and became.
func (g *guard) turnOff(ctx context.Context, s state) {
	if s.feature.Fixed {
		g.tell(s.Link, errors.New("the feature is fixed on this device"))
		return
	}
	if g.DryRun {
		if g.told[s.Index] != s.Name {
			g.told[s.Index] = s.Name
			g.Logger.Info("would turn the feature off", "device", s.Name, "index", s.Index, "feature", Feature, "before", "on")
		}
		return
	}
	after, err := g.set(ctx, s.Link, false)
	switch {
	case errors.Is(err, fs.ErrNotExist): // gone or renamed meanwhile, and that has an event of its own
	case err != nil:
		g.tell(s.Link, err)
	default:
		delete(g.told, s.Index)
		g.changed[s.Index] = s.Name
		g.Logger.Info("feature turned off", "device", s.Name, "index", s.Index, "feature", Feature,
			"before", "on", "after", "off", "followed", followed(s.before, after))
	}
}

// set changes the feature, by the ioctl for all transmit checksums, which kernels of all ages have: a VXLAN device has
// only this one (vxlan_setup, drivers/net/vxlan). Then it reads all features again. The error of a device that is gone
// or renamed satisfies fs.ErrNotExist. A device that is changed and then at once deleted or renamed has nil features
// and no error.
func (g *guard) set(ctx context.Context, l rtnl.Link, on bool) (ethtool.Features, error) {
	device := ethtool.Device{Index: l.Index, Name: l.Name}
	if err := g.client.SetTxChecksum(ctx, device, on); err != nil {
		return nil, err
	}
	after, err := g.client.Features(ctx, device)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("it was set; reading it again: %w", err)
	}
	if f, ok := after.Get(Feature); !ok || f.Active != on {
		return nil, errors.New("the kernel accepted the change and did not make it")
	}
	return after, nil
}

// tell logs why a device is not changed, once for each reason.
func (g *guard) tell(l rtnl.Link, err error) {
	if text := l.Name + ": " + err.Error(); g.told[l.Index] != text {
		g.told[l.Index] = text
		g.Logger.Error("feature cannot be turned off", "device", l.Name, "index", l.Index, "feature", Feature, "err", err)
	}
}

// restore turns the feature on again on the devices that the guard changed and that are still there.
func (g *guard) restore() error {
	ctx, cancel := context.WithTimeout(context.Background(), passTimeout)
	defer cancel()
	links, err := g.links(ctx)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	g.forget(links)
	var errs []error
	for _, l := range links {
		if _, ok := g.changed[l.Index]; !ok {
			continue
		}
		if _, err := g.set(ctx, l, true); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("restore %s: %w", l.Name, err))
			}
			continue
		}
		g.Logger.Info("feature restored", "device", l.Name, "index", l.Index, "feature", Feature, "before", "off",
			"after", "on")
	}
	return errors.Join(errs...)
}

// followed names the other features that changed along: segmentation needs checksums (netdev_fix_features,
// net/core/dev.c).
func followed(before, after ethtool.Features) []string {
	var names []string
	for _, b := range before {
		if a, ok := after.Get(b.Name); ok && a.Active != b.Active && b.Name != Feature {
			names = append(names, b.Name)
		}
	}
	return names
}
