// Package monitor watches lab nodes as a site's monitoring does: from a namespace of its own, over management links,
// with a real Prometheus and Alertmanager and a webhook that is paged.
package monitor

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"vxlan_exporter/test/lab"
)

// The management network, of RFC 2544's range: in no other use in the lab.
const (
	prefixLength = 16
	ownAddress   = "198.18.0.1"
	managementIF = "mgmt0" // on the nodes
)

// Network is a namespace with a link to every node that was attached. Nothing that a node does with its overlay or
// underlay passes it.
type Network struct {
	NS *lab.NS

	mu    sync.Mutex
	last  netip.Addr            // given to a node
	links int                   // made so far
	ports map[netip.Addr]string // of the bridge, by the node's address
}

// NewNetwork makes the namespace and its bridge.
func NewNetwork() (*Network, error) {
	ns, err := lab.NewNS("monitor")
	if err != nil {
		return nil, err
	}
	n := &Network{NS: ns, last: netip.MustParseAddr(ownAddress), ports: map[netip.Addr]string{}}
	if err := ns.IP(
		"link add br0 type bridge",
		fmt.Sprintf("addr add %s/%d dev br0", ownAddress, prefixLength),
		"link set br0 addrgenmode none up",
	); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Close deletes the namespace, and with it the nodes' management links.
func (n *Network) Close() error { return n.NS.Close() }

// Attach gives a node a management link and returns the node's address on it.
func (n *Network) Attach(node *lab.NS) (netip.Addr, error) {
	n.mu.Lock()
	n.last = n.last.Next()
	address := n.last
	n.mu.Unlock()
	return address, n.AttachAs(node, address)
}

// AttachAs is Attach with the address of a node that is gone, for the one that takes its place.
func (n *Network) AttachAs(node *lab.NS, address netip.Addr) error {
	n.mu.Lock()
	n.links++
	port, old := fmt.Sprintf("node%d", n.links), n.ports[address]
	n.ports[address] = port
	n.mu.Unlock()
	if err := n.remove(old); err != nil {
		return err
	}
	ip := address.As4()
	// The hardware address belongs to the address, so a neighbor entry outlives the node as it does a reboot.
	err := n.NS.IP(
		fmt.Sprintf("link add %s type veth peer name %s address 02:76:%02x:%02x:%02x:%02x netns %s", port, managementIF,
			ip[0], ip[1], ip[2], ip[3], node.Name),
		fmt.Sprintf("link set %s master br0 addrgenmode none up", port),
	)
	if err != nil {
		return err
	}
	return node.IP(
		fmt.Sprintf("addr add %s/%d dev %s", address, prefixLength, managementIF),
		fmt.Sprintf("link set %s addrgenmode none up", managementIF),
	)
}

// remove takes a link away. A deleted namespace lives on for a moment, and answers as long as its link is there.
func (n *Network) remove(port string) error {
	if port == "" {
		return nil
	}
	err := n.NS.IP("link del " + port)
	if links, listErr := n.NS.Run("ip", "-br", "link"); listErr == nil && !strings.Contains(links, port+"@") {
		return nil // or it was gone already
	}
	return err
}
