package natrules

import (
	"bytes"
)

// operand is what a register of nf_tables holds while a rule is parsed: what it is of the packet that runs the rule,
// and what a person calls it. The zero operand is not known.
type operand struct {
	text string
	kind operandKind
	mask []byte // of a bitwise operation on it
	xor  []byte
	raw  []byte // a constant
	size int
	load func(m *machine) content // nil: not known
}

type operandKind uint8

const (
	kindHex operandKind = iota
	kindMark
	kindPort
	kindAddr
	kindName
	kindProto
	kindState
	kindFamily
	kindAddrType
	kindUser
)

func (o operand) content(m *machine) content {
	c := content{size: o.size}
	if o.load != nil {
		if c = o.load(m); c.size == 0 {
			c.size = o.size
		}
	}
	return c
}

// content is what a register holds of one packet: pieces of fields, or a number in host order. Where it is neither, it
// is not known.
type content struct {
	size   int // in bytes
	pieces []piece
	number *word
	mask   []byte // of a bitwise operation on the pieces
}

// piece is a field of the packet, or one of some values, from its first byte on.
type piece struct {
	dim       dim
	values    ranges // in place of a field
	off, size int    // in the register
	native    bool   // in host order
}

// oneOf is one of some values; none: not known.
func oneOf(size int, values ranges) content {
	if len(values) == 0 {
		return content{}
	}
	return content{pieces: []piece{{values: values, size: size}}}
}

func numbered(w word) content { return content{number: &w} }

func fieldContent(d dim, size int) content {
	return content{size: size, pieces: []piece{{dim: d, size: size}}}
}

// constantContent is a constant: it is compared as a number.
func constantContent(b []byte) content {
	if len(b) != 4 {
		return content{size: len(b)}
	}
	return content{size: 4, number: &word{bits: native(b)}}
}

// word is the number that c holds.
func (c content) word() word {
	if c.number == nil {
		return word{unknown: ^uint32(0)}
	}
	return *c.number
}

// bitwise is (c & mask) ^ xor.
func (c content) bitwise(mask, xor []byte) content {
	switch {
	case c.number != nil && len(mask) == 4:
		return numbered(c.number.and(native(mask)).xor(word{bits: native(xor)}))
	case len(c.pieces) == 1 && c.mask == nil && c.size == len(mask) && allZero(xor):
		c.mask = mask
		return c
	default:
		return content{}
	}
}

// headerPieces are the fields of a header from off on, as the payload expression reads it (RFC 791 section 3.1, RFC
// 8200 section 3; the tunnel adds no extension header).
func headerPieces(transport, ipv6 bool, off, size int) []piece {
	header := []piece{{dim: dimProto, off: 9, size: 1}, {dim: dimSrc, off: 12, size: 4}, {dim: dimDst, off: 16, size: 4}}
	if ipv6 {
		header = []piece{{dim: dimProto, off: 6, size: 1}, {dim: dimSrc, off: 8, size: 16}, {dim: dimDst, off: 24, size: 16}}
	}
	if transport {
		header = []piece{{dim: dimSport, off: 0, size: 2}, {dim: dimDport, off: 2, size: 2}}
	}
	var all []piece
	for _, p := range header {
		if p.off -= off; p.off >= 0 && p.off < size {
			p.size = min(p.size, size-p.off)
			all = append(all, p)
		}
	}
	return all
}

// width is the size of the whole field that p is of.
func (m *machine) width(p piece) int {
	if p.values != nil {
		return p.size
	}
	return m.packet.size(p.dim)
}

func (m *machine) within(p piece, r ranges) truth {
	if p.values != nil {
		return p.values.within(r)
	}
	return m.is(p.dim, r)
}

// whole is the one field that c holds, as it is.
func (m *machine) whole(c content) (p piece, ok bool) {
	if len(c.pieces) != 1 || c.mask != nil || c.pieces[0].native {
		return p, false
	}
	return c.pieces[0], c.size == m.width(c.pieces[0])
}

// inRange: first <= register <= last.
func (m *machine) inRange(c content, first, last []byte) truth {
	n, same := len(first), bytes.Equal(first, last)
	switch {
	case bytes.Compare(first, last) > 0:
		return no
	case n > c.size, !same && len(c.pieces) > 1, c.number != nil && (!same || n != 4):
		return maybe
	case c.number != nil:
		return c.number.masked(native(first), ^uint32(0))
	}
	t, told := yes, 0
	for _, p := range c.pieces {
		size := min(p.size, n-p.off)
		if size <= 0 {
			continue
		}
		var mask []byte
		if c.mask != nil {
			mask = c.mask[p.off:][:size]
		}
		if r, ok := m.spanned(p, mask, first[p.off:][:size], last[p.off:][:size]); ok {
			t, told = t.and(m.within(p, r)), told+size
		}
	}
	if told < n {
		t = t.and(maybe)
	}
	return t
}

// spanned are the numbers of a field whose first bytes, masked, are from first to last.
func (m *machine) spanned(p piece, mask, first, last []byte) (r ranges, ok bool) {
	low, high, same := bytes.Clone(first), bytes.Clone(last), bytes.Equal(first, last)
	switch {
	case p.native:
		return numbers(uint64(native(first))), same && len(first) == 4
	case mask != nil && (!same || !isPrefix(mask)):
		return nil, false
	case mask != nil && !bytes.Equal(maskedBytes(low, mask), first):
		return nil, true
	}
	for i := range mask {
		high[i] |= ^mask[i]
	}
	for range m.width(p) - len(first) {
		low, high = append(low, 0), append(high, 0xff)
	}
	return between(numberOf(low), numberOf(high)), true
}
