package natrules

import (
	"fmt"
)

// loads makes a step that loads a register.
func loads(dreg uint32, f func(m *machine) content) step {
	return func(m *machine) effect {
		m.load(dreg, f(m))
		return goOn
	}
}

// NFTA_META_DREG 1, KEY 2, SREG 3; keys from enum nft_meta_keys.
func (e *exprs) meta(n nested) step {
	dreg, key, sreg := n.be32(1), n.be32(2), n.be32(3)
	if n.has(3) {
		return e.setMark("meta", key == 3, key, sreg)
	}
	o, size := operand{}, 4
	var load func(m *machine) content
	values := func(f func(all []Interface) [][]byte, of func(m *machine) []Interface) func(m *machine) content {
		return func(m *machine) content { return content{size: size, values: f(of(m))} }
	}
	switch key {
	case 1: // NFT_META_PROTOCOL
		o.text = "meta protocol"
		load = func(m *machine) content { return byFamily(m, []byte{0x08, 0x00}, []byte{0x86, 0xdd}) }
	case 3: // NFT_META_MARK
		o.text, o.kind = "meta mark", kindMark
		load = func(m *machine) content { w := m.state.mark; return content{size: 4, number: &w} }
	case 4: // NFT_META_IIF
		o.text, o.kind, load = "iif", kindMark, values(indexes, (*machine).in)
	case 5: // NFT_META_OIF
		o.text, o.kind, load = "oif", kindMark, values(indexes, (*machine).out)
	case 6: // NFT_META_IIFNAME
		o.text, o.kind, load, size = "iifname", kindName, values(names, (*machine).in), 16
	case 7: // NFT_META_OIFNAME
		o.text, o.kind, load, size = "oifname", kindName, values(names, (*machine).out), 16
	case 10, 11: // NFT_META_SKUID, _SKGID: without a socket the expression breaks off (nft_meta_get_eval_skugid)
		e.regs[dreg] = operand{text: [...]string{"meta skuid", "meta skgid"}[key-10], kind: kindUser}
		return func(m *machine) effect {
			m.load(dreg, content{size: 4, fields: []piece{{dim: dimUID + dim(key-10), size: 4, native: true}}})
			return matched(m.socket())
		}
	case 15: // NFT_META_NFPROTO
		o.text, o.kind = "meta nfproto", kindFamily
		load = func(m *machine) content { return byFamily(m, []byte{nfIPv4}, []byte{nfIPv6}) }
	case 16: // NFT_META_L4PROTO
		o.text, o.kind = "meta l4proto", kindProto
		load = func(*machine) content { return content{size: 1, fields: []piece{{dim: dimProto, size: 1}}} }
	case 25: // NFT_META_SECPATH
		o.text, load = "meta ipsec", func(m *machine) content { return flag(e.tables.lookups.policies.apply(m, true)) }
	default:
		o.text, load = fmt.Sprintf("meta (key %d)", key), func(*machine) content { return content{size: 16} }
	}
	e.regs[dreg] = o
	return loads(dreg, load)
}

// byFamily is a constant that depends on the family of the packet.
func byFamily(m *machine, ipv4, ipv6 []byte) content {
	if m.packet.ipv6 {
		ipv4 = ipv6
	}
	return content{size: len(ipv4), values: [][]byte{ipv4}}
}

func flag(t truth) content {
	return content{size: 1, values: map[truth][][]byte{no: {{0}}, maybe: {{0}, {1}}, yes: {{1}}}[t]}
}

// NFTA_RT_DREG 1, KEY 2.
func (e *exprs) route(n nested) step {
	const ipsec = 4 // NFT_RT_XFRM
	if n.be32(2) != ipsec {
		return e.unknownLoad("rt")
	}
	e.regs[n.be32(1)] = operand{text: "rt ipsec"}
	return loads(n.be32(1), func(m *machine) content { return flag(e.tables.lookups.policies.apply(m, false)) })
}

// setMark writes the mark of the packet or of its connection. What else is written does not matter.
func (e *exprs) setMark(what string, mark bool, key, sreg uint32) step {
	o := e.regs[sreg]
	if !mark {
		e.say(fmt.Sprintf("%s (key %d) set %s", what, key, o.value(kindHex)), "")
		return proceed
	}
	text := what + " mark set " + o.value(kindMark)
	e.say(text, text)
	return func(m *machine) effect {
		w := m.read(sreg).word()
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
	dreg, base, off, size := n.be32(1), n.be32(2), int(n.be32(3)), int(n.be32(4))
	if n.has(5) {
		e.say("(payload write)", "")
		return unknownVerdict
	}
	e.regs[dreg] = e.field(base, off, size)
	if size > most || base != baseNetwork && base != baseTransport {
		return func(m *machine) effect {
			m.load(dreg, content{size: most})
			return matched(maybe)
		}
	}
	return loads(dreg, func(m *machine) content {
		return content{size: size, fields: headerFields(base == baseTransport, m.packet.ipv6, off, size)}
	})
}

// field names a part of a header.
func (e *exprs) field(base uint32, off, size int) operand {
	type place struct {
		base      uint32
		off, size int
	}
	at := place{base, off, size}
	if e.key.family == nfIPv4 && base == 1 && size < 4 && (off == 12 || off == 16) { // a prefix on a byte boundary
		at.size = 4
	}
	o, ok := map[place]operand{
		{1, 12, 4}:  {text: "ip saddr", kind: kindAddr},
		{1, 16, 4}:  {text: "ip daddr", kind: kindAddr},
		{1, 8, 16}:  {text: "ip6 saddr", kind: kindAddr},
		{1, 24, 16}: {text: "ip6 daddr", kind: kindAddr},
		{1, 9, 1}:   {text: "ip protocol", kind: kindProto},
		{1, 6, 1}:   {text: "ip6 nexthdr", kind: kindProto},
		{2, 0, 2}:   {text: "th sport", kind: kindPort},
		{2, 2, 2}:   {text: "th dport", kind: kindPort},
	}[at]
	if !ok {
		o.text = fmt.Sprintf("@%d,%d,%d", base, off*8, size*8)
	}
	return o
}

// NFTA_CT_DREG 1, KEY 2, DIRECTION 3, SREG 4; keys from enum nft_ct_keys. Without a flow the expression breaks off
// (nft_ct_get_eval), but for the state.
func (e *exprs) ct(n nested) step {
	const keyMark = 3
	dreg, key, sreg := n.be32(1), n.be32(2), n.be32(4)
	if n.has(4) {
		return e.setMark("ct", key == keyMark, key, sreg)
	}
	direction := n[3]
	if o, d, ok := ctField(key); ok && len(direction) == 1 && direction[0] == 0 { // IP_CT_DIR_ORIGINAL
		e.regs[dreg] = o
		return func(m *machine) effect {
			at := m.original(d)
			m.load(dreg, content{size: m.packet.size(at), fields: []piece{{dim: at, size: m.packet.size(at)}}})
			return matched(tracked(m))
		}
	}
	switch key {
	case 0: // NFT_CT_STATE
		e.regs[dreg] = operand{text: "ct state", kind: kindState}
		return loads(dreg, func(m *machine) content {
			s := ctState(m)
			nft := func(bits uint32) uint32 { return bits&^(ctNAT|ctUntracked) | bits&ctUntracked>>2 }
			w := word{nft(s.bits), nft(s.unknown)}
			return content{size: 4, number: &w}
		})
	case keyMark:
		e.regs[dreg] = operand{text: "ct mark", kind: kindMark}
		return func(m *machine) effect {
			m.loadNumber(dreg, m.state.ctmark)
			return matched(tracked(m))
		}
	default:
		e.regs[dreg] = operand{text: fmt.Sprintf("ct (key %d)", key)}
		return func(m *machine) effect {
			m.load(dreg, content{size: 16})
			return matched(tracked(m))
		}
	}
}

// ctField is what a key names of the tuple of a flow's first packet.
func ctField(key uint32) (o operand, d dim, ok bool) {
	switch key {
	case 8, 19, 21: // NFT_CT_SRC, _SRC_IP, _SRC_IP6
		return operand{text: "ct original saddr", kind: kindAddr}, dimSrc, true
	case 9, 20, 22: // NFT_CT_DST, _DST_IP, _DST_IP6
		return operand{text: "ct original daddr", kind: kindAddr}, dimDst, true
	case 10: // NFT_CT_PROTOCOL
		return operand{text: "ct original protocol", kind: kindProto}, dimProto, true
	case 11: // NFT_CT_PROTO_SRC
		return operand{text: "ct original proto-src", kind: kindPort}, dimSport, true
	case 12: // NFT_CT_PROTO_DST
		return operand{text: "ct original proto-dst", kind: kindPort}, dimDport, true
	}
	return o, d, false
}

// NFTA_FIB_DREG 1, RESULT 2, FLAGS 3; only the type of an address is known.
func (e *exprs) fib(n nested) step {
	const resultType, flagSrc, flagDst = 3, 1, 2 // NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_SADDR, NFTA_FIB_F_DADDR
	dreg, result, flags := n.be32(1), n.be32(2), n.be32(3)
	text := "fib"
	if flags&flagSrc != 0 {
		text += " saddr"
	}
	if flags&flagDst != 0 {
		text += " daddr"
	}
	e.regs[dreg] = operand{text: text + " type", kind: kindAddrType}
	return loads(dreg, func(m *machine) content {
		const unicast, local = 1, 2 // RTN_UNICAST, RTN_LOCAL
		w := word{unknown: ^uint32(0)}
		switch {
		case result != resultType:
		case flags == flagSrc:
			switch m.srcLocal(false) {
			case yes:
				w = word{bits: local}
			case no:
				w = word{bits: unicast}
			}
		case flags == flagDst && m.seen(dimDst) != dimDst: // it may be for this node, before nat
		case flags == flagDst && m.packet.dstUnicast == yes:
			w = word{bits: unicast}
		case flags == flagDst: // unicast 1, broadcast 3 or multicast 5: bit 0 is set, so it is not local
			w = word{bits: 1, unknown: 6}
		}
		return content{size: 4, number: &w}
	})
}
