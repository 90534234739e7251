// Package nlattr writes netlink attributes (struct nlattr, include/uapi/linux/netlink.h) for requests that are built in place. Each
// reader walks replies in its own way: what a malformed one costs differs.
package nlattr

import "encoding/binary"

// Header is the size of struct nlattr: u16 length, u16 type.
const Header = 4

// Append appends an attribute, padded to four bytes. b must start aligned; a value is at most 65,531 bytes.
func Append[T string | []byte](b []byte, typ uint16, value T) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(Header+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	for len(b)%Header != 0 {
		b = append(b, 0)
	}
	return b
}
