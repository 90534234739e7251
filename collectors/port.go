package collectors

import (
	"context"

	"vxlan_exporter/internal/node"
)

// Port stands in for Device when that is switched off: the ports that flags name, or the usual ones, are then all that
// is known, on both families.
type Port struct {
	Metrics // none: there are no metrics of ports alone
	ports   []node.Port
}

// NewPort makes a collector that finds nothing but the given ports.
func NewPort(ports []uint16) *Port {
	c := &Port{}
	for _, p := range orUsual(ports) {
		c.ports = append(c.ports, node.Port{Port: p, IPv4: true, IPv6: true})
	}
	return c
}

// Name is "port".
func (c *Port) Name() string { return "port" }

// Observe fills node.Ports.
func (c *Port) Observe(context.Context, *node.Node) (Fill, error) {
	return func(n *node.Node) { n.Ports = c.ports }, nil
}
