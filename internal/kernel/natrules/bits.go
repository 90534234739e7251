package natrules

import "encoding/binary"

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

// word is a 32-bit number of which the bits in unknown are not known; those are 0 in bits.
type word struct{ bits, unknown uint32 }

// assign is (w &^ mask) ^ v: what every mark target comes down to (net/netfilter/xt_mark.c, mark_tg).
func (w word) assign(v, mask uint32) word { return w.and(^mask).xor(word{bits: v}) }

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

// native is a number of 4 bytes in the byte order of the machine, in which nf_tables keeps marks and interface indexes;
// 0 of other sizes.
func native(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}
