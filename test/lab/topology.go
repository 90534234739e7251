package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Addresses of the rig. Every rig is a world of its own, so they repeat from rig to rig, but for those of Options.Pair.
const (
	tunnelA      = "10.244.0.0" // flannel gives its device the network address of the node's pods
	tunnelB      = "10.244.1.0"
	bridgeB      = "10.244.1.1"
	podIP        = "10.244.1.2"
	podsA        = "10.244.0.0/24"
	podsB        = "10.244.1.0/24"
	clusterCIDR  = "10.244.0.0/16"
	clusterCIDR6 = "fd00:10:244::/56"
	macA, macB   = "02:76:78:00:00:0a", "02:76:78:00:00:0b"
)

// nodes are the underlay addresses of node 0 or 1.
func (o Options) nodes(n int) (ipv4, ipv6 string) {
	last := 2*o.Pair + n + 1
	return fmt.Sprintf("192.168.77.%d", last), fmt.Sprintf("fd77::%d", last)
}

// wire lays the underlay between the nodes and the link to the pod.
func (r *Rig) wire() error {
	nodeA4, nodeA6 := r.opts.nodes(0)
	nodeB4, nodeB6 := r.opts.nodes(1)
	// Both ends of the underlay without transmit offloads: a plain veth carries an unfinished checksum across as
	// unfinished, and the receiver believes it.
	return errors.Join(
		batch(r.A,
			"link add "+Underlay+" type veth peer name "+Underlay+" netns "+r.B.Name,
			"addr add "+nodeA4+"/24 dev "+Underlay,
			"addr add "+nodeA6+"/64 dev "+Underlay+" nodad",
			"link set "+Underlay+" addrgenmode none up",
		),
		batch(r.B,
			"addr add "+nodeB4+"/24 dev "+Underlay,
			"addr add "+nodeB6+"/64 dev "+Underlay+" nodad",
			"link set "+Underlay+" addrgenmode none up",
			"link add pod0 type veth peer name eth0 netns "+r.Pod.Name,
			"addr add "+bridgeB+"/24 dev pod0",
			"link set pod0 addrgenmode none up",
		),
		batch(r.Pod,
			"addr add "+podIP+"/24 dev eth0",
			"link set eth0 addrgenmode none up",
			"route add default via "+bridgeB,
		),
		command(r.A, "ethtool", "-K", Underlay, "tx", "off"),
		command(r.B, "ethtool", "-K", Underlay, "tx", "off"),
	)
}

func (r *Rig) addVXLAN() error {
	checksum := map[bool]string{true: "udpcsum", false: "noudpcsum"}
	checksumA, checksumB := checksum[r.opts.UDPChecksum], checksum[true]
	mtu := 1450
	if r.opts.Family == IPv6 {
		mtu = 1430
		checksumA, checksumB = "noudp6zerocsumtx", "noudp6zerocsumrx"
		if !r.opts.UDPChecksum {
			checksumA, checksumB = "udp6zerocsumtx", "udp6zerocsumrx"
		}
	}
	add := func(n *NS, local, remote, mac, checksum, address, peer, peerMAC, pods string) error {
		return errors.Join(
			batch(n,
				fmt.Sprintf("link add %s address %s mtu %d type vxlan id 1 local %s dev %s dstport %d nolearning %s",
					Device, mac, mtu, local, Underlay, r.opts.Port, checksum),
				"addr add "+address+"/32 dev "+Device,
				"link set "+Device+" addrgenmode none up",
				"neigh add "+peer+" lladdr "+peerMAC+" dev "+Device+" nud permanent",
				"route add "+pods+" via "+peer+" dev "+Device+" onlink",
			),
			command(n, "bridge", "fdb", "append", peerMAC, "dev", Device, "dst", remote),
		)
	}
	return errors.Join(
		add(r.A, r.UnderlayA.String(), r.UnderlayB.String(), macA, checksumA, tunnelA, tunnelB, macB, podsB),
		add(r.B, r.UnderlayB.String(), r.UnderlayA.String(), macB, checksumB, tunnelB, tunnelA, macA, podsA),
	)
}

func (r *Rig) removeVXLAN() error {
	return errors.Join(batch(r.A, "link del "+Device), batch(r.B, "link del "+Device))
}

func (r *Rig) sysctls() error {
	rehash := map[bool]string{true: "1", false: "0"}[r.opts.TxRehash]
	return errors.Join(
		r.A.sysctl("net/ipv4/conf/all/route_localnet", "1"),
		r.A.sysctl("net/ipv4/conf/all/rp_filter", "0"),
		r.A.sysctl("net/ipv4/ip_forward", "1"),
		// Without these two, kernels that have them leave the failing path after the first SYN timeout.
		optional(r.A.sysctl("net/core/txrehash", rehash)),
		optional(r.A.sysctl("net/ipv4/tcp_syn_linear_timeouts", "0")),
		r.B.sysctl("net/ipv4/conf/all/rp_filter", "0"),
		r.B.sysctl("net/ipv4/ip_forward", "1"),
	)
}

func (r *Rig) applyOffload() error {
	return command(r.A, "ethtool", "-K", Device, "tx-checksum-ip-generic",
		map[bool]string{true: "on", false: "off"}[r.opts.TxChecksum])
}

// applyUDPTimeout runs after the rules: where conntrack is a module, they load it.
func (r *Rig) applyUDPTimeout() error {
	if r.opts.UDPTimeout == 0 {
		return nil
	}
	return r.A.sysctl("net/netfilter/nf_conntrack_udp_timeout", fmt.Sprint(r.opts.UDPTimeout))
}

// sysctl writes a setting of the namespace. /proc/sys/net shows the namespace of the thread that opens it
// (net/sysctl_net.c).
func (n *NS) sysctl(name, value string) error {
	return n.Do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) })
}

// optional forgives a setting that this kernel does not have.
func optional(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func batch(n *NS, commands ...string) error { return n.IP(commands...) }

func command(n *NS, args ...string) error {
	_, err := n.Configure("", args...)
	return err
}
