package collectors

import (
	"slices"

	"vxlan_exporter/internal/node"
)

// DefaultPort is the kernel's own VXLAN port (drivers/net/vxlan/vxlan_core.c, vxlan_port), which flannel keeps. IANA's
// is 4789.
const DefaultPort = 8472

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
	slices.SortFunc(list, func(a, b node.Port) int { return int(a.Port) - int(b.Port) })
	return list
}
