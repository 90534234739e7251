package rtnl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
)

// errMalformed is a message whose lengths contradict each other.
var errMalformed = errors.New("malformed netlink message")

const (
	attrHeader = 4         // struct nlattr, include/uapi/linux/netlink.h
	attrType   = 1<<14 - 1 // NLA_TYPE_MASK
)

// nextAttr splits the first attribute off b without copying. ok is false when its length does not fit in b. Fewer bytes than a
// header are padding (nla_ok).
func nextAttr(b []byte) (typ uint16, value, rest []byte, ok bool) {
	n := int(binary.NativeEndian.Uint16(b))
	if n < attrHeader || n > len(b) {
		return 0, nil, nil, false
	}
	return binary.NativeEndian.Uint16(b[2:]) & attrType, b[attrHeader:n], b[min((n+3)&^3, len(b)):], true
}

// eachAttr calls f with every attribute in b. Attributes before a malformed one are still handed over.
func eachAttr(b []byte, f func(typ uint16, value []byte) error) error {
	for len(b) >= attrHeader {
		typ, value, rest, ok := nextAttr(b)
		if !ok {
			return errMalformed
		}
		if err := f(typ, value); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// text is a NUL-terminated string attribute, its bytes as they are.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func u32(b []byte) (uint32, error) {
	if len(b) < 4 {
		return 0, errMalformed
	}
	return binary.NativeEndian.Uint32(b), nil
}

// flag is a u8 attribute that says yes or no.
func flag(b []byte) (*bool, error) {
	if len(b) < 1 {
		return nil, errMalformed
	}
	yes := b[0] != 0
	return &yes, nil
}

// address is an IPv4 or IPv6 address attribute.
func address(b []byte, size int) (netip.Addr, error) {
	if len(b) != size {
		return netip.Addr{}, errMalformed
	}
	a, _ := netip.AddrFromSlice(b)
	return a, nil
}
