package natrules

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

const (
	testMark  = 0x4000
	vxlanPort = 8472
	outerPort = 40000 // the only source port the tunnel uses: what arrives with another was rewritten
)

// oracle is two namespaces and a tunnel from a to b. It sends a marked packet into the tunnel, from a itself or from a pod behind it, and
// sees at b where the outer packet came from.
type oracle struct {
	t            testing.TB
	a, b         *labtest.NS
	device       Interface
	ipv6         bool
	local        netip.Addr
	listen       int
	marking      string    // nftables' rules that mark what the pod sends
	node, pod    *endpoint // pod: nil unless addPod was called
	legacy       bool      // legacy tables were written to
	overlay      netip.Prefix
	port         Port
	conntrack    *nl.Conn
	listens      netip.AddrPort
	innerPort    atomic.Uint32
	innerAddress netip.Addr
}

func newOracle(t testing.TB, ipv6 bool) *oracle {
	t.Helper()
	o := &oracle{t: t, a: labtest.New(t, "nat-a"), b: labtest.New(t, "nat-b"), ipv6: ipv6}
	o.local = netip.MustParseAddr("192.168.77.1")
	remote, bits := netip.MustParseAddr("192.168.77.2"), 24
	o.overlay, o.innerAddress = netip.MustParsePrefix("10.244.1.0/24"), netip.MustParseAddr("10.244.1.2")
	own := "10.244.0.0/32"
	if ipv6 {
		o.local, remote, bits = netip.MustParseAddr("fd77::1"), netip.MustParseAddr("fd77::2"), 64
		o.overlay, o.innerAddress = netip.MustParsePrefix("fd44:1::/64"), netip.MustParseAddr("fd44:1::2")
		own = "fd44::/128"
	}
	o.a.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", o.b.Name)
	for ns, addr := range map[*labtest.NS]netip.Addr{o.a: o.local, o.b: remote} {
		ns.Run("ip", "addr", "add", fmt.Sprintf("%s/%d", addr, bits), "dev", "eth0", "nodad")
		ns.Run("ip", "link", "set", "eth0", "up")
	}
	o.a.Run("ip", "link", "add", "flannel.1", "address", "02:00:00:00:00:01", "type", "vxlan", "id", "1", "dstport", fmt.Sprint(vxlanPort),
		"local", o.local.String(), "dev", "eth0", "remote", remote.String(), "nolearning", "srcport", fmt.Sprint(outerPort), fmt.Sprint(outerPort+1))
	o.a.Run("sysctl", "-qw", "net.ipv6.conf.flannel/1.router_solicitations=0")
	o.a.Run("ip", "addr", "add", own, "dev", "flannel.1", "nodad")
	o.a.Run("ip", "link", "set", "flannel.1", "up")
	o.a.Run("ip", "route", "add", o.overlay.String(), "dev", "flannel.1")
	o.a.Run("ip", "neigh", "add", o.innerAddress.String(), "lladdr", "02:00:00:00:00:02", "dev", "flannel.1", "nud", "permanent")
	o.device = Interface{Name: "flannel.1", Addrs: []netip.Addr{netip.MustParsePrefix(own).Addr()}}
	o.port = Port{
		Port: vxlanPort, IPv4: !ipv6, IPv6: ipv6, Devices: []Interface{o.device},
		SourcePorts: []PortRange{{outerPort, outerPort}}, Own: append([]netip.Addr{o.local}, o.device.Addrs...),
		Senders: func(six bool, _ uint32) []Sender {
			if six != ipv6 {
				return nil
			}
			return []Sender{{Sources: []netip.Prefix{netip.PrefixFrom(o.local, o.local.BitLen())}, Out: o.device, Destinations: []netip.Prefix{o.overlay}}}
		},
		Ways: func(bool, uint32) []Way {
			return []Way{{Out: Interface{Name: "eth0", Addrs: []netip.Addr{o.local}}, Source: o.local, Peers: []netip.Addr{remote}, Masquerade: o.local}}
		},
	}
	o.b.Do(func() (err error) {
		o.listens = netip.AddrPortFrom(remote, vxlanPort)
		o.listen, err = udpSocket(ipv6, remote, vxlanPort, 100*time.Millisecond)
		return err
	})
	o.a.Do(func() (err error) {
		if o.node, err = newEndpoint(ipv6, o.local); err != nil {
			return err
		}
		o.node.mark = func(mark int) error { return unix.SetsockoptInt(o.node.fd, unix.SOL_SOCKET, unix.SO_MARK, mark) }
		o.conntrack, err = nl.Dial(context.WithoutCancel(t.Context()), nl.Netfilter)
		return err
	})
	t.Cleanup(func() {
		_ = unix.Close(o.listen)
		_ = unix.Close(o.node.fd)
		_ = o.conntrack.Close()
	})
	for range 20 { // until the link is up
		if _, dropped := o.probe(o.node, testMark, false); !dropped {
			return o
		}
	}
	t.Fatal("nothing comes through the tunnel")
	return nil
}

// endpoint is where inner packets are sent from.
type endpoint struct {
	fd   int
	addr netip.AddrPort
	mark func(mark int) error // of the packets that it sends from now on
}

func newEndpoint(ipv6 bool, address netip.Addr) (*endpoint, error) {
	const port = 9998
	fd, err := udpSocket(ipv6, address, port, 2*time.Second)
	return &endpoint{fd: fd, addr: netip.AddrPortFrom(address, port)}, err
}

// addPod adds a pod behind cni0. A mark does not leave the pod's namespace, so what it sends with a type of service gets one as it comes
// in, before any hook.
func (o *oracle) addPod() {
	o.t.Helper()
	pod := labtest.New(o.t, "nat-pod")
	prefix, family, level, option := netip.MustParsePrefix("10.244.0.1/24"), "ip", unix.IPPROTO_IP, unix.IP_TOS
	if o.ipv6 {
		prefix, family, level, option = netip.MustParsePrefix("fd44::1/64"), "ip6", unix.IPPROTO_IPV6, unix.IPV6_TCLASS
	}
	o.marking = fmt.Sprintf("table netdev oracle { chain in { type filter hook ingress device cni0 priority 0; %s dscp 4 meta mark set %#x; }; }", family, testMark)
	gateway, address := prefix.Addr(), prefix.Addr().Next()
	o.a.RunInput(fmt.Sprintf(`sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip link add cni0 type veth peer name eth0 netns %s
ip addr add %s dev cni0 nodad
ip link set cni0 up
`, pod.Name, prefix), "sh", "-e")
	pod.RunInput(fmt.Sprintf("addr add %s/%d dev eth0 nodad\nlink set eth0 up\nroute add default via %s\n", address, prefix.Bits(), gateway), "ip", "-batch", "-")
	pod.Do(func() (err error) {
		o.pod, err = newEndpoint(o.ipv6, address)
		return err
	})
	o.t.Cleanup(func() { _ = unix.Close(o.pod.fd) })
	o.pod.mark = func(mark int) error { return unix.SetsockoptInt(o.pod.fd, level, option, min(mark, 0x10)) }
	o.port.Own = append(o.port.Own, gateway)
	node := o.port.Senders
	o.port.Senders = func(six bool, mark uint32) []Sender {
		senders := node(six, mark)
		if six == o.ipv6 {
			in := Interface{Name: "cni0", Addrs: []netip.Addr{gateway}}
			senders = append(senders, Sender{In: []Interface{in}, Sources: []netip.Prefix{netip.PrefixFrom(address, address.BitLen())}, Out: o.device, Destinations: []netip.Prefix{o.overlay}})
		}
		return senders
	}
}

func udpSocket(ipv6 bool, addr netip.Addr, port int, patience time.Duration) (int, error) {
	family := unix.AF_INET
	if ipv6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	wait := unix.NsecToTimeval(patience.Nanoseconds())
	return fd, errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.Bind(fd, sockaddr(addr, port)))
}

func sockaddr(addr netip.Addr, port int) unix.Sockaddr {
	if addr.Is6() {
		return &unix.SockaddrInet6{Addr: addr.As16(), Port: port}
	}
	return &unix.SockaddrInet4{Addr: addr.As4(), Port: port}
}

// Requests of connection tracking (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const (
	newEntry    = unix.NFNL_SUBSYS_CTNETLINK << 8
	deleteEntry = newEntry | 2
	entryStatus = 3 // CTA_STATUS
)

// entry asks connection tracking for something about the flow that begins with a packet. That there is none is no error.
func (o *oracle) entry(request mdnetlink.HeaderType, from, to netip.AddrPort, attributes ...byte) {
	o.t.Helper()
	family, ip := byte(unix.AF_INET), uint16(1) // CTA_IP_V4_SRC
	if o.ipv6 {
		family, ip = unix.AF_INET6, 3
	}
	addresses := nl.Append(nl.Append(nil, ip, from.Addr().AsSlice()), ip+1, to.Addr().AsSlice())
	ports := nl.Append(nl.Append(nl.Append(nil, 1, []byte{protoUDP}), 2, binary.BigEndian.AppendUint16(nil, from.Port())),
		3, binary.BigEndian.AppendUint16(nil, to.Port()))
	tuple := nl.Append(nl.Append(nil, 1, addresses), 2, ports)
	err := o.conntrack.Do(request, 0, append(nl.Append([]byte{family, 0, 0, 0}, 1, tuple), attributes...))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		o.t.Fatalf("connection tracking: %v", err)
	}
}

// probe sends one inner packet, with or without the mark, and returns what NAT did to the outer packet: the first of its flow, or a later
// one, after an answer, whose outer flow has been forgotten. dropped: nothing arrived.
func (o *oracle) probe(from *endpoint, mark int, later bool) (change Change, dropped bool) {
	o.t.Helper()
	to := netip.AddrPortFrom(o.innerAddress, 9999)
	if later {
		const confirmedAssuredSeenReply = 0xe // nobody answers here
		o.entry(newEntry, from.addr, to, nl.Append(nil, entryStatus, []byte{0, 0, 0, confirmedAssuredSeenReply})...)
	}
	for range 10 {
		for { // what is left of earlier probes
			if _, _, err := unix.Recvfrom(o.listen, make([]byte, 2048), unix.MSG_DONTWAIT); err != nil {
				break
			}
		}
		o.entry(deleteEntry, netip.AddrPortFrom(o.local, outerPort), o.listens)
		if !later {
			o.entry(deleteEntry, from.addr, to)
		}
		if err := from.mark(mark); err != nil {
			o.t.Fatal(err)
		}
		cookie := fmt.Sprintf("probe-%d", o.innerPort.Add(1))
		if err := unix.Sendto(from.fd, []byte(cookie), 0, sockaddr(o.innerAddress, 9999)); errors.Is(err, unix.EPERM) {
			return NoChange, true
		} else if err != nil {
			o.t.Fatalf("send: %v", err)
		}
		b := make([]byte, 2048)
		n, from, err := unix.Recvfrom(o.listen, b, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case err != nil:
			o.t.Fatal(err)
		case strings.HasSuffix(string(b[:n]), cookie):
			return o.changeOf(from), false
		}
		// Something else of the namespace's own (neighbour discovery) went first, and has the flow entry now: again.
	}
	return NoChange, true
}

func (o *oracle) changeOf(from unix.Sockaddr) Change {
	var addr netip.Addr
	var port int
	switch s := from.(type) {
	case *unix.SockaddrInet4:
		addr, port = netip.AddrFrom4(s.Addr), s.Port
	case *unix.SockaddrInet6:
		addr, port = netip.AddrFrom16(s.Addr), s.Port
	}
	switch {
	case addr != o.local:
		return AddrChange
	case port != outerPort:
		return PortChange
	default:
		return NoChange
	}
}

// read reads and judges the rules of a.
func (o *oracle) read() (State, error) {
	var s State
	var err error
	o.a.Do(func() error {
		r := NewReader(Config{ProcNet: lab.ThreadProc() + "/net"})
		s, err = r.Read(context.Background(), Input{Ports: []Port{o.port}, test: o.sends()})
		return nil
	})
	return s, err
}

// sends is the packet that probe sends.
func (o *oracle) sends() *testInput {
	return &testInput{socketMark: true, inner: func(p *packet) {
		if p.ipv6 != o.ipv6 {
			return
		}
		p.fields[dimProto], p.fields[dimDst] = knownField(numbers(protoUDP)), knownField(addrRanges([]netip.Addr{o.innerAddress}))
		p.fields[dimDport], p.fields[dimService] = knownField(numbers(9999)), p.fields[dimDst]
		p.fields[dimServicePort], p.fields[dimUID], p.fields[dimGID] = p.fields[dimDport], knownField(numbers(0)), knownField(numbers(0))
	}}
}

// reset removes every rule.
func (o *oracle) reset() {
	o.t.Helper()
	o.a.Configure("flush ruleset\n"+o.marking, "nft", "-f", "-")
	if o.legacy {
		o.restore(Legacy, map[string]string{"raw": "", "mangle": "", "nat": "", "filter": ""})
		o.legacy = false
	}
}

func TestMain(m *testing.M) {
	labtest.Enter()
	labtest.Parallel("10") // each test of an oracle has namespaces of its own, and mostly waits
	m.Run()
}
