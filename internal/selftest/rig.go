package selftest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/capture"
	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/node"
)

// Ports of the outer packets. The source port tells which packets are NATed, and into what.
const (
	vxlanPort   = 4789  // RFC 7348
	plainSource = 50000 // these are left alone
	natSource   = 50100 // these are NATed
	natPort     = 40001
)

// Names of the devices; they exist in the throwaway namespace alone.
const (
	nearDevice = "vxst-near"
	farDevice  = "vxst-far"
)

// The datagram inside: to the discard port, with a text that ends in the number of its device.
const (
	innerPort = 9
	innerText = "vxlan_exporter selftest %d"
)

// attempts and patience bound the wait for a packet, which takes microseconds: all of it happens in the call that
// sends.
const (
	attempts = 3
	patience = 200 * time.Millisecond
)

// rig is two ends of a wire in one namespace. VXLAN devices send out of the near end; what arrives at the far end is
// captured there and dropped.
type rig struct {
	proc      string
	release   string
	legacy    bool // NAT through ip_tables alone
	deadline  time.Time
	route     *nl.Conn
	socket    capture.Socket // sees every frame in the namespace, going out and coming in
	room      []capture.Message
	near, far int // indexes
	devices   uint8
	underlays map[string]error // by family: what came of preparing it
}

func newRig(ctx context.Context, proc string) (*rig, error) {
	text, err := os.ReadFile(filepath.Join(proc, "sys/kernel/osrelease"))
	if err != nil {
		return nil, err
	}
	r := &rig{proc: proc, release: strings.TrimSpace(string(text)), underlays: map[string]error{}}
	r.deadline, _ = ctx.Deadline()
	if err = r.checkConntrack(); err != nil {
		return nil, err
	}
	if err = r.build(ctx); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// build makes the wire, with checksums that the stack finishes before a frame leaves.
func (r *rig) build(ctx context.Context) (err error) {
	if r.route, err = nl.Dial(ctx, nl.Route); err != nil {
		return fmt.Errorf("rtnetlink: %w", err)
	}
	if r.socket, err = capture.Open(); err != nil {
		return err
	}
	const allInterfaces, maxFrame = 0, 2048 // more than the test's packets have
	r.room = capture.NewMessages(maxFrame)
	if err := r.socket.Bind(allInterfaces); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	if r.near, r.far, err = r.newVeth(nearDevice, farDevice); err != nil {
		return fmt.Errorf("no veth devices: %w", err)
	}
	// Tried before NAT is, so that a node without VXLAN gets no connection tracking loaded.
	if _, err := r.newVXLAN(0, node.IPv4, false, plainSource); err != nil {
		return err
	}
	features := ethtool.NewClient(nil)
	defer func() { _ = features.Close() }()
	for index, device := range map[int]string{r.near: nearDevice, r.far: farDevice} {
		if err := features.SetTxChecksum(ctx, ethtool.Device{Name: device}, false); err != nil {
			return fmt.Errorf("%s: %w", device, err)
		}
		if err := r.setUp(index); err != nil {
			return fmt.Errorf("veth up: %w", err)
		}
	}
	return nil
}

// checkConntrack protects nodes with old kernels: up to 4.9, loading connection tracking switches it on in every
// namespace at once, the node's own included. From 4.10 on it is switched on only where a rule asks for it
// (net/netfilter/nf_conntrack_proto.c, nf_ct_netns_get). The file is there, in every namespace, when the module is
// loaded.
func (r *rig) checkConntrack() error {
	_, err := os.Stat(filepath.Join(r.proc, "sys/net/netfilter/nf_conntrack_max"))
	if errors.Is(err, fs.ErrNotExist) && kernelversion.Before(r.release, 4, 10) {
		return errors.New("connection tracking is not loaded, and loading it would switch it on for the whole node on " +
			"this kernel")
	}
	return nil
}

func (r *rig) close() {
	if r.socket != nil {
		_ = r.socket.Close()
	}
	if r.route != nil {
		_ = r.route.Close()
	}
}

// measure sends one packet that is not NATed and one that is, and judges what came out.
func (r *rig) measure(ctx context.Context, variant, family string) (node.SelfTestResult, error) {
	if err := r.underlay(family); err != nil {
		return node.SelfTestResult{}, err
	}
	control, err := r.send(ctx, variant, family, plainSource)
	if err != nil {
		return node.SelfTestResult{}, fmt.Errorf("without NAT: %w", err)
	}
	nat, err := r.send(ctx, variant, family, natSource)
	if err != nil {
		return node.SelfTestResult{}, fmt.Errorf("with NAT: %w", err)
	}
	return judge(variant, family, control, nat), nil
}

// underlay prepares a family once: address, neighbor, NAT rule.
func (r *rig) underlay(family string) error {
	if _, done := r.underlays[family]; !done {
		r.underlays[family] = r.newUnderlay(family)
	}
	return r.underlays[family]
}

func (r *rig) newUnderlay(family string) error {
	local, remote := endpoints(family)
	if family == node.IPv6 {
		if err := enableIPv6(r.proc, nearDevice); err != nil {
			// Only its text: a /proc that may not be written is no lack of privilege.
			return errors.New("no IPv6: " + err.Error())
		}
	}
	if err := r.newAddr(r.near, local); err != nil {
		return fmt.Errorf("no %s: address: %w", family, err)
	}
	if err := r.newNeighbor(r.near, remote); err != nil {
		return fmt.Errorf("no %s: neighbor: %w", family, err)
	}
	return r.addNAT(afOf(remote), family)
}

// addNAT makes the rule by nf_tables, or, where that does not work, by ip_tables.
func (r *rig) addNAT(af uint8, family string) error {
	err := errors.ErrUnsupported
	if !r.legacy {
		err = addNAT(r.deadline, af, natSource, vxlanPort, natPort)
	}
	if err == nil || errors.Is(err, fs.ErrPermission) {
		return err
	}
	if legacyErr := r.addLegacyNAT(af, natSource, vxlanPort, natPort); legacyErr != nil {
		return fmt.Errorf("no NAT for %s, neither by nf_tables (modules nf_tables, nft_chain_nat, nft_nat): %w, nor by "+
			"ip_tables: %w", family, err, legacyErr)
	}
	return nil
}

// endpoints are addresses for documentation (RFC 5737, RFC 3849): nobody has them.
func endpoints(family string) (local netip.Prefix, remote netip.Addr) {
	if family == node.IPv6 {
		return netip.MustParsePrefix("2001:db8::1/64"), netip.MustParseAddr("2001:db8::2")
	}
	return netip.MustParsePrefix("192.0.2.1/24"), netip.MustParseAddr("192.0.2.2")
}

// send makes a VXLAN device whose packets leave from sourcePort, sends a datagram through it from an ordinary socket,
// and returns what was seen of it.
func (r *rig) send(ctx context.Context, variant, family string, sourcePort uint16) (observation, error) {
	r.devices++
	index, err := r.newVXLAN(r.devices, family, variant == node.OffloadedChecksum, sourcePort)
	if err != nil {
		return observation{}, err
	}
	// Inner addresses: 198.18.0.0/15 is for benchmarks (RFC 2544); each device has a subnet of its own.
	inner := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, r.devices, 1}), 30)
	if err := errors.Join(r.newAddr(index, inner), r.setUp(index), r.newNeighbor(index, inner.Addr().Next())); err != nil {
		return observation{}, fmt.Errorf("VXLAN device: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return observation{}, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet4{Port: innerPort, Addr: inner.Addr().Next().As4()}
	text := fmt.Appendf(nil, innerText, r.devices)
	for range attempts {
		if err := unix.Sendto(fd, text, unix.MSG_DONTWAIT, to); err != nil {
			return observation{}, fmt.Errorf("send: %w", err)
		}
		o, seen, err := r.watch(ctx, index, text)
		if err != nil || seen {
			return o, err
		}
	}
	return observation{}, errors.New("no packet came out")
}

// watch captures until the datagram with that text has been seen on its device and at the far end, or patience runs
// out.
func (r *rig) watch(ctx context.Context, index int, text []byte) (o observation, seen bool, err error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err := ctx.Err(); err != nil {
			return o, false, err
		}
		n, err := r.socket.Receive(r.room)
		switch {
		// a device went down: said once
		case n == 0 && err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENETDOWN):
			time.Sleep(time.Millisecond)
			continue
		case err != nil:
			return o, false, fmt.Errorf("packet socket: %w", err)
		}
		for i := range r.room[:n] {
			p := r.room[i].Packet()
			switch {
			case !bytes.HasSuffix(p.Frame, text): // IPv6 announces itself on every new device
			case p.Meta.Index == index && p.Meta.Outgoing:
				o.partial = p.Meta.NotReady
			case p.Meta.Index == r.far && !p.Meta.Outgoing:
				o.notReady, o.outer = p.Meta.NotReady, capture.Judge(p.Frame, capture.Meta{})
				if o.outer.Correct != 0 && o.outer.Destination.Port() == vxlanPort {
					return o, true, nil
				}
			}
		}
	}
	return o, false, nil
}
