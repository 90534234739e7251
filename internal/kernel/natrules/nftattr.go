package natrules

import (
	"encoding/binary"
	"iter"
)

// attr is one netlink attribute (include/uapi/linux/netlink.h, struct nlattr: u16 length with header, u16 type, padded to 4).
type attr struct {
	kind uint16
	data []byte
}

// attrs walks attributes in place. It stops at the first that does not fit.
func attrs(b []byte) iter.Seq[attr] {
	return func(yield func(attr) bool) {
		for len(b) >= 4 {
			size := int(binary.NativeEndian.Uint16(b))
			if size < 4 || size > len(b) {
				return
			}
			const flags = 0xc000 // NLA_F_NESTED, NLA_F_NET_BYTEORDER
			if !yield(attr{binary.NativeEndian.Uint16(b[2:]) &^ flags, b[4:size]}) {
				return
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

// wellFormed reports whether b is nothing but attributes: attrs, which stops at the first that does not fit, would pass over what is
// behind it without a word.
func wellFormed(b []byte) bool {
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return false
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return len(b) == 0
}

// nested are the attributes of one level, by type; nf_tables gives every type once, but in lists.
type nested map[uint16][]byte

func parseNested(b []byte) nested {
	n := nested{}
	for a := range attrs(b) {
		n[a.kind] = a.data
	}
	return n
}

// be32 reads a number; all numbers of nf_tables are big-endian. 0 when it is not there.
func (n nested) be32(kind uint16) uint32 {
	if b := n[kind]; len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (n nested) be64(kind uint16) uint64 {
	if b := n[kind]; len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (n nested) text(kind uint16) string { return cString(n[kind]) }

func (n nested) has(kind uint16) bool { _, ok := n[kind]; return ok }

// value is NFTA_DATA_VALUE of a nested NFTA_* data attribute.
func (n nested) value(kind uint16) []byte { return parseNested(n[kind])[1] }
