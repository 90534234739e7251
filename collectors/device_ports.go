package collectors

import (
	"context"
	"slices"
	"sort"

	"vxlan_exporter/internal/node"
)

// DefaultPort is the kernel's own VXLAN port (drivers/net/vxlan/vxlan_core.c, vxlan_port), which flannel keeps;
// IANAPort is the one of RFC 7348, which Docker Swarm and Calico use.
const (
	DefaultPort = 8472
	IANAPort    = 4789
)

// ports are those to look for: the devices' own and the configured ones. Where none is configured, they are the two
// usual ones: the second where no device is in sight that sends from here, or where the kernel has a VXLAN socket on it
// and no device here uses it. A device that was moved to another network namespace, as Docker Swarm moves its own,
// leaves nothing else to see.
func (c *Device) ports(devices []node.Device) []node.Port {
	here := func(d node.Device) bool { return d.LinkNetns == nil }
	if c.cfg.Ports != nil || !slices.ContainsFunc(devices, here) {
		return vxlanPorts(devices, orUsual(c.cfg.Ports))
	}
	ports := vxlanPorts(devices, []uint16{DefaultPort})
	if c.cfg.Proc == "" || slices.ContainsFunc(ports, func(p node.Port) bool { return p.Port == IANAPort }) {
		return ports
	}
	sockets, _ := udpSockets(c.cfg.Proc, []uint16{IANAPort}) // what cannot be read is for the socket collector to tell
	if len(sockets) > 0 {
		p := node.Port{Port: IANAPort}
		for _, s := range sockets {
			p.IPv4, p.IPv6 = p.IPv4 || s.Family == node.IPv4, p.IPv6 || s.Family == node.IPv6
		}
		ports = append(ports, p)
		sortPorts(ports)
	}
	return ports
}

// orUsual are the ports where no device is known.
func orUsual(configured []uint16) []uint16 {
	if configured == nil {
		return []uint16{DefaultPort, IANAPort}
	}
	return configured
}

func sortPorts(p []node.Port) { sort.Slice(p, func(i, j int) bool { return p[i].Port < p[j].Port }) }

// vxlanPorts lists every port that a device uses or that is configured, sorted. The families of a port are those of the
// devices on it; of one that no device uses, those of all devices; of all, where there are no devices.
func vxlanPorts(devices []node.Device, configured []uint16) []node.Port {
	var all node.Port
	ports := make(map[uint16]node.Port)
	for _, d := range devices {
		ipv4, ipv6 := d.Link.Underlay()
		all.IPv4, all.IPv6 = all.IPv4 || ipv4, all.IPv6 || ipv6
		if d.Port == 0 {
			continue
		}
		p := ports[d.Port]
		ports[d.Port] = node.Port{Port: d.Port, IPv4: p.IPv4 || ipv4, IPv6: p.IPv6 || ipv6, Device: true}
	}
	if len(devices) == 0 {
		all.IPv4, all.IPv6 = true, true
	}
	for _, port := range configured {
		if _, ok := ports[port]; !ok && port != 0 {
			ports[port] = node.Port{Port: port, IPv4: all.IPv4, IPv6: all.IPv6}
		}
	}
	list := make([]node.Port, 0, len(ports))
	for _, p := range ports {
		list = append(list, p)
	}
	sortPorts(list)
	return list
}

// Port stands in for Device when that is switched off: the ports that flags name, or the usual ones, are then all that
// is known, on both families.
type Port struct {
	Metrics // none: there are no metrics of ports alone
	ports   []node.Port
}

// NewPort makes a collector that finds nothing but the given ports.
func NewPort(ports []uint16) *Port {
	return &Port{Metrics: NewMetrics("port"), ports: vxlanPorts(nil, orUsual(ports))}
}

// Observe fills node.Ports.
func (c *Port) Observe(context.Context, *node.Node) (Fill, error) {
	return func(n *node.Node) { n.Ports = c.ports }, nil
}
