package collectors

import (
	"context"
	"path/filepath"
	"strconv"

	"vxlan_exporter/internal/kernel/procnet"
	"vxlan_exporter/internal/node"
)

// Socket reads the drops of the kernel's VXLAN sockets. It needs no privilege.
type Socket struct {
	Metrics
	proc string
}

// NewSocket makes a collector that reads below proc (usually /proc).
func NewSocket(proc string) *Socket {
	return &Socket{proc: proc, Metrics: NewMetrics("socket", Metric{
		Name: "socket_drops_total", Labels: []string{"family", "port"},
		Help: "Packets that the kernel's VXLAN socket dropped: drops of /proc/net/udp and udp6. It restarts at 0 when the " +
			"device goes down and up, and stays 0 where connection tracking drops bad checksums first.",
		Samples: socketDrops,
	})}
}

// Observe fills node.Sockets for the known ports.
func (c *Socket) Observe(_ context.Context, known *node.Node) (Fill, error) {
	var ports []uint16
	for _, p := range known.Ports {
		ports = append(ports, p.Port)
	}
	sockets, err := udpSockets(c.proc, ports)
	return func(n *node.Node) { n.Sockets = sockets }, err
}

// udpSockets are those on some ports, of both families where there are both.
func udpSockets(proc string, ports []uint16) ([]procnet.Socket, error) {
	four, err4 := procnet.Sockets(filepath.Join(proc, "net/udp"), node.IPv4, ports)
	six, err6 := procnet.Sockets(filepath.Join(proc, "net/udp6"), node.IPv6, ports)
	return append(four, six...), failure(err4, ifThere(err6))
}

// socketDrops has one series for every family and port that has a socket.
func socketDrops(n *node.Node, emit Emit) {
	// Devices bound to addresses of their own (IFLA_VXLAN_LOCALBIND) have a socket each on one port.
	sum := map[[2]string]uint64{}
	for _, s := range n.Sockets {
		sum[[2]string{s.Family, strconv.Itoa(int(s.Port))}] += s.Drops
	}
	for labels, drops := range sum {
		emit(float64(drops), labels[:]...)
	}
}
