package natrules

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"vxlan_exporter/internal/kernel/nl"
)

// struct xt_comment_info: text only.
func xtComment(i *info) {
	s := nl.Text(i.b)
	if s == "" || strings.ContainsAny(s, " \"'\\\t\n") {
		s = strconv.Quote(s)
	}
	i.text += " --comment " + s
}

// struct xt_udp {u16 spts[2], dpts[2]; u8 invflags} and xt_tcp, which has flags between
// (include/uapi/linux/netfilter/xt_tcpudp.h).
func xtPorts(i *info) {
	proto, invflags := uint64(protoUDP), 8
	if i.name == "tcp" {
		proto, invflags = protoTCP, 11
	}
	i.questions = append(i.questions, in(dimProto, numbers(proto)))
	inverted := i.u8(invflags)
	for k, option := range []string{"--sport ", "--dport "} {
		if low, high := i.u16(4*k), i.u16(4*k+2); low != 0 || high != 65535 {
			i.add(inverted&(1<<k) != 0, option+portText(low, high), in(dimSport+dim(k), portsBetween(low, high)))
		}
	}
	if i.name == "tcp" && i.u8(9) != 0 {
		i.add(false, "(TCP flags)", unsure)
	}
}

func portText(low, high uint16) string {
	if low == high {
		return strconv.Itoa(int(low))
	}
	return fmt.Sprintf("%d:%d", low, high)
}

// struct xt_multiport_v1 {u8 flags, count; u16 ports[15]; u8 pflags[15], invert}; revision 0 ends with the ports.
func xtMultiport(i *info) {
	const slots = 15
	flags, count := min(i.u8(0), 2), min(int(i.u8(1)), slots)
	wide := i.revision > 0
	var ports ranges
	var words []string
	for k := 0; k < count; k++ {
		low, high := i.u16(2+2*k), i.u16(2+2*k)
		if wide && i.u8(32+k) != 0 && k+1 < count {
			k++
			high = i.u16(2 + 2*k)
		}
		ports = ports.or(portsBetween(low, high))
		words = append(words, portText(low, high))
	}
	option := [...]string{"--sports ", "--dports ", "--ports "}[flags]
	i.add(wide && i.u8(47) != 0, option+strings.Join(words, ","), func(m *machine) truth {
		t := no
		if flags != 1 {
			t = m.is(dimSport, ports)
		}
		if flags != 0 {
			t = t.or(m.is(dimDport, ports))
		}
		return t
	})
}

// struct xt_mark_mtinfo1 {u32 mark, mask; u8 invert}.
func xtMark(i *info) {
	mark, mask := i.u32(0), i.u32(4)
	i.asks = asked(mark, mask)
	i.add(i.u8(8) != 0, "--mark "+markText(mark, mask), func(m *machine) truth {
		return m.state.mark.masked(mark, mask)
	})
}

// asked are the bits of the mark that a comparison of mark & mask with value is about: the one bit of the mask, or
// those of the value.
func asked(value, mask uint32) uint32 {
	if mask&(mask-1) == 0 {
		return mask
	}
	return value & mask
}

func markText(mark, mask uint32) string {
	if mask == ^uint32(0) {
		return fmt.Sprintf("0x%x", mark)
	}
	return fmt.Sprintf("0x%x/0x%x", mark, mask)
}

// addrTypes are those that 1 << RTN_* stand for (include/uapi/linux/rtnetlink.h).
func addrTypes() []string {
	return []string{
		"UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE",
		"PROHIBIT", "THROW", "NAT", "XRESOLVE",
	}
}

const (
	typeUnicast = 1 << 1
	typeLocal   = 1 << 2
)

// typeSet are the types whose bits, 1 << RTN_*, are set, as the fib expression loads them.
func typeSet(bits uint16) (types ranges) {
	for t := range uint32(16) {
		if bits&(1<<t) != 0 {
			types = types.or(ranges{one(inHostOrder(t))})
		}
	}
	return types
}

// srcTypes are those that the source can have: an own address is local; one that is not, or not on the interface asked
// about, counts as unicast (inet_dev_addr_type).
func srcTypes(m *machine, onOut bool) ranges {
	switch m.srcLocal(onOut) {
	case yes:
		return typeSet(typeLocal)
	case no:
		return typeSet(typeUnicast)
	default:
		return typeSet(typeLocal | typeUnicast)
	}
}

// dstTypes: a packet that leaves is not addressed to this node. Before nat, an inner one may be.
func dstTypes(m *machine) ranges {
	switch {
	case m.seen(dimDst) != dimDst:
		return typeSet(^uint16(0))
	case m.packet.dstUnicast == yes:
		return typeSet(typeUnicast)
	default:
		return typeSet(^uint16(typeLocal))
	}
}

// struct xt_addrtype_info {u16 source, dest; u32 invert_source, invert_dest} and _v1 {u16 source, dest; u32 flags}.
func xtAddrtype(i *info) {
	const flagNotSrc, flagNotDst, flagLimitIn, flagLimitOut = 1, 2, 4, 8 // XT_ADDRTYPE_*
	src, dst, flags := i.u16(0), i.u16(2), i.u32(4)
	if i.revision == 0 {
		flags = min(flags, 1) | min(i.u32(8), 1)<<1
	}
	limitOut := flags&flagLimitOut != 0
	if src != 0 {
		i.add(flags&flagNotSrc != 0, "--src-type "+stateNames(uint32(src), addrTypes()...),
			func(m *machine) truth { return srcTypes(m, limitOut).within(typeSet(src)) })
	}
	if dst != 0 {
		i.add(flags&flagNotDst != 0, "--dst-type "+stateNames(uint32(dst), addrTypes()...),
			func(m *machine) truth { return dstTypes(m).within(typeSet(dst)) })
	}
	if flags&flagLimitIn != 0 {
		i.add(false, "--limit-iface-in", unsure)
	}
	if limitOut {
		i.text += " --limit-iface-out"
	}
}

// struct xt_physdev_info {char physindev[16], in_mask[16], physoutdev[16], out_mask[16]; u8 invert, bitmask}. A packet
// that was routed here is not bridged: it matches only when every test is negated (net/netfilter/xt_physdev.c).
func xtPhysdev(i *info) {
	invert, tests := i.u8(64), i.u8(65)
	i.step = always(matched(truthOf(tests&^invert == 0)))
}

// struct xt_iprange_mtinfo {union nf_inet_addr src_min, src_max, dst_min, dst_max; u8 flags}.
func xtIPRange(i *info) {
	flags := i.u8(64) // IPRANGE_SRC 1, DST 2, SRC_INV 16, DST_INV 32
	for k, option := range []string{"--src-range", "--dst-range"} {
		low, high := i.addr(32*k), i.addr(32*k+16)
		if flags&(1<<k) != 0 {
			text := fmt.Sprintf("%s %s-%s", option, low, high)
			i.add(flags&(16<<k) != 0, text, in(dim(k), between(addrNumber(low), addrNumber(high))))
		}
	}
}

// struct xt_set_info {u16 index; u8 dim, flags} comes first from revision 1 on.
func xtSet(i *info) {
	const inverted = 1 << 0 // IPSET_INV_MATCH; 1 << k says that dimension k is the source (enum ip_set_dim, from 1)
	index, dim, flags := i.u16(0), i.u8(2), i.u8(3)
	dirs := []string{}
	for k := range min(int(dim), 6) { // IPSET_DIM_MAX
		dirs = append(dirs, map[bool]string{true: "src", false: "dst"}[flags&(2<<k) != 0])
	}
	sets, name := i.sets, i.sets.name(index)
	called := cmp.Or(name, fmt.Sprintf("(index %d)", index))
	i.add(flags&inverted != 0, "--match-set "+called+" "+strings.Join(dirs, ","), func(m *machine) truth {
		return sets.contains(name, m, dirs)
	})
}

// struct xt_owner_match_info {u32 uid_min, uid_max, gid_min, gid_max; u8 match, invert}. A packet that came in by an
// interface has no socket here; an outer packet has that of the inner one (iptunnel_xmit keeps skb->sk,
// net/netfilter/xt_owner.c asks for it).
func xtOwner(i *info) {
	const wantSocket, known = 4, 7 // XT_OWNER_SOCKET; 1 and 2 are UID and GID
	match, invert := i.u8(16), i.u8(17)
	if match&wantSocket != 0 {
		i.add(invert&wantSocket != 0, "--socket-exists", func(*machine) truth { return yes })
	}
	for k, option := range []string{"--uid-owner ", "--gid-owner "} {
		if low, high := i.u32(8*k), i.u32(8*k+4); match&(1<<k) != 0 {
			owners := between(number{0, uint64(low)}, number{0, uint64(high)})
			i.add(invert&(1<<k) != 0, option+owners.text(), in(dimUID+dim(k), owners))
		}
	}
	if match&^known != 0 {
		i.add(false, "(supplementary groups)", unsure)
	}
	asked := allOf(i.questions) // of a packet that has a socket
	i.step = matchStep(func(m *machine) truth {
		socket, with, without := m.socket(), asked(m), truthOf((match^invert)&known == 0)
		if socket == maybe && with == without {
			return with
		}
		return socket.and(with).or(socket.not().and(without))
	})
}

// socket says whether the packet belongs to a socket of this namespace.
func (m *machine) socket() truth {
	m.asked = true
	return m.packet.socket
}

// struct xt_policy_info {struct xt_policy_elem pol[4], of 76 bytes; u16 flags, len}: what IPsec does to a packet on its
// way out, or did on its way in, and, with elements, how (net/netfilter/xt_policy.c).
func xtPolicy(i *info) {
	const inwards, none = 1, 4 // XT_POLICY_MATCH_IN, XT_POLICY_MATCH_NONE
	flags, elements, policies := i.u16(304), i.u16(306), i.policies
	dir, pol := "out", "ipsec"
	if flags&inwards != 0 {
		dir = "in"
	}
	if flags&none != 0 {
		pol = "none"
	}
	i.add(false, "--dir "+dir+" --pol "+pol, func(m *machine) truth {
		t := policies.apply(m, flags&inwards != 0)
		if elements > 0 && flags&none == 0 {
			t = t.and(maybe)
		}
		return invertIf(t, flags&none != 0)
	})
}
