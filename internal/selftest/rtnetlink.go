package selftest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/node"
)

// do sends an rtnetlink request of several parts and waits for the kernel's acknowledgement.
func (r *rig) do(kind netlink.HeaderType, flags netlink.HeaderFlags, parts ...[]byte) error {
	return plain(r.route.Do(kind, flags, slices.Concat(parts...)))
}

// plain drops the library's wrapping: the errno says it all, and stays recognisable as a standard error.
func plain(err error) error {
	if op := new(netlink.OpError); errors.As(err, &op) {
		return op.Err
	}
	return err
}

// ifinfomsg, ifaddrmsg and ndmsg are the fixed parts of the messages (include/uapi/linux/rtnetlink.h, if_addr.h,
// neighbour.h).
func ifinfomsg(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

func ifaddrmsg(family, bits, flags uint8, index int) []byte {
	return binary.NativeEndian.AppendUint32([]byte{family, bits, flags, 0}, uint32(index))
}

func ndmsg(family uint8, index int) []byte {
	b := binary.NativeEndian.AppendUint32([]byte{family, 0, 0, 0}, uint32(index))
	return append(binary.NativeEndian.AppendUint16(b, unix.NUD_PERMANENT), 0, 0)
}

// newLink makes a link of a kind with the attributes in data, and returns its index.
func (r *rig) newLink(name, kind string, data ...[]byte) (int, error) {
	if err := r.do(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, ifinfomsg(0, 0, 0), attr(unix.IFLA_IFNAME, name+"\x00"),
		nested(unix.IFLA_LINKINFO, attr(unix.IFLA_INFO_KIND, kind+"\x00"),
			nested(unix.IFLA_INFO_DATA, data...))); err != nil {
		return 0, err
	}
	return linkIndex(name)
}

func linkIndex(name string) (int, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	return link.Index, nil
}

// newVeth makes a pair of veth devices and returns their indexes.
func (r *rig) newVeth(name, peer string) (near, far int, err error) {
	const vethInfoPeer = 1 // VETH_INFO_PEER (include/uapi/linux/veth.h)
	near, err = r.newLink(name, "veth", nested(vethInfoPeer, ifinfomsg(0, 0, 0), attr(unix.IFLA_IFNAME, peer+"\x00")))
	if err == nil {
		far, err = linkIndex(peer)
	}
	return near, far, err
}

// newVXLAN makes the VXLAN device of a number. All its packets go to the far end, from one source port: the kernel
// hashes over the range [sourcePort, sourcePort+1), see udp_flow_src_port in include/net/udp.h.
func (r *rig) newVXLAN(number uint8, family string, checksum bool, sourcePort uint16) (int, error) {
	local, remote := uint16(unix.IFLA_VXLAN_LOCAL), uint16(unix.IFLA_VXLAN_GROUP)
	if family == node.IPv6 {
		local, remote = unix.IFLA_VXLAN_LOCAL6, unix.IFLA_VXLAN_GROUP6
	}
	from, to := endpoints(family)
	index, err := r.newLink(fmt.Sprintf("vxst-%d", number), "vxlan",
		attr(unix.IFLA_VXLAN_ID, binary.NativeEndian.AppendUint32(nil, uint32(number))),
		attr(local, from.Addr().AsSlice()),
		attr(remote, to.AsSlice()),
		flag(unix.IFLA_VXLAN_LEARNING, false),
		attr(unix.IFLA_VXLAN_PORT, be16(vxlanPort)),
		attr(unix.IFLA_VXLAN_PORT_RANGE, append(be16(sourcePort), be16(sourcePort+1)...)),
		flag(unix.IFLA_VXLAN_UDP_CSUM, checksum),
		flag(unix.IFLA_VXLAN_UDP_ZERO_CSUM6_TX, !checksum),
	)
	if err != nil {
		return 0, fmt.Errorf("no VXLAN: %w", err)
	}
	return index, nil
}

func (r *rig) setUp(index int) error {
	return r.do(unix.RTM_NEWLINK, 0, ifinfomsg(index, unix.IFF_UP, unix.IFF_UP))
}

// newAddr gives a link an address that may be used at once: IPv6 would otherwise look for duplicates for a second.
func (r *rig) newAddr(index int, p netip.Prefix) error {
	return r.do(unix.RTM_NEWADDR, netlink.Create|netlink.Excl, ifaddrmsg(afOf(p.Addr()), uint8(p.Bits()),
		unix.IFA_F_NODAD, index),
		attr(unix.IFA_LOCAL, p.Addr().AsSlice()), attr(unix.IFA_ADDRESS, p.Addr().AsSlice()))
}

// newNeighbor makes a permanent neighbor, so that nobody has to answer for it. Its MAC address is one that no device
// here has: the far end sees such a frame and drops it before it reaches IP, so that no firewall, connection tracking
// or martian log has a part in it.
func (r *rig) newNeighbor(index int, a netip.Addr) error {
	return r.do(unix.RTM_NEWNEIGH, netlink.Create|netlink.Replace, ndmsg(afOf(a), index),
		attr(unix.NDA_DST, a.AsSlice()), attr(unix.NDA_LLADDR, []byte{0x02, 0, 0, 0, 0, 0x01}))
}

// enableIPv6 undoes what a node with IPv6 switched off hands down to new namespaces. It writes to a device that exists
// in this thread's namespace only: /proc/sys/net is the namespace of the thread that looks (net/sysctl_net.c,
// net_ctl_header_lookup).
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

func flag(kind uint16, b bool) []byte {
	if b {
		return attr(kind, []byte{1})
	}
	return attr(kind, []byte{0})
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
