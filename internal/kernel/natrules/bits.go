package natrules

import (
	"encoding/binary"
	"net/netip"
)

// truth is a three-valued answer.
type truth uint8

const (
	no truth = iota
	maybe
	yes
)

func (t truth) not() truth { return yes - t }

func (t truth) and(u truth) truth { return min(t, u) }

func (t truth) or(u truth) truth { return max(t, u) }

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// partial is a byte of which only the bits in known are known; the others are 0 in bits.
type partial struct{ bits, known byte }

// value is a field of a packet, in the order it has in memory, with every bit known or not.
type value []partial

func unknownValue(n int) value { return make(value, n) }

func knownValue(b []byte) value {
	v := make(value, len(b))
	for i := range b {
		v[i] = partial{b[i], 0xff}
	}
	return v
}

// commonValue keeps the bits on which all candidates agree; without candidates nothing is known. All have n bytes.
func commonValue(n int, candidates [][]byte) value {
	if len(candidates) == 0 {
		return unknownValue(n)
	}
	v := knownValue(candidates[0])
	for _, c := range candidates[1:] {
		for i := range v {
			v[i].known &^= v[i].bits ^ c[i]
			v[i].bits &= v[i].known
		}
	}
	return v
}

// bytesOf are the bits of v, those that are not known as 0.
func bytesOf(v value) []byte {
	b := make([]byte, len(v))
	for i := range v {
		b[i] = v[i].bits
	}
	return b
}

// orZero is what v and zero have alike.
func (v value) orZero() value {
	w := unknownValue(len(v))
	for i := range v {
		w[i].known = v[i].known &^ v[i].bits
	}
	return w
}

// wordValue is a 32-bit number in host order, as nf_tables keeps marks and interface indexes in its registers.
func wordValue(w word) value {
	v := make(value, 4)
	var b, k [4]byte
	binary.NativeEndian.PutUint32(b[:], w.bits)
	binary.NativeEndian.PutUint32(k[:], ^w.unknown)
	for i := range v {
		v[i] = partial{b[i] & k[i], k[i]}
	}
	return v
}

// word is a 32-bit number of which the bits in unknown are not known; those are 0 in bits.
type word struct{ bits, unknown uint32 }

// assign is (w &^ mask) ^ v: what every mark target comes down to (net/netfilter/xt_mark.c, mark_tg).
func (w word) assign(v, mask uint32) word {
	unknown := w.unknown &^ mask
	return word{(w.bits&^mask ^ v) &^ unknown, unknown}
}

func (w word) and(mask uint32) word { return word{w.bits & mask, w.unknown & mask} }

func (w word) xor(x word) word {
	unknown := w.unknown | x.unknown
	return word{(w.bits ^ x.bits) &^ unknown, unknown}
}

// masked compares (w & mask) with v.
func (w word) masked(v, mask uint32) truth {
	switch known := mask &^ w.unknown; {
	case v&^mask != 0, w.bits&known != v&known:
		return no
	case known == mask:
		return yes
	default:
		return maybe
	}
}

func wordOf(v value) word {
	if len(v) < 4 {
		return word{unknown: ^uint32(0)}
	}
	var b, k [4]byte
	for i := range b {
		b[i], k[i] = v[i].bits, v[i].known
	}
	return word{binary.NativeEndian.Uint32(b[:]), ^binary.NativeEndian.Uint32(k[:])}
}

// equal compares v with b, as far as the shorter goes.
func (v value) equal(b []byte) truth {
	t := yes
	for i := 0; i < len(v) && i < len(b); i++ {
		if (v[i].bits^b[i])&v[i].known != 0 {
			return no
		}
		if v[i].known != 0xff {
			t = maybe
		}
	}
	return t
}

// masked compares v & mask with b.
func (v value) masked(b, mask []byte) truth {
	t := yes
	for i := range v {
		if i >= len(b) || i >= len(mask) {
			break
		}
		if (v[i].bits^b[i])&v[i].known&mask[i] != 0 || b[i]&^mask[i] != 0 {
			return no
		}
		if mask[i]&^v[i].known != 0 {
			t = maybe
		}
	}
	return t
}

// atLeast compares as memcmp does, most significant byte first: v >= b.
func (v value) atLeast(b []byte) truth {
	low, high := 0, 0 // comparison of the smallest and the largest possible v with b
	for i := 0; i < len(v) && i < len(b); i++ {
		if low == 0 {
			low = int(v[i].bits) - int(b[i])
		}
		if high == 0 {
			high = int(v[i].bits|^v[i].known) - int(b[i])
		}
	}
	switch {
	case low >= 0:
		return yes
	case high < 0:
		return no
	default:
		return maybe
	}
}

// atMost: v <= b.
func (v value) atMost(b []byte) truth {
	return v.atLeast(b).not().or(v.equal(b))
}

// between: low <= v <= high.
func (v value) between(low, high []byte) truth { return v.atLeast(low).and(v.atMost(high)) }

func portBytes(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }

// ifnameBytes is a name as the kernel compares it: padded with zeros to IFNAMSIZ.
func ifnameBytes(name string) []byte {
	b := make([]byte, 16)
	copy(b[:15], name)
	return b
}

// prefixBytes gives the address and the mask of p.
func prefixBytes(p netip.Prefix) (addr, mask []byte) {
	addr = p.Masked().Addr().AsSlice()
	mask = make([]byte, len(addr))
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return addr, mask
}
