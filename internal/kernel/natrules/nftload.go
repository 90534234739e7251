package natrules

import (
	"fmt"
)

// NFTA_META_DREG 1, KEY 2, SREG 3; keys from enum nft_meta_keys.
func (e *exprs) meta(n nested) step {
	const (
		metaProtocol, metaMark, metaIIF, metaOIF, metaIIFName, metaOIFName = 1, 3, 4, 5, 6, 7
		metaUID, metaGID, metaNFProto, metaL4Proto                         = 10, 11, 15, 16
	)
	dreg, key, sreg := n.be32(1), n.be32(2), n.be32(3)
	if n.has(3) {
		return e.setMeta(key == metaMark, key, sreg)
	}
	known := map[uint32]operand{
		metaProtocol: {text: "meta protocol"}, metaMark: {text: "meta mark", kind: kindMark},
		metaIIF: {text: "iif", kind: kindMark}, metaOIF: {text: "oif", kind: kindMark},
		metaIIFName: {text: "iifname", kind: kindName}, metaOIFName: {text: "oifname", kind: kindName},
		metaUID: {text: "meta skuid", kind: kindUser}, metaGID: {text: "meta skgid", kind: kindUser},
		metaNFProto: {text: "meta nfproto", kind: kindFamily}, metaL4Proto: {text: "meta l4proto", kind: kindProto},
	}
	o, ok := known[key]
	if !ok {
		o.text = fmt.Sprintf("meta (key %d)", key)
	}
	e.regs[dreg] = o
	return func(m *machine) effect {
		p := m.packet
		v := unknownValue(16)
		switch key {
		case metaMark:
			v = wordValue(m.state.mark)
		case metaOIF:
			v, _ = m.out()
		case metaOIFName:
			_, v = m.out()
		case metaIIF:
			v, _ = m.in()
		case metaIIFName:
			_, v = m.in()
		case metaUID, metaGID: // without a socket the expression breaks off (nft_meta_get_eval_skugid)
			m.loadField(dreg, origin{dim: dimUID + dim(key-metaUID), size: 4, native: true}, unknownValue(4))
			return matched(m.socket())
		case metaNFProto:
			v = knownValue([]byte{nfIPv4})
			if p.ipv6 {
				v = knownValue([]byte{nfIPv6})
			}
		case metaL4Proto:
			m.loadField(dreg, origin{dim: dimProto, size: 1}, m.value(dimProto))
			return goOn
		case metaProtocol:
			v = knownValue([]byte{0x08, 0x00})
			if p.ipv6 {
				v = knownValue([]byte{0x86, 0xdd})
			}
		default:
			v = v[:4]
		}
		m.load(dreg, v)
		return goOn
	}
}

func (e *exprs) setMeta(mark bool, key, sreg uint32) step {
	o := e.regs[sreg]
	if !mark {
		e.say(fmt.Sprintf("meta (key %d) set %s", key, o.value(kindHex)), "")
		return func(*machine) effect { return goOn }
	}
	text := "meta mark set " + o.value(kindMark)
	e.say(text, text)
	return func(m *machine) effect {
		m.state.mark = wordOf(m.read(sreg, 4))
		return goOn
	}
}

// NFTA_PAYLOAD_DREG 1, BASE 2, OFFSET 3, LEN 4, SREG 5.
func (e *exprs) payload(n nested) step {
	const baseNetwork, baseTransport = 1, 2
	dreg, base, off, size := n.be32(1), n.be32(2), int(n.be32(3)), int(n.be32(4))
	if n.has(5) {
		e.say("(payload write)", "")
		return unknownVerdict
	}
	if size > 64 || off > 1<<16 {
		size, base = 0, 99
	}
	e.regs[dreg] = e.field(base, off, size)
	return func(m *machine) effect {
		switch base {
		case baseNetwork:
			m.loadHeader(dreg, m.network(), off, size)
		case baseTransport:
			m.loadHeader(dreg, m.transport(), off, size)
		default:
			m.load(dreg, unknownValue(size))
			return matched(maybe)
		}
		return goOn
	}
}

// field names a part of a header.
func (e *exprs) field(base uint32, off, size int) operand {
	type place struct {
		base      uint32
		off, size int
	}
	switch (place{base, off, size}) {
	case place{1, 12, 4}:
		return operand{text: "ip saddr", kind: kindAddr}
	case place{1, 16, 4}:
		return operand{text: "ip daddr", kind: kindAddr}
	case place{1, 8, 16}:
		return operand{text: "ip6 saddr", kind: kindAddr}
	case place{1, 24, 16}:
		return operand{text: "ip6 daddr", kind: kindAddr}
	case place{1, 9, 1}:
		return operand{text: "ip protocol", kind: kindProto}
	case place{1, 6, 1}:
		return operand{text: "ip6 nexthdr", kind: kindProto}
	case place{2, 0, 2}:
		return operand{text: "th sport", kind: kindPort}
	case place{2, 2, 2}:
		return operand{text: "th dport", kind: kindPort}
	}
	if base == 1 && size < 4 && off == 12 || base == 1 && size < 4 && off == 16 { // a prefix on a byte boundary
		name := map[int]string{12: "ip saddr", 16: "ip daddr"}[off]
		if e.key.family == nfIPv4 {
			return operand{text: name, kind: kindAddr}
		}
	}
	return operand{text: fmt.Sprintf("@%d,%d,%d", base, off*8, size*8)}
}

// NFTA_CT_DREG 1, KEY 2, DIRECTION 3, SREG 4; keys from enum nft_ct_keys.
func (e *exprs) ct(n nested) step {
	const ctState0, ctStatus, ctMark = 0, 2, 3
	dreg, key, sreg := n.be32(1), n.be32(2), n.be32(4)
	if n.has(4) {
		o := e.regs[sreg]
		if key != ctMark {
			e.say(fmt.Sprintf("ct (key %d) set", key), "")
			return func(*machine) effect { return goOn }
		}
		e.say("ct mark set "+o.value(kindMark), "")
		return func(m *machine) effect {
			m.state.ctmark = wordOf(m.read(sreg, 4))
			return goOn
		}
	}
	switch key {
	case ctState0:
		e.regs[dreg] = operand{text: "ct state", kind: kindState}
	case ctMark:
		e.regs[dreg] = operand{text: "ct mark", kind: kindMark}
	case ctStatus:
		e.regs[dreg] = operand{text: "ct status"}
	default:
		e.regs[dreg] = operand{text: fmt.Sprintf("ct (key %d)", key)}
	}
	return func(m *machine) effect {
		switch key {
		case ctState0:
			s := ctState(m)
			nft := word{s.bits &^ ctNAT, s.unknown &^ ctNAT}
			if nft.bits&ctUntracked != 0 {
				nft.bits = nftUntracked
			}
			if nft.unknown&ctUntracked != 0 {
				nft.unknown ^= ctUntracked | nftUntracked
			}
			m.load(dreg, wordValue(nft))
			return goOn
		case ctMark:
			m.load(dreg, wordValue(m.state.ctmark))
		default:
			m.load(dreg, unknownValue(16))
		}
		return matched(tracked(m)) // without a flow the expression breaks off (nft_ct_get_eval)
	}
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
	return func(m *machine) effect {
		const unicast, local = 1, 2 // RTN_UNICAST, RTN_LOCAL
		v := word{unknown: ^uint32(0)}
		switch {
		case result != resultType:
		case flags == flagSrc:
			switch m.srcLocal(false) {
			case yes:
				v = word{bits: local}
			case no:
				v = word{bits: unicast}
			}
		case flags == flagDst && m.seen(dimDst) != dimDst: // it may be for this node, before nat
		case flags == flagDst && m.packet.dstUnicast == yes:
			v = word{bits: unicast}
		case flags == flagDst: // unicast 1, broadcast 3 or multicast 5: bit 0 is set, so it is not local
			v = word{bits: 1, unknown: 6}
		}
		m.load(dreg, wordValue(v))
		return goOn
	}
}
