package natrules

import (
	"fmt"
)

// NFTA_META_DREG 1, KEY 2, SREG 3; keys from enum nft_meta_keys.
func (e *exprs) meta(n nested) step {
	dreg, key := n.be32(1), n.be32(2)
	if n.has(3) {
		return e.setMark("meta", key == 3, key, n.be32(3))
	}
	o := operand{text: fmt.Sprintf("meta (key %d)", key), size: 4}
	switch key {
	case 1: // NFT_META_PROTOCOL
		o.text, o.load = "meta protocol", byFamily(2, 0x0800, 0x86dd)
	case 3: // NFT_META_MARK
		o.text, o.kind, o.load = "meta mark", kindMark, func(m *machine) content { return numbered(m.state.mark) }
	case 4: // NFT_META_IIF
		o.text, o.kind, o.load = "iif", kindMark, func(m *machine) content { return oneOf(4, indexes(m.in())) }
	case 5: // NFT_META_OIF
		o.text, o.kind, o.load = "oif", kindMark, func(m *machine) content { return oneOf(4, indexes(m.out())) }
	case 6: // NFT_META_IIFNAME
		o.text, o.kind, o.load = "iifname", kindName, func(m *machine) content { return oneOf(16, names(m.in())) }
	case 7: // NFT_META_OIFNAME
		o.text, o.kind, o.load = "oifname", kindName, func(m *machine) content { return oneOf(16, names(m.out())) }
	case 10, 11: // NFT_META_SKUID, _SKGID: without a socket the expression breaks off (nft_meta_get_eval_skugid)
		id := content{pieces: []piece{{dim: dimUID + dim(key-10), size: 4, native: true}}}
		o.text, o.kind, o.load = [...]string{"meta skuid", "meta skgid"}[key-10], kindUser, constantly(id)
		e.load(dreg, o)
		return matchStep((*machine).socket)
	case 15: // NFT_META_NFPROTO
		o.text, o.kind, o.load = "meta nfproto", kindFamily, byFamily(1, nfIPv4, nfIPv6)
	case 16: // NFT_META_L4PROTO
		o.text, o.kind, o.load = "meta l4proto", kindProto, constantly(fieldContent(dimProto, 1))
	case 25: // NFT_META_SECPATH
		o.text, o.load = "meta ipsec", e.ipsec(true)
	}
	if o.kind == kindName || o.load == nil {
		o.size = 16
	}
	return e.load(dreg, o)
}

func constantly(c content) func(*machine) content { return func(*machine) content { return c } }

// byFamily is a constant that depends on the family of the packet.
func byFamily(size int, ipv4, ipv6 uint64) func(m *machine) content {
	return func(m *machine) content {
		if m.packet.ipv6 {
			return oneOf(size, numbers(ipv6))
		}
		return oneOf(size, numbers(ipv4))
	}
}

// ipsec is 1 for a packet that IPsec takes or, inwards, brought, and 0 for others.
func (e *exprs) ipsec(inwards bool) func(m *machine) content {
	return func(m *machine) content {
		t := e.tables.lookups.policies.apply(m, inwards)
		return oneOf(1, between(number{low: uint64(t) / 2}, number{low: (uint64(t) + 1) / 2}))
	}
}

// NFTA_RT_DREG 1, KEY 2.
func (e *exprs) route(n nested) step {
	const ipsec = 4 // NFT_RT_XFRM
	if n.be32(2) != ipsec {
		return e.unknownLoad("rt")
	}
	return e.load(n.be32(1), operand{text: "rt ipsec", size: 1, load: e.ipsec(false)})
}

// setMark writes the mark of the packet or of its connection. What else is written does not matter.
func (e *exprs) setMark(what string, mark bool, key, sreg uint32) step {
	o := e.reg(sreg)
	if !mark {
		e.say(fmt.Sprintf("%s (key %d) set %s", what, key, o.value(kindHex)), "")
		return proceed
	}
	text := what + " mark set " + o.value(kindMark)
	e.say(text, text)
	clear(e.regs) // what they hold may be the mark that was
	return func(m *machine) effect {
		w := o.content(m).word()
		if what == "ct" {
			m.state.ctmark = w
		} else {
			m.state.mark = w
		}
		return goOn
	}
}

// NFTA_PAYLOAD_DREG 1, BASE 2, OFFSET 3, LEN 4, SREG 5.
func (e *exprs) payload(n nested) step {
	const baseNetwork, baseTransport, most = 1, 2, 64
	base, off, size := n.be32(2), int(n.be32(3)), int(n.be32(4))
	if n.has(5) {
		e.say("(payload write)", "")
		return unknownVerdict
	}
	o := operand{text: fmt.Sprintf("@%d,%d,%d", base, off*8, size*8), size: min(size, most)}
	type place struct {
		base      uint32
		off, size int
	}
	at := place{base, off, size}
	if e.key.family == nfIPv4 && base == baseNetwork && size < 4 && (off == 12 || off == 16) {
		at.size = 4 // a prefix on a byte boundary
	}
	if named, ok := map[place]operand{
		{1, 12, 4}:  {text: "ip saddr", kind: kindAddr},
		{1, 16, 4}:  {text: "ip daddr", kind: kindAddr},
		{1, 8, 16}:  {text: "ip6 saddr", kind: kindAddr},
		{1, 24, 16}: {text: "ip6 daddr", kind: kindAddr},
		{1, 9, 1}:   {text: "ip protocol", kind: kindProto},
		{1, 6, 1}:   {text: "ip6 nexthdr", kind: kindProto},
		{2, 0, 2}:   {text: "th sport", kind: kindPort},
		{2, 2, 2}:   {text: "th dport", kind: kindPort},
	}[at]; ok {
		o.text, o.kind = named.text, named.kind
	}
	if size > most || base != baseNetwork && base != baseTransport {
		e.load(n.be32(1), o)
		return unclear
	}
	o.load = func(m *machine) content {
		return content{pieces: headerPieces(base == baseTransport, m.packet.ipv6, off, size)}
	}
	return e.load(n.be32(1), o)
}

// NFTA_CT_DREG 1, KEY 2, DIRECTION 3, SREG 4; keys from enum nft_ct_keys. Without a flow the expression breaks off
// (nft_ct_get_eval), but for the state.
func (e *exprs) ct(n nested) step {
	const state, mark = 0, 3 // NFT_CT_STATE, _MARK
	dreg, key := n.be32(1), n.be32(2)
	if n.has(4) {
		return e.setMark("ct", key == mark, key, n.be32(4))
	}
	if key == state {
		return e.load(dreg, operand{text: "ct state", kind: kindState, size: 4, load: func(m *machine) content {
			s := ctState(m)
			nft := func(bits uint32) uint32 { return bits&^(ctNAT|ctUntracked) | bits&ctUntracked>>2 }
			return numbered(word{nft(s.bits), nft(s.unknown)})
		}})
	}
	o := operand{text: fmt.Sprintf("ct (key %d)", key), size: 16}
	if key == mark {
		o = operand{text: "ct mark", kind: kindMark, size: 4}
		o.load = func(m *machine) content { return numbered(m.state.ctmark) }
	} else if direction := n[3]; len(direction) == 1 && direction[0] == 0 { // IP_CT_DIR_ORIGINAL
		var field dim
		if o.text, o.kind, field = ctField(key, o.text); field != dimensions {
			o.load = func(m *machine) content {
				d := m.original(field)
				return fieldContent(d, m.packet.size(d))
			}
		}
	}
	e.load(dreg, o)
	return matchStep(tracked)
}

// ctField is what a key names of the tuple of a flow's first packet; dimensions when it is no such key.
func ctField(key uint32, otherwise string) (text string, kind operandKind, d dim) {
	switch key {
	case 8, 19, 21: // NFT_CT_SRC, _SRC_IP, _SRC_IP6
		return "ct original saddr", kindAddr, dimSrc
	case 9, 20, 22: // NFT_CT_DST, _DST_IP, _DST_IP6
		return "ct original daddr", kindAddr, dimDst
	case 10: // NFT_CT_PROTOCOL
		return "ct original protocol", kindProto, dimProto
	case 11: // NFT_CT_PROTO_SRC
		return "ct original proto-src", kindPort, dimSport
	case 12: // NFT_CT_PROTO_DST
		return "ct original proto-dst", kindPort, dimDport
	}
	return otherwise, kindHex, dimensions
}

// NFTA_FIB_DREG 1, RESULT 2, FLAGS 3; only the type of an address is known.
func (e *exprs) fib(n nested) step {
	const resultType, flagSrc, flagDst = 3, 1, 2 // NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_SADDR, NFTA_FIB_F_DADDR
	o, flags := operand{text: "fib", kind: kindAddrType, size: 4}, n.be32(3)
	if flags&flagSrc != 0 {
		o.text += " saddr"
	}
	if flags&flagDst != 0 {
		o.text += " daddr"
	}
	o.text += " type"
	switch {
	case n.be32(2) != resultType:
	case flags == flagSrc:
		o.load = func(m *machine) content { return oneOf(4, srcTypes(m, false)) }
	case flags == flagDst:
		o.load = func(m *machine) content { return oneOf(4, dstTypes(m)) }
	}
	return e.load(n.be32(1), o)
}
