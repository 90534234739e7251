package natrules

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// matchParser knows the matches whose outcome for a VXLAN packet can be told.
func matchParser(name string, revision uint8) xtParser {
	switch name {
	case "comment":
		return xtComment
	case "udp", "tcp":
		return func(i *info, _ bool) xtPart { return xtPorts(i, name) }
	case "multiport":
		return xtMultiport
	case "mark":
		if revision >= 1 {
			return xtMark
		}
	case "connmark":
		if revision >= 1 {
			return xtConnmark
		}
	case "conntrack":
		if revision >= 1 {
			return func(i *info, _ bool) xtPart { return xtConntrack(i, revision) }
		}
	case "state":
		return xtState
	case "addrtype":
		return func(i *info, _ bool) xtPart { return xtAddrtype(i, revision) }
	case "physdev":
		return xtPhysdev
	case "iprange":
		if revision == 1 {
			return xtIPRange
		}
	case "set":
		if revision >= 1 {
			return xtSet
		}
	case "owner":
		if revision == 1 {
			return xtOwner
		}
	}
	return nil
}

// bang is iptables' negation in front of an option.
func bang(invert bool) string {
	if invert {
		return "! "
	}
	return ""
}

// struct xt_comment_info: text only.
func xtComment(i *info, _ bool) xtPart {
	return xtPart{step: func(*machine) effect { return goOn }, text: "-m comment --comment " + quoteWord(cString(i.b))}
}

func quoteWord(s string) string {
	if s != "" && !strings.ContainsAny(s, " \"'\\\t\n") {
		return s
	}
	return strconv.Quote(s)
}

// struct xt_udp {u16 spts[2], dpts[2]; u8 invflags} and xt_tcp, which has flags between (include/uapi/linux/netfilter/xt_tcpudp.h).
func xtPorts(i *info, proto string) xtPart {
	number, invflags := byte(protoUDP), i.u8At(8, proto == "udp")
	flagMask := byte(0)
	if proto == "tcp" {
		number, invflags, flagMask = 6, i.u8(11), i.u8(9)
	}
	sLow, sHigh, dLow, dHigh := i.u16(0), i.u16(2), i.u16(4), i.u16(6)
	text := "-m " + proto + portText("--sport", sLow, sHigh, invflags&1 != 0) + portText("--dport", dLow, dHigh, invflags&2 != 0)
	return xtPart{text: text, step: matchStep(func(m *machine) truth {
		t := m.is(dimProto, numbers(uint64(number)))
		if sLow != 0 || sHigh != 65535 {
			t = t.and(invertIf(m.between(dimSport, portBytes(sLow), portBytes(sHigh)), invflags&1 != 0))
		}
		if dLow != 0 || dHigh != 65535 {
			t = t.and(invertIf(m.between(dimDport, portBytes(dLow), portBytes(dHigh)), invflags&2 != 0))
		}
		if flagMask != 0 {
			t = t.and(maybe)
		}
		return t
	})}
}

// u8At reads a byte when it is wanted.
func (i *info) u8At(off int, want bool) uint8 {
	if !want {
		return 0
	}
	return i.u8(off)
}

func portText(option string, low, high uint16, invert bool) string {
	switch {
	case low == 0 && high == 65535:
		return ""
	case low == high:
		return fmt.Sprintf(" %s%s %d", bang(invert), option, low)
	default:
		return fmt.Sprintf(" %s%s %d:%d", bang(invert), option, low, high)
	}
}

// struct xt_multiport_v1 {u8 flags, count; u16 ports[15]; u8 pflags[15], invert}.
func xtMultiport(i *info, _ bool) xtPart {
	const slots = 15
	flags, count := i.u8(0), min(int(i.u8(1)), slots)
	invert := len(i.b) > 47 && i.u8(47) != 0
	var spans []span
	var words []string
	for k := 0; k < count; k++ {
		low, high := i.u16(2+2*k), i.u16(2+2*k)
		if len(i.b) > 47 && i.u8(32+k) != 0 && k+1 < count {
			k++
			high = i.u16(2 + 2*k)
			words = append(words, fmt.Sprintf("%d:%d", low, high))
		} else {
			words = append(words, strconv.Itoa(int(low)))
		}
		if low <= high {
			spans = append(spans, span{number{0, uint64(low)}, number{0, uint64(high)}})
		}
	}
	option := [...]string{"--sports", "--dports", "--ports"}[min(flags, 2)]
	in := rangesOf(spans...)
	return xtPart{text: "-m multiport " + bang(invert) + option + " " + strings.Join(words, ","), step: matchStep(func(m *machine) truth {
		t := no
		if flags != 1 {
			t = t.or(m.is(dimSport, in))
		}
		if flags != 0 {
			t = t.or(m.is(dimDport, in))
		}
		return invertIf(t, invert)
	})}
}

// struct xt_mark_mtinfo1 {u32 mark, mask; u8 invert}.
func xtMark(i *info, _ bool) xtPart {
	mark, mask, invert := i.u32(0), i.u32(4), i.u8(8) != 0
	return xtPart{
		asks: asked(mark, mask), text: "-m mark " + bang(invert) + "--mark " + markText(mark, mask),
		step: matchStep(func(m *machine) truth { return invertIf(m.state.mark.masked(mark, mask), invert) }),
	}
}

// asked are the bits of the mark that a comparison of mark & mask with value is about: the one bit of the mask, or those of the value.
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

// Address types are 1 << RTN_* (include/uapi/linux/rtnetlink.h).
var addrTypes = [...]string{"UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT", "THROW", "NAT", "XRESOLVE"}

const (
	typeUnicast = 1 << 1
	typeLocal   = 1 << 2
)

// srcType: an own address is local; one that is not, or not on the interface asked about, counts as unicast (inet_dev_addr_type).
func srcType(m *machine, types uint16, onOut bool) truth {
	local := m.srcLocal(onOut)
	return local.and(truthOf(types&typeLocal != 0)).or(local.not().and(truthOf(types&typeUnicast != 0)))
}

// dstType: a packet that leaves is not addressed to this node. Before nat, an inner one may be.
func dstType(m *machine, types uint16) truth {
	switch {
	case m.seen(dimDst) != dimDst:
		return maybe
	case m.packet.dstUnicast == yes:
		return truthOf(types&typeUnicast != 0)
	case types&^typeLocal == 0:
		return no
	default:
		return maybe
	}
}

// struct xt_addrtype_info {u16 source, dest; u32 invert_source, invert_dest} and _v1 {u16 source, dest; u32 flags}.
func xtAddrtype(i *info, revision uint8) xtPart {
	src, dst := i.u16(0), i.u16(2)
	const flagNotSrc, flagNotDst, flagLimitIn, flagLimitOut = 1, 2, 4, 8 // XT_ADDRTYPE_*
	var notSrc, notDst, limitIn, limitOut bool
	if revision == 0 {
		notSrc, notDst = i.u32(4) != 0, i.u32(8) != 0
	} else {
		flags := i.u32(4)
		notSrc, notDst = flags&flagNotSrc != 0, flags&flagNotDst != 0
		limitIn, limitOut = flags&flagLimitIn != 0, flags&flagLimitOut != 0
	}
	text := "-m addrtype"
	if src != 0 {
		text += " " + bang(notSrc) + "--src-type " + stateNames(uint32(src), addrTypes[:]...)
	}
	if dst != 0 {
		text += " " + bang(notDst) + "--dst-type " + stateNames(uint32(dst), addrTypes[:]...)
	}
	if limitIn {
		text += " --limit-iface-in"
	}
	if limitOut {
		text += " --limit-iface-out"
	}
	return xtPart{text: text, step: matchStep(func(m *machine) truth {
		t := yes
		if limitIn {
			t = maybe
		}
		if src != 0 {
			t = t.and(invertIf(srcType(m, src, limitOut), notSrc))
		}
		if dst != 0 {
			t = t.and(invertIf(dstType(m, dst), notDst))
		}
		return t
	})}
}

// struct xt_physdev_info {char physindev[16], in_mask[16], physoutdev[16], out_mask[16]; u8 invert, bitmask}. A packet that was
// routed here is not bridged: it matches only when every test is negated (net/netfilter/xt_physdev.c).
func xtPhysdev(i *info, _ bool) xtPart {
	invert, tests := i.u8(64), i.u8(65)
	return xtPart{step: matchStep(func(*machine) truth { return truthOf(tests&^invert == 0) })}
}

// struct xt_iprange_mtinfo {union nf_inet_addr src_min, src_max, dst_min, dst_max; u8 flags}.
func xtIPRange(i *info, ipv6 bool) xtPart {
	n := 4
	if ipv6 {
		n = 16
	}
	flags := i.u8(64) // IPRANGE_SRC 1, DST 2, SRC_INV 16, DST_INV 32
	srcMin, srcMax := bytes.Clone(i.bytes(0, n)), bytes.Clone(i.bytes(16, n))
	dstMin, dstMax := bytes.Clone(i.bytes(32, n)), bytes.Clone(i.bytes(48, n))
	text := "-m iprange"
	if flags&1 != 0 {
		text += fmt.Sprintf(" %s--src-range %s-%s", bang(flags&16 != 0), i.addr(0, n), i.addr(16, n))
	}
	if flags&2 != 0 {
		text += fmt.Sprintf(" %s--dst-range %s-%s", bang(flags&32 != 0), i.addr(32, n), i.addr(48, n))
	}
	return xtPart{text: text, step: matchStep(func(m *machine) truth {
		t := yes
		if flags&1 != 0 {
			t = t.and(invertIf(m.between(dimSrc, srcMin, srcMax), flags&16 != 0))
		}
		if flags&2 != 0 {
			t = t.and(invertIf(m.between(dimDst, dstMin, dstMax), flags&32 != 0))
		}
		return t
	})}
}

// struct xt_set_info {u16 index; u8 dim, flags} comes first from revision 1 on.
func xtSet(i *info, _ bool) xtPart {
	const inverted = 1 << 0 // IPSET_INV_MATCH; 1 << k says that dimension k is the source (enum ip_set_dim, from 1)
	index, dim, flags := i.u16(0), i.u8(2), i.u8(3)
	var words []string
	var dirs []bool
	for k := range min(int(dim), 6) { // IPSET_DIM_MAX
		dirs = append(dirs, flags&(2<<k) != 0)
		words = append(words, map[bool]string{true: "src", false: "dst"}[dirs[k]])
	}
	sets := i.sets
	name := sets.name(index)
	called := name
	if name == "" {
		called = fmt.Sprintf("(index %d)", index)
	}
	return xtPart{
		text: fmt.Sprintf("-m set %s--match-set %s %s", bang(flags&inverted != 0), called, strings.Join(words, ",")),
		step: matchStep(func(m *machine) truth { return invertIf(sets.contains(name, m, dirs), flags&inverted != 0) }),
	}
}
