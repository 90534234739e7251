package natrules

import (
	"fmt"
)

// targetParser knows targets, from a revision on.
func targetParser(name string) (parse xtParser, from uint8) {
	switch name {
	case "MASQUERADE", "SNAT", "NETMAP":
		return xtSNAT, 0
	case "MARK":
		return xtSetMark, 2
	case "CONNMARK":
		return xtSetConnmark, 1
	case "CT", "NOTRACK":
		return xtNotrack, 0
	case "REJECT", "TPROXY":
		return always(dropped), 0
	case "DNAT", "REDIRECT": // in nat OUTPUT and PREROUTING only: the destination changes, the source does not
		return always(accepted), 0
	case "LOG", "NFLOG", "ULOG", "TRACE", "AUDIT", "TCPMSS", "TCPOPTSTRIP", "CLASSIFY", "CHECKSUM", "DSCP", "TOS", "ECN",
		"TTL", "HL", "SET", "IDLETIMER", "LED", "RATEEST", "TEE", "SECMARK", "CONNSECMARK":
		return always(proceed), 0
	}
	return nil, 0
}

func always(s step) xtParser {
	return func(*info) xtPart { return xtPart{step: s} }
}

func proceed(*machine) effect { return goOn }

func dropped(*machine) effect { return ends(verdict{kind: verdictDrop}) }

func accepted(*machine) effect { return ends(verdict{kind: verdictAccept}) }

func unknownVerdict(*machine) effect { return ends(verdict{kind: verdictUnknown}) }

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

// xtSNAT reads struct nf_nat_ipv4_multi_range_compat {u32 rangesize; struct nf_nat_ipv4_range {u32 flags; be32 min_ip,
// max_ip; be16 min, max}} in revision 0 of IPv4, and struct nf_nat_range {u32 flags; addr min, max; be16 min, max}
// otherwise; revision 2 has more behind it. NETMAP rewrites the network part of the source.
func xtSNAT(i *info) xtPart {
	at, gap := 0, 16
	if !i.ipv6 && i.revision == 0 {
		at, gap = 4, 4
	}
	n := natRange{
		masquerade: i.name == "MASQUERADE", flags: i.u32(at),
		min: i.addr(at + 4), max: i.addr(at + 4 + gap), minPort: i.be16(at + 4 + 2*gap), maxPort: i.be16(at + 6 + 2*gap),
	}
	if i.name == "NETMAP" {
		n.flags |= rangeMapIPs
		n.unsure = !n.min.IsValid()
		return xtPart{step: natStep(n)}
	}
	return xtPart{step: natStep(n), text: n.saved()}
}

// struct xt_mark_tginfo2 {u32 mark, mask}: mark = (mark & ~mask) ^ value.
func xtSetMark(i *info) xtPart {
	mark, mask := i.u32(0), i.u32(4)
	return xtPart{text: fmt.Sprintf("-j MARK --set-xmark 0x%x/0x%x", mark, mask), step: func(m *machine) effect {
		m.state.mark = m.state.mark.assign(mark, mask)
		return goOn
	}}
}

// struct xt_connmark_tginfo1 {u32 ctmark, ctmask, nfmask; u8 mode}, _2 {…; u8 shift_dir, shift_bits, mode}.
func xtSetConnmark(i *info) xtPart {
	const modeSet, modeSave, modeRestore = 0, 1, 2 // include/uapi/linux/netfilter/xt_connmark.h
	ctmark, ctmask, nfmask, mode, shifted := i.u32(0), i.u32(4), i.u32(8), i.u8(12), false
	if i.revision >= 2 {
		shifted, mode = i.u8(13) != 0, i.u8(14)
	}
	masks := ""
	if ctmask != ^uint32(0) || nfmask != ^uint32(0) {
		masks = fmt.Sprintf(" --nfmask 0x%x --ctmask 0x%x", nfmask, ctmask)
	}
	var text string
	var assign func(s *state)
	switch {
	case shifted, mode > modeRestore:
		text = "(shifted)"
		assign = func(s *state) { s.ctmark, s.mark = word{unknown: ^uint32(0)}, word{unknown: ^uint32(0)} }
	case mode == modeSet:
		text = fmt.Sprintf("--set-xmark 0x%x/0x%x", ctmark, ctmask)
		assign = func(s *state) { s.ctmark = s.ctmark.assign(ctmark, ctmask) }
	case mode == modeSave:
		text = "--save-mark" + masks
		assign = func(s *state) { s.ctmark = s.ctmark.assign(0, ctmask).xor(s.mark.and(nfmask)) }
	default:
		text = "--restore-mark" + masks
		assign = func(s *state) { s.mark = s.mark.assign(0, nfmask).xor(s.ctmark.and(ctmask)) }
	}
	return xtPart{text: "-j CONNMARK " + text, step: func(m *machine) effect {
		if tracked(m) == yes {
			assign(&m.state)
		}
		return goOn
	}}
}

// struct xt_ct_target_info {u16 flags, …}: XT_CT_NOTRACK is 1. NOTRACK has none.
func xtNotrack(i *info) xtPart {
	switch {
	case i.name == "NOTRACK":
		return xtPart{step: notrack}
	case i.u16(0)&1 == 0:
		return xtPart{step: proceed}
	default:
		return xtPart{step: notrack, text: "-j CT --notrack"}
	}
}
