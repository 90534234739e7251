package collectors

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// deviceKey is what the judgment of a port's rules depends on; a change makes it stale at once.
type deviceKey struct {
	port     node.Port
	index    int
	local    netip.Addr
	underlay string
}

func deviceKeys(known *node.Node) []deviceKey {
	keys := make([]deviceKey, 0, len(known.Ports)+len(known.Devices))
	for _, p := range known.Ports {
		keys = append(keys, deviceKey{port: p})
	}
	for i := range known.Devices {
		d := &known.Devices[i]
		keys = append(keys, deviceKey{port: node.Port{Port: d.Port}, index: d.Index, local: d.Local, underlay: d.Underlay})
	}
	return keys
}

// inputOf says what is known of the packets of every VXLAN port. What cannot be read stays unknown, and the error says why.
func (c *NATRules) inputOf(ctx context.Context, known *node.Node) (natrules.Input, error) {
	around, err := c.surroundings(ctx, known)
	in := natrules.Input{MasqueradeBit: c.conf.MasqueradeBit}
	for _, p := range known.Ports {
		port := natrules.Port{Port: p.Port, IPv4: p.IPv4, IPv6: p.IPv6}
		untold := false
		for i := range known.Devices {
			if d := &known.Devices[i]; d.Port == p.Port {
				addDevice(&port, d, around)
				untold = untold || len(around.Overlay(d.Index)) == 0
			}
		}
		if untold { // what enters one of the devices, from a bridge for example, no route tells: it can be anything
			port.Overlay = nil
		}
		in.Ports = append(in.Ports, port)
	}
	return in, err
}

// surroundings are those of the devices; nothing is read where there are none. Half of the time is left for the rules.
func (c *NATRules) surroundings(ctx context.Context, known *node.Node) (*natrules.Surroundings, error) {
	if len(known.Devices) == 0 {
		return &natrules.Surroundings{}, nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		half, cancel := context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
		ctx = half
	}
	around, err := natrules.ReadSurroundings(ctx, c.conf.OpenRoute)
	if err != nil {
		return &natrules.Surroundings{}, fmt.Errorf("what rules may ask for is not known: %w", err)
	}
	return around, nil
}

// addDevice adds what is known of the packets of one VXLAN device.
func addDevice(port *natrules.Port, d *node.Device, around *natrules.Surroundings) {
	port.Devices = append(port.Devices, natrules.Interface{Name: d.Name, Index: d.Index, Addrs: around.Addrs(d.Index)})
	port.Overlay = append(port.Overlay, around.Overlay(d.Index)...)
	if !d.IsExternal() { // an external device sends where each packet's metadata says
		port.Remotes = append(port.Remotes, around.Remotes(d.Index)...)
	}
	if d.Local.IsValid() {
		port.Local = appendNew(port.Local, d.Local)
	}
	if d.Underlay == "" {
		return
	}
	underlay := natrules.Interface{Name: d.Underlay, Index: d.UnderlayIndex}
	if underlay.Index == 0 { // the device names no NIC: it is the one that bears its address
		underlay.Index = around.Bearer(d.Local)
	}
	underlay.Addrs = around.Addrs(underlay.Index)
	if !slices.ContainsFunc(port.Underlays, func(u natrules.Interface) bool { return u.Name == underlay.Name }) {
		port.Underlays = append(port.Underlays, underlay)
	}
	for _, six := range []bool{false, true} {
		global := slices.DeleteFunc(slices.Clone(underlay.Addrs), func(a netip.Addr) bool {
			return a.Unmap().Is6() != six || a.IsLinkLocalUnicast()
		})
		if len(global) == 0 {
			continue
		}
		// What a host process connects from, and, where the device names no address, what the tunnel sends from: with one
		// address there is no choice.
		if len(global) == 1 {
			port.Inner = appendNew(port.Inner, global[0])
			if !d.Local.IsValid() {
				port.Local = appendNew(port.Local, global[0])
			}
		} else if d.Local.IsValid() && d.Local.Unmap().Is6() == six {
			port.Inner = appendNew(port.Inner, d.Local)
		}
	}
}

func appendNew(addrs []netip.Addr, a netip.Addr) []netip.Addr {
	if slices.Contains(addrs, a) {
		return addrs
	}
	return append(addrs, a)
}
