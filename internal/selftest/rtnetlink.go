package selftest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// rtnetlink makes links, addresses and neighbors.
type rtnetlink struct{ conn *netlink.Conn }

func dialRoute(deadline time.Time) (*rtnetlink, error) {
	conn, err := dial(unix.NETLINK_ROUTE, deadline)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	return &rtnetlink{conn}, nil
}

// dial opens a netlink socket in this thread's namespace that waits for no answer beyond the deadline.
func dial(family int, deadline time.Time) (*netlink.Conn, error) {
	conn, err := netlink.Dial(family, nil)
	if err != nil {
		return nil, plain(err)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// do sends a request and waits for the kernel's acknowledgement.
func (r *rtnetlink) do(kind netlink.HeaderType, flags netlink.HeaderFlags, body []byte) error {
	_, err := r.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   body,
	})
	return plain(err)
}

// plain drops the library's wrapping: the errno says it all, and stays recognisable as a standard error.
func plain(err error) error {
	if op := new(netlink.OpError); errors.As(err, &op) {
		return op.Err
	}
	return err
}

// ifinfomsg, ifaddrmsg and ndmsg are the fixed parts of the messages (include/uapi/linux/rtnetlink.h, if_addr.h, neighbour.h).
func ifinfomsg(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

func ifaddrmsg(family, bits, flags uint8, index int) []byte {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1], b[2] = family, bits, flags
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	return b
}

func ndmsg(family uint8, index int) []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = family
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint16(b[8:], unix.NUD_PERMANENT)
	return b
}

// message appends the attributes that f encodes to a fixed part.
func message(fixed []byte, f func(*netlink.AttributeEncoder)) ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	f(ae)
	b, err := ae.Encode()
	return append(fixed, b...), err
}

// newLink makes a link of a kind with the attributes that data encodes, and returns its index.
func (r *rtnetlink) newLink(name, kind string, data func(*netlink.AttributeEncoder) error) (int, error) {
	body, err := message(ifinfomsg(0, 0, 0), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.IFLA_IFNAME, name)
		ae.Nested(unix.IFLA_LINKINFO, func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.IFLA_INFO_KIND, kind)
			ae.Nested(unix.IFLA_INFO_DATA, data)
			return nil
		})
	})
	if err != nil {
		return 0, err
	}
	if err := r.do(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, body); err != nil {
		return 0, err
	}
	link, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	return link.Index, nil
}

// vethInfoPeer is VETH_INFO_PEER (include/uapi/linux/veth.h).
const vethInfoPeer = 1

// newVeth makes a pair of veth devices and returns their indexes.
func (r *rtnetlink) newVeth(name, peer string) (int, int, error) {
	index, err := r.newLink(name, "veth", func(ae *netlink.AttributeEncoder) error {
		body, err := message(ifinfomsg(0, 0, 0), func(ae *netlink.AttributeEncoder) { ae.String(unix.IFLA_IFNAME, peer) })
		ae.Bytes(unix.NLA_F_NESTED|vethInfoPeer, body)
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	link, err := net.InterfaceByName(peer)
	if err != nil {
		return 0, 0, err
	}
	return index, link.Index, nil
}

// vxlan describes a VXLAN device. All its packets go to remote, from one source port: the kernel hashes over the range
// [sourcePort, sourcePort+1), see udp_flow_src_port in include/net/udp.h.
type vxlan struct {
	name          string
	vni           uint32
	local, remote netip.Addr
	checksum      bool
	sourcePort    uint16
}

func (r *rtnetlink) newVXLAN(v vxlan) (int, error) {
	return r.newLink(v.name, "vxlan", func(ae *netlink.AttributeEncoder) error {
		local, remote := uint16(unix.IFLA_VXLAN_LOCAL), uint16(unix.IFLA_VXLAN_GROUP)
		if v.local.Is6() {
			local, remote = unix.IFLA_VXLAN_LOCAL6, unix.IFLA_VXLAN_GROUP6
		}
		ae.Uint32(unix.IFLA_VXLAN_ID, v.vni)
		ae.Bytes(local, v.local.AsSlice())
		ae.Bytes(remote, v.remote.AsSlice())
		ae.Uint8(unix.IFLA_VXLAN_LEARNING, 0)
		ae.Bytes(unix.IFLA_VXLAN_PORT, be16(vxlanPort))
		ae.Bytes(unix.IFLA_VXLAN_PORT_RANGE, append(be16(v.sourcePort), be16(v.sourcePort+1)...))
		ae.Uint8(unix.IFLA_VXLAN_UDP_CSUM, flag(v.checksum))
		ae.Uint8(unix.IFLA_VXLAN_UDP_ZERO_CSUM6_TX, flag(!v.checksum))
		return nil
	})
}

func (r *rtnetlink) setUp(index int) error {
	return r.do(unix.RTM_NEWLINK, 0, ifinfomsg(index, unix.IFF_UP, unix.IFF_UP))
}

// newAddr gives a link an address that may be used at once: IPv6 would otherwise look for duplicates for a second.
func (r *rtnetlink) newAddr(index int, p netip.Prefix) error {
	body, err := message(ifaddrmsg(afOf(p.Addr()), uint8(p.Bits()), unix.IFA_F_NODAD, index), func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.IFA_LOCAL, p.Addr().AsSlice())
		ae.Bytes(unix.IFA_ADDRESS, p.Addr().AsSlice())
	})
	if err != nil {
		return err
	}
	return r.do(unix.RTM_NEWADDR, netlink.Create|netlink.Excl, body)
}

// newNeighbor makes a permanent neighbor, so that nobody has to answer for it.
func (r *rtnetlink) newNeighbor(index int, a netip.Addr) error {
	body, err := message(ndmsg(afOf(a), index), func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.NDA_DST, a.AsSlice())
		ae.Bytes(unix.NDA_LLADDR, nobody())
	})
	if err != nil {
		return err
	}
	return r.do(unix.RTM_NEWNEIGH, netlink.Create|netlink.Replace, body)
}

// nobody is a MAC address that no device here has: the far end sees such a frame and drops it before it reaches IP, so that no
// firewall, connection tracking or martian log has a part in it.
func nobody() net.HardwareAddr { return net.HardwareAddr{0x02, 0, 0, 0, 0, 0x01} }

// enableIPv6 undoes what a node with IPv6 switched off hands down to new namespaces. It writes to a device that exists in this
// thread's namespace only: /proc/sys/net is the namespace of the thread that looks (net/sysctl_net.c, net_ctl_header_lookup).
func enableIPv6(proc, device string) error {
	path := proc + "/sys/net/ipv6/conf/" + device + "/disable_ipv6"
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(b) > 0 && b[0] == '0' {
		return nil
	}
	return os.WriteFile(path, []byte("0"), 0o644)
}

func afOf(a netip.Addr) uint8 {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
