package collectors

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
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

// inputOf says what is known of the packets of every VXLAN port. What cannot be read stays unknown, and the error says
// why. The ways of packets can be asked for until around is closed.
func (c *NATRules) inputOf(
	ctx context.Context, known *node.Node,
) (in natrules.Input, around *natrules.Surroundings, err error) {
	around, err = c.surroundings(ctx, known)
	in = natrules.Input{MasqueradeBit: c.conf.MasqueradeBit}
	for _, p := range known.Ports {
		for _, tunnels := range tunnelsOn(p.Port, known.Devices) {
			if len(tunnels) == 0 && known.Devices != nil {
				in.Ports = append(in.Ports, around.PortElsewhere(p.Port, p.IPv4, p.IPv6))
				continue
			}
			ipv4, ipv6, local := p.IPv4, p.IPv6, netip.Addr{}
			if len(tunnels) > 0 && tunnels[0].Local.IsValid() {
				local = tunnels[0].Local.Unmap()
				ipv4, ipv6 = local.Is4(), local.Is6()
			}
			port := around.PortOf(p.Port, ipv4, ipv6, tunnels)
			port.Local = local
			in.Ports = append(in.Ports, port)
		}
	}
	return in, around, err
}

// tunnelsOn are the devices on a port, those that send from one address together: by it their packets are told apart.
// One that was moved here sends from another namespace. Without any there is one group, of none.
func tunnelsOn(port uint16, devices []node.Device) [][]natrules.Tunnel {
	var groups [][]natrules.Tunnel
	index := map[netip.Addr]int{}
	for i := range devices {
		d := &devices[i]
		if d.Port != port || d.LinkNetns != nil {
			continue
		}
		at, ok := index[d.Local]
		if !ok {
			at = len(groups)
			index[d.Local], groups = at, append(groups, nil)
		}
		groups[at] = append(groups[at], natrules.Tunnel{
			Name: d.Name, Index: d.Index, Local: d.Local, Link: d.UnderlayIndex, Underlay: d.Underlay, External: d.IsExternal(),
		})
	}
	if groups == nil {
		return [][]natrules.Tunnel{nil}
	}
	return groups
}

// surroundings are those of the devices; nothing is read where it is not known which there are. Half of the time is
// left for the rules.
func (c *NATRules) surroundings(ctx context.Context, known *node.Node) (*natrules.Surroundings, error) {
	if known.Devices == nil {
		return &natrules.Surroundings{}, nil
	}
	half := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		half, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	around, err := natrules.ReadSurroundings(half, c.conf.OpenRoute)
	if err == nil {
		around.ReadSysctls(cmp.Or(c.conf.Proc, "/proc"))
		err = around.Ask(ctx, c.conf.OpenRoute)
	}
	if err != nil {
		return &natrules.Surroundings{}, fmt.Errorf("what rules may ask for is not known: %w", err)
	}
	return around, nil
}
