package natrules

import (
	"fmt"
	"net/netip"
)

func targetParser(name string, revision uint8) xtParser {
	switch name {
	case "MASQUERADE":
		return xtMasquerade
	case "SNAT":
		return func(i *info, ipv6 bool) xtPart { return xtSNAT(i, ipv6, revision) }
	case "NETMAP":
		return xtNetmap
	case "MARK":
		if revision >= 2 {
			return xtSetMark
		}
	case "CONNMARK":
		if revision >= 1 {
			return func(i *info, _ bool) xtPart { return xtSetConnmark(i, revision) }
		}
	case "CT":
		return xtCT
	case "NOTRACK":
		return func(*info, bool) xtPart { return xtPart{step: notrack, text: "-j NOTRACK"} }
	case "REJECT", "TPROXY":
		return func(*info, bool) xtPart { return xtPart{step: dropped} }
	case "DNAT", "REDIRECT":
		// In nat OUTPUT only: the destination changes, the source does not.
		return func(*info, bool) xtPart {
			return xtPart{step: func(*machine) effect { return ends(verdict{kind: verdictAccept}) }}
		}
	case "LOG", "NFLOG", "ULOG", "TRACE", "AUDIT", "TCPMSS", "TCPOPTSTRIP", "CLASSIFY", "CHECKSUM", "DSCP", "TOS", "ECN", "TTL", "HL",
		"SET", "IDLETIMER", "LED", "RATEEST", "TEE", "SECMARK", "CONNSECMARK":
		return func(*info, bool) xtPart { return xtPart{step: func(*machine) effect { return goOn }} }
	}
	return nil
}

func dropped(*machine) effect { return ends(verdict{kind: verdictDrop}) }

// notrack takes a packet out of connection tracking, if that has not seen it yet (net/netfilter/xt_CT.c, xt_ct_target).
func notrack(m *machine) effect {
	switch tracked(m) {
	case no:
		m.notrack = true
	case maybe:
		m.notrack = true
		return matched(maybe)
	}
	return goOn
}

func natStep(n natRange) step {
	return func(*machine) effect { return ends(verdict{kind: verdictNAT, nat: n}) }
}

// xtMasquerade reads struct nf_nat_ipv4_multi_range_compat {u32 rangesize; struct nf_nat_ipv4_range {u32 flags; be32 min_ip,
// max_ip; be16 min, max}} for IPv4 and struct nf_nat_range {u32 flags; addr min, max; be16 min, max} for IPv6.
func xtMasquerade(i *info, ipv6 bool) xtPart {
	n := natRangeAt(i, ipv6, 0)
	n.masquerade = true
	text := "-j MASQUERADE"
	if n.flags&rangeProtoSpec != 0 {
		text += fmt.Sprintf(" --to-ports %d-%d", n.minPort, n.maxPort)
	}
	return xtPart{step: natStep(n), text: text + randomText(n)}
}

func natRangeAt(i *info, ipv6 bool, revision uint8) natRange {
	if !ipv6 && revision == 0 {
		return natRange{flags: i.u32(4), min: i.addr(8, 4), max: i.addr(12, 4), minPort: i.be16(16), maxPort: i.be16(18)}
	}
	size := 4
	if ipv6 {
		size = 16
	}
	return natRange{flags: i.u32(0), min: i.addr(4, size), max: i.addr(20, size), minPort: i.be16(36), maxPort: i.be16(38)}
}

func randomText(n natRange) string {
	s := ""
	if n.flags&rangeRandom != 0 {
		s += " --random"
	}
	if n.flags&rangeFullyRandom != 0 {
		s += " --random-fully"
	}
	if n.flags&rangePersistent != 0 {
		s += " --persistent"
	}
	return s
}

// xtSNAT: revision 0 of IPv4 is the compat range, of IPv6 and in revision 1 struct nf_nat_range, in revision 2 nf_nat_range2.
func xtSNAT(i *info, ipv6 bool, revision uint8) xtPart {
	n := natRangeAt(i, ipv6, revision)
	text := "-j SNAT"
	if n.flags&(rangeMapIPs|rangeProtoSpec) != 0 {
		text += " --to-source "
	}
	if n.flags&rangeMapIPs != 0 {
		text += n.min.String()
		if n.max != n.min {
			text += "-" + n.max.String()
		}
	}
	if n.flags&rangeProtoSpec != 0 {
		text += fmt.Sprintf(":%d-%d", n.minPort, n.maxPort)
	}
	return xtPart{step: natStep(n), text: text + randomText(n)}
}

// xtNetmap rewrites the network part of the source in POSTROUTING.
func xtNetmap(i *info, ipv6 bool) xtPart {
	n := natRangeAt(i, ipv6, 0)
	n.flags |= rangeMapIPs
	n.unsure = n.min == (netip.Addr{})
	return xtPart{step: natStep(n), text: "-j NETMAP"}
}

// struct xt_mark_tginfo2 {u32 mark, mask}: mark = (mark & ~mask) ^ value.
func xtSetMark(i *info, _ bool) xtPart {
	mark, mask := i.u32(0), i.u32(4)
	return xtPart{step: setMark(mark, mask), text: fmt.Sprintf("-j MARK --set-xmark 0x%x/0x%x", mark, mask)}
}

func setMark(mark, mask uint32) step {
	return func(m *machine) effect {
		m.state.mark = m.state.mark.assign(mark, mask)
		return goOn
	}
}

// struct xt_connmark_tginfo1 {u32 ctmark, ctmask, nfmask; u8 mode}, _2 {…; u8 shift_dir, shift_bits, mode}.
func xtSetConnmark(i *info, revision uint8) xtPart {
	ctmark, ctmask, nfmask := i.u32(0), i.u32(4), i.u32(8)
	mode, shifted := i.u8(12), false
	if revision >= 2 {
		shifted = i.u8(13) != 0
		mode = i.u8(14)
	}
	return xtPart{text: connmarkText(mode, shifted, ctmark, ctmask, nfmask), step: func(m *machine) effect {
		if t := tracked(m); t != yes {
			return goOn
		}
		s := &m.state
		switch {
		case shifted, mode > modeRestore:
			s.ctmark.unknown, s.mark.unknown = ^uint32(0), ^uint32(0)
			s.ctmark.bits, s.mark.bits = 0, 0
		case mode == modeSet:
			s.ctmark = s.ctmark.assign(ctmark, ctmask)
		case mode == modeSave:
			s.ctmark = s.ctmark.assign(0, ctmask).xor(s.mark.and(nfmask))
		default:
			s.mark = s.mark.assign(0, nfmask).xor(s.ctmark.and(ctmask))
		}
		return goOn
	}}
}

// Modes of CONNMARK (include/uapi/linux/netfilter/xt_connmark.h).
const modeSet, modeSave, modeRestore = 0, 1, 2

func connmarkText(mode uint8, shifted bool, ctmark, ctmask, nfmask uint32) string {
	text := "-j CONNMARK "
	switch {
	case shifted, mode > modeRestore:
		return text + "(shifted)"
	case mode == modeSet:
		return text + fmt.Sprintf("--set-xmark 0x%x/0x%x", ctmark, ctmask)
	case mode == modeSave:
		text += "--save-mark"
	default:
		text += "--restore-mark"
	}
	if ctmask != ^uint32(0) || nfmask != ^uint32(0) {
		text += fmt.Sprintf(" --nfmask 0x%x --ctmask 0x%x", nfmask, ctmask)
	}
	return text
}

func (w word) and(mask uint32) word { return word{w.bits & mask, w.unknown & mask} }

func (w word) xor(x word) word {
	unknown := w.unknown | x.unknown
	return word{(w.bits ^ x.bits) &^ unknown, unknown}
}

// struct xt_ct_target_info {u16 flags, …}: XT_CT_NOTRACK is 1.
func xtCT(i *info, _ bool) xtPart {
	if i.u16(0)&1 == 0 {
		return xtPart{step: func(*machine) effect { return goOn }, text: "-j CT"}
	}
	return xtPart{step: notrack, text: "-j CT --notrack"}
}
