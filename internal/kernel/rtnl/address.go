package rtnl

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// Address is an address of this namespace and the interface that bears it.
type Address struct {
	Index int
	Addr  netip.Addr
	Bits  int    // of its prefix
	Flags uint32 // IFA_F_*
	Scope uint8  // RT_SCOPE_*
}

// Addresses lists the addresses of one family (unix.AF_INET or AF_INET6) in the kernel's order, an interface's primary
// ones first.
func (c *Conn) Addresses(family byte) ([]Address, error) {
	request := header(unix.SizeofIfAddrmsg, family, 0)
	all, err := dump(c, "addresses", unix.RTM_GETADDR, unix.RTM_NEWADDR, request, ParseAddress)
	return slices.DeleteFunc(all, func(a Address) bool { return !a.Addr.IsValid() }), err
}

// Owners finds the interfaces that bear the given addresses, by one RTM_GETADDR dump per address family. An address
// that two interfaces bear goes to the one with the lower index; an address that none bears is missing in the result.
func (c *Conn) Owners(addrs []netip.Addr) (map[netip.Addr]int, error) {
	owners := make(map[netip.Addr]int)
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		wanted := make(map[netip.Addr]bool)
		for _, a := range addrs {
			if a.IsValid() && a.Is4() == (family == unix.AF_INET) {
				wanted[a.WithZone("")] = true
			}
		}
		if len(wanted) == 0 {
			continue
		}
		all, err := c.Addresses(family)
		if err != nil {
			return owners, err
		}
		for _, a := range all {
			if i, ok := owners[a.Addr]; wanted[a.Addr] && (!ok || a.Index < i) {
				owners[a.Addr] = a.Index
			}
		}
	}
	return owners, nil
}

// ParseAddress reads an RTM_NEWADDR message: struct ifaddrmsg (family u8, prefixlen u8, flags u8, scope u8, index u32)
// and its attributes. IFA_LOCAL is the interface's own address where a peer stands in IFA_ADDRESS; IPv6 sends it only
// then.
func ParseAddress(data []byte) (a Address, err error) {
	if len(data) < unix.SizeofIfAddrmsg {
		return a, nl.ErrMalformed
	}
	a.Index = int(int32(binary.NativeEndian.Uint32(data[4:])))
	a.Bits, a.Flags, a.Scope = int(data[1]), uint32(data[2]), data[3]
	var local netip.Addr
	err = nl.Each(data[unix.SizeofIfAddrmsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.IFA_LOCAL:
			local, err = nl.Address(v, addressSize(data[0]))
		case unix.IFA_ADDRESS:
			a.Addr, err = nl.Address(v, addressSize(data[0]))
		case unix.IFA_FLAGS:
			a.Flags, err = nl.Uint32(v)
		}
		return err
	})
	if local.IsValid() {
		a.Addr = local
	}
	if err == nil && a.Addr.IsValid() && a.Bits > a.Addr.BitLen() {
		err = nl.ErrMalformed
	}
	return a, err
}

// addressSize is the length of an address of a family.
func addressSize(family byte) int {
	if family == unix.AF_INET6 {
		return 16
	}
	return 4
}
