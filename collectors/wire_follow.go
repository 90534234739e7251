package collectors

import (
	"errors"
	"log/slog"
	"time"

	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

// wireFollowGap is the least time between two looks at the devices because of link events: a CNI makes many at once.
const wireFollowGap = 250 * time.Millisecond

// listen begins to follow link events, so that a device is watched from when it appears, and not from the next scrape on. It is called
// by the first Observe, which runs in the network namespace that is meant.
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
	go c.heed(w)
}

// heed looks at the devices at every event.
func (c *Wire) heed(w *rtnl.Watcher) {
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
		if err := c.look(); err != nil {
			// The next Observe meets it again, and reports it.
			c.cfg.Logger.Debug("wire: look at the devices", slog.Any("err", err))
		}
		time.Sleep(wireFollowGap)
	}
}

// look finds the devices as the device collector does, and watches what is below them.
func (c *Wire) look() error {
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
	c.looked = start
	_, followErr := c.heedDevices(&n)
	return errors.Join(err, followErr)
}

// heedDevices takes over the ports and interfaces of n, and returns the address families in use. c.mu is held.
func (c *Wire) heedDevices(n *node.Node) (families map[string]bool, err error) {
	targets, err := wireTargets(n, c.cfg.Interfaces)
	var ports []uint16
	families = map[string]bool{}
	for _, p := range n.Ports {
		ports = append(ports, p.Port)
		for _, f := range p.Families() {
			families[f] = true
		}
	}
	if !n.Time.IsZero() && n.Time.Before(c.looked) {
		return families, err // an event has brought newer devices than this look, which began before
	}
	c.ports.Store(&ports)
	return families, errors.Join(err, c.follow(targets))
}
