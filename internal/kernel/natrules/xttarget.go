package natrules

import (
	"fmt"
)

// xtSNAT reads struct nf_nat_ipv4_multi_range_compat {u32 rangesize; struct nf_nat_ipv4_range {u32 flags; be32 min_ip,
// max_ip; be16 min, max}} in revision 0 of IPv4, and struct nf_nat_range {u32 flags; addr min, max; be16 min, max}
// otherwise; revision 2 has more behind it. NETMAP rewrites the network part of the source.
func xtSNAT(i *info) {
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
	} else {
		i.text = n.saved()
	}
	i.step = natStep(n)
}

// struct xt_mark_tginfo2 {u32 mark, mask}: mark = (mark & ~mask) ^ value.
func xtSetMark(i *info) {
	mark, mask := i.u32(0), i.u32(4)
	i.text += fmt.Sprintf(" --set-xmark 0x%x/0x%x", mark, mask)
	i.step = func(m *machine) effect {
		m.state.mark = m.state.mark.assign(mark, mask)
		return goOn
	}
}

// struct xt_connmark_tginfo1 {u32 ctmark, ctmask, nfmask; u8 mode}, _2 {…; u8 shift_dir, shift_bits, mode}.
func xtSetConnmark(i *info) {
	const modeSet, modeSave, modeRestore = 0, 1, 2 // include/uapi/linux/netfilter/xt_connmark.h
	ctmark, ctmask, nfmask, mode, shifted := i.u32(0), i.u32(4), i.u32(8), i.u8(12), false
	if i.revision >= 2 {
		shifted, mode = i.u8(13) != 0, i.u8(14)
	}
	masks := ""
	if ctmask != ^uint32(0) || nfmask != ^uint32(0) {
		masks = fmt.Sprintf(" --nfmask 0x%x --ctmask 0x%x", nfmask, ctmask)
	}
	var assign func(s *state)
	switch {
	case shifted, mode > modeRestore:
		i.text += " (shifted)"
		assign = func(s *state) { s.ctmark, s.mark = word{unknown: ^uint32(0)}, word{unknown: ^uint32(0)} }
	case mode == modeSet:
		i.text += fmt.Sprintf(" --set-xmark 0x%x/0x%x", ctmark, ctmask)
		assign = func(s *state) { s.ctmark = s.ctmark.assign(ctmark, ctmask) }
	case mode == modeSave:
		i.text += " --save-mark" + masks
		assign = func(s *state) { s.ctmark = s.ctmark.assign(0, ctmask).xor(s.mark.and(nfmask)) }
	default:
		i.text += " --restore-mark" + masks
		assign = func(s *state) { s.mark = s.mark.assign(0, nfmask).xor(s.ctmark.and(ctmask)) }
	}
	i.step = func(m *machine) effect {
		if tracked(m) == yes {
			assign(&m.state)
		}
		return goOn
	}
}

// struct xt_ct_target_info {u16 flags, …}: XT_CT_NOTRACK is 1. NOTRACK has none.
func xtNotrack(i *info) {
	switch {
	case i.name == "NOTRACK":
		i.step = notrack
	case i.u16(0)&1 == 0:
		i.step = proceed
	default:
		i.text += " --notrack"
		i.step = notrack
	}
}
