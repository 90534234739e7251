package natrules

import (
	"bytes"
	"slices"
)

// content is what the registers of nf_tables hold from one on: fields of the packet, a number in host order, or one of
// some values. Where it is none of these, it is not known.
type content struct {
	at, size int // the first register of 4 bytes, and how many bytes
	fields   []piece
	number   *word
	values   [][]byte
	mask     []byte // of a bitwise operation on fields
}

// piece is a field of the packet from its first byte on.
type piece struct {
	dim       dim
	off, size int  // in the registers
	native    bool // in host order
}

func (c *content) end() int { return c.at + (c.size+3)/4 }

// registerAt finds a register: NFT_REG_1 to 4 are 16 bytes each, NFT_REG32_00 (8) to 15 are 4 bytes, in the same place.
func registerAt(number uint32) (at int, ok bool) {
	switch {
	case number >= 1 && number <= 4:
		return int(number-1) * 4, true
	case number >= 8 && number <= 23:
		return int(number - 8), true
	}
	return 0, false
}

func (m *machine) load(register uint32, c content) {
	at, ok := registerAt(register)
	if !ok {
		return
	}
	c.at = at
	m.registers = slices.DeleteFunc(m.registers, func(o content) bool { return o.at < c.end() && c.at < o.end() })
	m.registers = append(m.registers, c)
}

func (m *machine) loadNumber(register uint32, w word) { m.load(register, content{size: 4, number: &w}) }

// read is what was loaded to a register.
func (m *machine) read(register uint32) content {
	if at, ok := registerAt(register); ok {
		return m.readAt(at)
	}
	return content{}
}

func (m *machine) readAt(at int) content {
	for _, c := range m.registers {
		if c.at == at {
			return c
		}
	}
	return content{}
}

// word is the number that c holds.
func (c content) word() word {
	switch {
	case c.number != nil:
		return *c.number
	case len(c.values) == 1 && len(c.values[0]) >= 4:
		return word{bits: native(c.values[0][:4])}
	default:
		return word{unknown: ^uint32(0)}
	}
}

// bitwise is (c & mask) ^ xor.
func (c content) bitwise(mask, xor []byte) content {
	switch {
	case c.number != nil && c.size == 4:
		w := c.number.and(native(mask)).xor(word{bits: native(xor)})
		return content{size: 4, number: &w}
	case c.values != nil:
		values := make([][]byte, len(c.values))
		for i, v := range c.values {
			values[i] = maskedBytes(bytes.Clone(v[:c.size]), mask)
			for k := range values[i] {
				values[i][k] ^= xor[k]
			}
		}
		return content{size: c.size, values: values}
	case len(c.fields) == 1 && c.mask == nil && allZero(xor):
		c.mask = mask
		return c
	default:
		return content{size: c.size}
	}
}

// headerFields are the fields of a header from off on, as the payload expression reads it (RFC 791 section 3.1, RFC
// 8200 section 3; the tunnel adds no extension header).
func headerFields(transport, ipv6 bool, off, size int) []piece {
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

// wholeField is the one field that c holds, as it is.
func (m *machine) wholeField(c content) (d dim, ok bool) {
	if len(c.fields) != 1 || c.mask != nil || c.fields[0].native {
		return 0, false
	}
	d = c.fields[0].dim
	return d, c.size == m.packet.size(d)
}

// inRange: first <= register <= last.
func (m *machine) inRange(c content, first, last []byte) truth {
	n, same := len(first), bytes.Equal(first, last)
	switch {
	case bytes.Compare(first, last) > 0:
		return no
	case n > c.size:
		return maybe
	case c.values != nil:
		return alike(c.values, func(v []byte) bool {
			return bytes.Compare(v[:n], first) >= 0 && bytes.Compare(v[:n], last) <= 0
		})
	case !same && (c.number != nil || len(c.fields) > 1):
		return maybe
	case c.number != nil:
		return c.number.masked(native(first), ^uint32(0)).and(truthOf(n == 4).or(maybe))
	}
	t, told := yes, 0
	for _, p := range c.fields {
		if p.off+p.size > n {
			continue
		}
		r, ok := m.piece(p, c.mask, first[p.off:p.off+p.size], last[p.off:p.off+p.size])
		if ok {
			t, told = t.and(m.is(p.dim, r)), told+p.size
		}
	}
	if told < n {
		t = t.and(maybe)
	}
	return t
}

// piece are the numbers of a field of which a piece, masked, is from first to last.
func (m *machine) piece(p piece, mask, first, last []byte) (r ranges, ok bool) {
	low, high, same := bytes.Clone(first), bytes.Clone(last), bytes.Equal(first, last)
	switch {
	case p.native:
		return numbers(uint64(native(first))), same
	case mask != nil:
		if !same || !isPrefix(mask) {
			return nil, false
		}
		if !bytes.Equal(maskedBytes(low, mask), first) {
			return nil, true
		}
		for i := range high {
			high[i] |= ^mask[i]
		}
	}
	for rest := m.packet.size(p.dim) - p.size; rest > 0; rest-- {
		low, high = append(low, 0), append(high, 0xff)
	}
	return between(numberOf(low), numberOf(high)), true
}

func (m *machine) equal(c content, b []byte) truth { return m.inRange(c, b, b) }

func (m *machine) atLeast(c content, b []byte) truth {
	return m.inRange(c, b, bytes.Repeat([]byte{0xff}, len(b)))
}

func (m *machine) atMost(c content, b []byte) truth { return m.inRange(c, make([]byte, len(b)), b) }
