package collectors

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"vxlan_exporter/internal/kernel/capture"
	"vxlan_exporter/internal/kernel/procnet"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

const (
	// wireGather is how long packets are queued before they are read: 10 wake-ups a second.
	wireGather = 100 * time.Millisecond
	// wireQueue bounds the packets queued meanwhile. About 180 of 1500 bytes fit into a queue of the default
	// net.core.rmem_max.
	wireQueue = 100
	// wireIdle is how often an idle watch that samples wakes up, to raise the ratio again.
	wireIdle = time.Second
	// wireRetry is how often a watch tries an interface that is gone.
	wireRetry = time.Second
	// wireFollowGap is the least time between two observations of the devices after link events: a CNI makes many at once.
	wireFollowGap = 250 * time.Millisecond
)

// listen subscribes to link events, so that capture starts when a device appears, and not with the next scrape. The
// first Observe calls it, in the network namespace that is meant.
func (c *Wire) listen() {
	if c.listening || c.cfg.Devices == nil {
		return
	}
	c.listening = true
	w, err := rtnl.Watch(c.ctx, c.cfg.Listen)
	if err != nil {
		c.cfg.Logger.Warn("wire: new devices are found at the next scrape only", "err", err)
		return
	}
	go c.handleEvents(w)
}

// handleEvents observes the devices after every event.
func (c *Wire) handleEvents(w *rtnl.Watcher) {
	defer w.Close()
	for {
		select {
		case <-c.ctx.Done():
			return
		case err := <-w.Failed():
			if c.ctx.Err() == nil {
				c.cfg.Logger.Warn("wire: new devices are found at the next scrape only", "err", err)
			}
			return
		case <-w.Changed():
		}
		if err := c.observeDevices(); err != nil {
			c.cfg.Logger.Debug("wire: observe the devices", "err", err) // the next Observe reports it
		}
		time.Sleep(wireFollowGap)
	}
}

// observeDevices finds the devices as the device collector does, and captures on their underlays.
func (c *Wire) observeDevices() error {
	start := time.Now()
	var n node.Node
	fill, err := c.cfg.Devices.Observe(c.ctx, &n)
	if fill == nil {
		return err
	}
	fill(&n)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil
	}
	c.eventTime = start
	_, followErr := c.followDevices(&n)
	return errors.Join(err, followErr)
}

// followDevices takes over the ports and interfaces of n, and returns the address families in use. c.mu is held.
func (c *Wire) followDevices(n *node.Node) (families map[string]bool, err error) {
	targets, err := wireTargets(n, c.cfg.Interfaces)
	var ports []uint16
	families = map[string]bool{}
	for _, p := range n.Ports {
		ports = append(ports, p.Port)
		for _, f := range p.Families() {
			families[f] = true
		}
	}
	if !n.Time.IsZero() && n.Time.Before(c.eventTime) {
		return families, err // a link event has brought newer devices than this observation
	}
	c.ports.Store(&ports)
	return families, errors.Join(err, c.follow(targets))
}

// wireTargets lists the interfaces to capture on. The error names devices whose underlay is not known.
func wireTargets(known *node.Node, named []string) ([]string, error) {
	if err := devicesUnknown(known); err != nil {
		return named, fmt.Errorf("wire: %w", err)
	}
	if len(known.Devices) == 0 && len(named) == 0 {
		return nil, fmt.Errorf("wire: no VXLAN device whose underlay to capture on: %w", fs.ErrNotExist)
	}
	names := slices.Clone(named)
	var errs []error
	for _, d := range known.Devices {
		switch {
		case d.Underlay != "":
			names = append(names, d.Underlay)
		case d.LinkNetns != nil:
			errs = append(errs, fmt.Errorf("wire: %s: its underlay is in another network namespace: %w",
				DeviceLabel(d.Name), errors.ErrUnsupported))
		case len(named) == 0:
			errs = append(errs, fmt.Errorf("wire: %s: its underlay is not known (neither dev nor local is set): "+
				"name it with --wire.interface: %w", DeviceLabel(d.Name), errors.ErrUnsupported))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), errors.Join(errs...)
}

// follow starts and stops watches, so that they are those of the targets.
func (c *Wire) follow(targets []string) error {
	var errs, gone []error
	for name := range c.watches {
		if !slices.Contains(targets, name) {
			errs = append(errs, c.drop(name))
		}
	}
	for _, name := range targets {
		if w := c.watches[name]; w != nil {
			err := w.failed()
			if err == nil {
				err = w.capture.Update(*c.ports.Load())
			}
			if err == nil || errors.Is(err, capture.ErrDown) {
				continue // down: one interface less, no failure
			}
			errs = append(errs, fmt.Errorf("wire: %w (restarted)", err), c.drop(name))
		}
		err := c.watch(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			gone = append(gone, fmt.Errorf("wire: %w", err))
		case err != nil:
			errs = append(errs, fmt.Errorf("wire: %w", err))
		}
		if errors.Is(err, fs.ErrPermission) {
			break // it is the same for all
		}
	}
	// An interface that is gone is one interface less. It must not turn the failure of another into "none".
	if len(errs) == 0 && len(c.watches) == 0 {
		return errors.Join(gone...)
	}
	return errors.Join(errs...)
}

// wireWatch reads the packets of one interface.
type wireWatch struct {
	*Wire
	name    string
	capture *capture.Capture
	ctx     context.Context // ends with the watch
	cancel  context.CancelFunc
	done    chan struct{}
	err     error // why it ended; to be read once done is closed
}

// watch starts the capture on an interface.
func (c *Wire) watch(name string) error {
	capture, err := capture.NewCapture(capture.Config{
		Interface: name, Ports: *c.ports.Load(), Ratio: c.sampler.current(), Open: c.cfg.Open,
		Gather: min(wireGather, wireQueue*time.Second/time.Duration(c.cfg.MaxPacketsPerSecond)),
	})
	if err != nil {
		return err
	}
	w := &wireWatch{Wire: c, name: name, capture: capture, done: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(c.ctx)
	c.watches[name] = w
	go func() {
		defer close(w.done)
		w.err = w.run()
	}()
	return nil
}

// drop ends the watch of an interface.
func (c *Wire) drop(name string) error {
	w := c.watches[name]
	delete(c.watches, name)
	w.cancel()
	err := w.capture.Close()
	<-w.done
	c.past.Add(w.capture.State().Stats)
	return err
}

// failed returns why the watch ended by itself, or nil.
func (w *wireWatch) failed() error {
	select {
	case <-w.done:
		return w.err
	default:
		return nil
	}
}

// run reads until the watch ends or fails.
func (w *wireWatch) run() error {
	counted := 0
	count := func(p capture.Packet) {
		counted++
		if w.tally.add(w.name, p) {
			w.suspicion.bad(time.Now())
		}
	}
	conf := capture.WindowsConfig{
		Handled:   func() (uint64, error) { return procnet.Processed(w.cfg.Proc) },
		Suspected: w.suspicion.suspected,
	}
	windows := capture.NewWindows(w.capture, conf)
	for {
		deadline := windows.Next()
		if idle := time.Now().Add(wireIdle); w.sampler.current() < w.sampler.top && idle.Before(deadline) {
			deadline = idle
		}
		b, err := w.capture.Read(deadline, count)
		counted = 0 // of those, b.Passed knows
		if err == nil {
			err = windows.Step(count)
		}
		if err == nil {
			err = w.capture.SetRatio(w.sampler.passed(time.Now(), b.Passed+counted, b.Took), count)
		}
		if errors.Is(err, capture.ErrDown) && w.ctx.Err() == nil {
			w.cfg.Logger.Warn("wire: interface is down", "interface", w.name, "err", err)
			if err = w.wait(); err == nil {
				w.cfg.Logger.Info("wire: interface is up again", "interface", w.name)
				windows = capture.NewWindows(w.capture, conf)
			}
		}
		if w.ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// wait waits until the interface is up, or the watch ends.
func (w *wireWatch) wait() error {
	for {
		err := w.capture.Update(*w.ports.Load())
		if !errors.Is(err, capture.ErrDown) {
			return err
		}
		select {
		case <-w.ctx.Done():
			return w.ctx.Err()
		case <-time.After(wireRetry):
		}
	}
}
