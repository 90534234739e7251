package natrules

import (
	"bytes"
	"encoding/binary"
	"slices"
)

const firstRegister = 8 // NFT_REG32_00

// origin is the field that a register was loaded from: its first bytes, the others left out.
type origin struct {
	known  bool
	dim    dim
	size   int    // bytes that were loaded
	mask   []byte // of a bitwise operation
	native bool   // in host order
}

// loadField loads a register from a field.
func (m *machine) loadField(register uint32, o origin, v value) {
	m.load(register, v)
	if at, ok := reg(register); ok {
		o.known = o.size > 0
		m.origins[at/4] = o
	}
}

func (m *machine) origin(register uint32) origin {
	if at, ok := reg(register); ok {
		return m.origins[at/4]
	}
	return origin{}
}

// part is a field of a header.
type part struct {
	off int
	dim dim
}

// header is a header as the payload expression reads it.
type header struct {
	value value
	parts []part
}

func (m *machine) network() header {
	p := m.packet
	if p.ipv6 {
		h := header{unknownValue(40), []part{{6, dimProto}, {8, dimSrc}, {24, dimDst}}} // RFC 8200 section 3; the tunnel adds no extension header
		h.value[0] = partial{0x60, 0xf0}
		return h
	}
	h := header{unknownValue(20), []part{{9, dimProto}, {12, dimSrc}, {16, dimDst}}} // RFC 791 section 3.1
	h.value[0] = partial{0x40, 0xf0}
	if p.outer {
		h.value[0] = partial{0x45, 0xff} // the tunnel writes no options (iptunnel_xmit)
	}
	return h
}

func (m *machine) transport() header {
	return header{unknownValue(8), []part{{0, dimSport}, {2, dimDport}}}
}

// loadHeader loads n bytes from off on.
func (m *machine) loadHeader(register uint32, h header, off, n int) {
	var from origin
	for _, f := range h.parts {
		copy(h.value[f.off:], m.value(f.dim))
		if off == f.off && n <= m.packet.size(f.dim) {
			from = origin{dim: f.dim, size: n}
		}
	}
	v := unknownValue(n)
	if off >= 0 && off < len(h.value) {
		copy(v, h.value[off:])
	}
	m.loadField(register, from, v)
}

// span are the numbers of a field whose first bytes, masked, are from first to last.
func (m *machine) span(o origin, first, last []byte) (r ranges, ok bool) {
	if !o.known || len(first) != o.size || len(last) != o.size {
		return nil, false
	}
	low, high := slices.Clone(first), slices.Clone(last)
	if o.native {
		if !bytes.Equal(first, last) {
			return nil, false
		}
		n := number{0, uint64(binary.NativeEndian.Uint32(first))}
		return ranges{{n, n}}, true
	}
	if o.mask != nil {
		if !bytes.Equal(first, last) || !isPrefix(o.mask) || !bytes.Equal(first, maskedBytes(slices.Clone(first), o.mask)) {
			return nil, false
		}
		for i := range high {
			high[i] |= ^o.mask[i]
		}
	}
	for rest := m.packet.size(o.dim) - o.size; rest > 0; rest-- {
		low, high = append(low, 0), append(high, 0xff)
	}
	return ranges{{numberOf(low), numberOf(high)}}, true
}

// inRange: first <= register <= last.
func (m *machine) inRange(register uint32, first, last []byte) truth {
	v := m.read(register, len(first))
	t := v.between(first, last)
	if bytes.Equal(first, last) {
		t = v.equal(first)
	}
	if t == maybe {
		o := m.origin(register)
		if r, ok := m.span(o, first, last); ok && bytes.Compare(first, last) <= 0 {
			return m.is(o.dim, r)
		}
	}
	return t
}

func (m *machine) equal(register uint32, b []byte) truth { return m.inRange(register, b, b) }

func (m *machine) atLeast(register uint32, b []byte) truth {
	return m.inRange(register, b, bytes.Repeat([]byte{0xff}, len(b)))
}

func (m *machine) atMost(register uint32, b []byte) truth {
	return m.inRange(register, make([]byte, len(b)), b)
}
