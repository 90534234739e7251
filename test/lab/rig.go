package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
)

// Device is the VXLAN device of both nodes, Underlay the NIC below it.
const (
	Device   = "flannel.1"
	Underlay = "eth0"
)

// Ports of the pod's server and of the NodePort that leads to it, TCP and UDP.
const (
	NodePort uint16 = 30080
	PodPort  uint16 = 8080
)

// Rig is two nodes on one underlay link, joined by VXLAN, with a pod behind the second. What node A's own processes
// send to A's NodePort goes to the pod through the tunnel.
type Rig struct {
	A, B, Pod *NS // sending node, receiving node, pod on the receiving node

	UnderlayA, UnderlayB netip.Addr // outer addresses, of the underlay's family
	NodeA                netip.Addr // A's own IPv4 address, where its NodePort listens
	PodIP                netip.Addr

	opts   Options
	tables map[string]bool // iptables tables written so far: they are emptied when no longer wanted
	pod    *podServer

	queries atomic.Uint32 // made so far
}

// New builds a rig. It needs root, ip, bridge, ethtool and iptables (nft for the nftables forms).
func New(o Options) (*Rig, error) {
	r := newRig(o.withDefaults())
	if err := r.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("build the rig: %w", err), r.Close())
	}
	return r, nil
}

func (r *Rig) build() (err error) {
	for _, n := range []struct {
		ns   **NS
		role string
	}{{&r.A, "a"}, {&r.B, "b"}, {&r.Pod, "pod"}} {
		if *n.ns, err = NewNS(n.role); err != nil {
			return err
		}
	}
	for _, step := range []func() error{
		r.wire, r.addVXLAN, r.sysctls, r.applyOffload, r.applySenderRules, r.applyReceiverRules, r.applyUDPTimeout,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	r.pod, err = servePod(r.Pod)
	return err
}

func newRig(o Options) *Rig {
	nodeA4, nodeA6 := o.nodes(0)
	nodeB4, nodeB6 := o.nodes(1)
	r := &Rig{
		opts: o, tables: map[string]bool{},
		NodeA: netip.MustParseAddr(nodeA4), PodIP: netip.MustParseAddr(podIP),
		UnderlayA: netip.MustParseAddr(nodeA4), UnderlayB: netip.MustParseAddr(nodeB4),
	}
	if o.Family == IPv6 {
		r.UnderlayA, r.UnderlayB = netip.MustParseAddr(nodeA6), netip.MustParseAddr(nodeB6)
	}
	return r
}

// Close stops the pod's server and deletes the namespaces.
func (r *Rig) Close() error {
	var errs []error
	if r.pod != nil {
		errs = append(errs, r.pod.close())
	}
	for _, n := range []*NS{r.Pod, r.B, r.A} {
		if n != nil {
			errs = append(errs, n.Close())
		}
	}
	return errors.Join(errs...)
}

// Options returns the present state of every switch.
func (r *Rig) Options() Options { return r.opts }

// NodePort is the address that Request connects to.
func (r *Rig) NodePort() netip.AddrPort { return netip.AddrPortFrom(r.NodeA, NodePort) }

// SetRules replaces the sender's NAT rules. Flows that exist keep the NAT they have: see FlushOuterFlows.
func (r *Rig) SetRules(rules Rules, randomFully bool) error {
	return r.set(func(o *Options) { o.Rules, o.RandomFully = rules, randomFully }, r.applySenderRules)
}

// SetMarkReset clears the masquerade mark of outer packets in the given table's OUTPUT, or nowhere.
func (r *Rig) SetMarkReset(where MarkReset) error {
	return r.set(func(o *Options) { o.MarkReset = where }, r.applySenderRules)
}

// SetNotrack switches NOTRACK for the VXLAN port on the sender.
func (r *Rig) SetNotrack(on bool) error {
	return r.set(func(o *Options) { o.Notrack = on }, r.applySenderRules)
}

// SetTxChecksum switches tx-checksum-ip-generic of the sender's VXLAN device.
func (r *Rig) SetTxChecksum(on bool) error {
	steps := []func() error{r.applyOffload}
	if r.opts.ImitateA {
		steps = append(steps, r.applySenderRules)
	}
	return r.set(func(o *Options) { o.TxChecksum = on }, steps...)
}

// SetUDPChecksum switches the outer UDP checksum of the sender's VXLAN device, which the kernel allows only by making
// the device anew.
func (r *Rig) SetUDPChecksum(on bool) error {
	return r.set(func(o *Options) { o.UDPChecksum = on }, r.removeVXLAN, r.addVXLAN, r.applyOffload)
}

// SetReceiver changes what connection tracking does on the receiver.
func (r *Rig) SetReceiver(to Receiver) error {
	return r.set(func(o *Options) { o.Receiver = to }, r.applyReceiverRules)
}

func (r *Rig) set(change func(*Options), steps ...func() error) error {
	change(&r.opts)
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// FlushOuterFlows forgets the sender's tracked VXLAN flows (conntrack -D), so that a stalled connection meets the
// present rules.
func (r *Rig) FlushOuterFlows() error {
	flows, err := r.OuterFlows()
	if err != nil || len(flows) == 0 { // conntrack -D fails when there is nothing to delete
		return err
	}
	_, err = r.A.Configure("", "conntrack", "-D", "-f", string(r.opts.Family), "-p", "udp", "--orig-port-dst",
		fmt.Sprint(r.opts.Port))
	if left, listErr := r.OuterFlows(); listErr == nil && len(left) == 0 {
		return nil // they ended meanwhile
	}
	return err
}
