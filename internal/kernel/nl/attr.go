package nl

import (
	"bytes"
	"encoding/binary"
	"iter"
	"net/netip"
)

// Flags of an attribute's type (include/uapi/linux/netlink.h).
const (
	Nested       = 1 << 15 // NLA_F_NESTED
	NetByteOrder = 1 << 14 // NLA_F_NET_BYTEORDER

	attrHeader = 4 // struct nlattr: u16 length with header, u16 type; padded to 4
	attrType   = ^uint16(Nested | NetByteOrder)
)

// Next cuts the first attribute off b without copying; typ is without its flags. ok is false at the end of b, and where
// its length does not fit: then rest is not empty.
func Next(b []byte) (typ uint16, value, rest []byte, ok bool) {
	if len(b) < attrHeader {
		return 0, nil, b, false
	}
	n := int(binary.NativeEndian.Uint16(b))
	if n < attrHeader || n > len(b) {
		return 0, nil, b, false
	}
	// The kernel pads the last attribute too; other senders need not.
	return binary.NativeEndian.Uint16(b[2:]) & attrType, b[attrHeader:n], b[min((n+3)&^3, len(b)):], true
}

// Attrs walks the attributes in b. It stops at the first that does not fit.
func Attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for {
			typ, value, rest, ok := Next(b)
			if !ok || !yield(typ, value) {
				return
			}
			b = rest
		}
	}
}

// WellFormed reports whether b is nothing but attributes: Attrs would pass over what is behind one that does not fit
// without a word.
func WellFormed(b []byte) bool {
	for {
		_, _, rest, ok := Next(b)
		if !ok {
			return len(rest) == 0
		}
		b = rest
	}
}

// Each calls f with every attribute in b, and ends at its first error. Attributes before a malformed one are still
// handed over.
func Each(b []byte, f func(typ uint16, value []byte) error) error {
	for len(b) > 0 {
		typ, value, rest, ok := Next(b)
		if !ok {
			return ErrMalformed
		}
		if err := f(typ, value); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// Append appends an attribute, padded to four bytes. b must start aligned; a value is at most 65,531 bytes.
func Append[T string | []byte](b []byte, typ uint16, value T) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(attrHeader+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	for len(b)%attrHeader != 0 {
		b = append(b, 0)
	}
	return b
}

// Text is a string attribute up to its NUL, its bytes as they are.
func Text(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}

// Uint32 is a u32 attribute in the byte order of the machine.
func Uint32(b []byte) (uint32, error) {
	if len(b) != 4 {
		return 0, ErrMalformed
	}
	return binary.NativeEndian.Uint32(b), nil
}

// Index is the index of an interface: the kernel's is an int.
func Index(b []byte) (int, error) {
	n, err := Uint32(b)
	return int(int32(n)), err
}

// Flag is an attribute that says yes or no: by a u8, or, where it has no value, by being there (NLA_FLAG).
func Flag(b []byte) *bool {
	yes := len(b) == 0 || b[0] != 0
	return &yes
}

// Address is an attribute that holds an IPv4 address of 4 bytes, or an IPv6 address of 16.
func Address(b []byte, size int) (netip.Addr, error) {
	if len(b) != size {
		return netip.Addr{}, ErrMalformed
	}
	return AnyAddress(b)
}

// AnyAddress is an attribute that holds an address of either family.
func AnyAddress(b []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return a, ErrMalformed
	}
	return a, nil
}
