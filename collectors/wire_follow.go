package collectors

import (
	"errors"
	"log/slog"
	"time"

	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

// wireFollowGap is the least time between two observations of the devices after link events: a CNI makes many at once.
const wireFollowGap = 250 * time.Millisecond

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
			// The next Observe reports it.
			c.cfg.Logger.Debug("wire: observe the devices", slog.Any("err", err))
		}
		time.Sleep(wireFollowGap)
	}
}

// observeDevices finds the devices as the device collector does, and captures on their underlays.
func (c *Wire) observeDevices() error {
	start := c.cfg.Now()
	var n node.Node
	fill, err := c.cfg.Devices.Observe(c.ctx, &n)
	if fill == nil {
		return err
	}
	fill(&n)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
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
