package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// NIC is what RTM_GETLINK says of any network device.
type NIC struct {
	Index   int
	Name    string
	Up      bool // IFF_UP: switched on by the administrator
	Running bool // IFF_LOWER_UP: the driver has carrier
	MTU     uint32
	Kind    string // IFLA_INFO_KIND, such as "bridge"; empty for hardware
	Master  int    // index of the bridge or the like that it is a port of; 0: none
	Type    uint16 // ARPHRD_*: of its link layer

	Received, Sent uint64 // packets (struct rtnl_link_stats64, rx_packets and tx_packets)
}

// NIC reads the device with this index. The error of a device that is gone satisfies fs.ErrNotExist.
func (c *Conn) NIC(index int) (NIC, error) {
	b := make([]byte, unix.SizeofIfInfomsg, 32)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	return c.nic(b, fmt.Sprintf("index %d", index))
}

// NICByName reads the device of this name. The error of a device that is gone satisfies fs.ErrNotExist.
func (c *Conn) NICByName(name string) (NIC, error) {
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return NIC{}, fmt.Errorf("rtnetlink: link %q: no such name can be: %w", name, fs.ErrNotExist)
	}
	b := make([]byte, unix.SizeofIfInfomsg, 64)
	return c.nic(nl.Append(b, unix.IFLA_IFNAME, name+"\x00"), fmt.Sprintf("%q", name))
}

func (c *Conn) nic(request []byte, what string) (NIC, error) {
	request = nl.Append(request, unix.IFLA_EXT_MASK, binary.NativeEndian.AppendUint32(nil, skipStats))
	data, err := c.Get(unix.RTM_GETLINK, unix.RTM_NEWLINK, request)
	if errors.Is(err, unix.ENODEV) {
		return NIC{}, fmt.Errorf("rtnetlink: link %s: %w: %w", what, err, fs.ErrNotExist)
	}
	if err != nil {
		return NIC{}, fmt.Errorf("rtnetlink: link %s: %w", what, err)
	}
	nic, err := parseNIC(data)
	if err != nil {
		return NIC{}, fmt.Errorf("rtnetlink: link %s: %w", what, err)
	}
	return nic, nil
}

func parseNIC(data []byte) (nic NIC, err error) {
	if len(data) < unix.SizeofIfInfomsg {
		return nic, nl.ErrMalformed
	}
	nic.Index, nic.Up = linkHeader(data)
	nic.Type = binary.NativeEndian.Uint16(data[2:])
	nic.Running = binary.NativeEndian.Uint32(data[8:])&unix.IFF_LOWER_UP != 0
	err = nl.Each(data[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.IFLA_IFNAME:
			nic.Name = nl.Text(v)
		case unix.IFLA_MTU:
			nic.MTU, err = nl.Uint32(v)
		case unix.IFLA_MASTER:
			nic.Master, err = nl.Index(v)
		case unix.IFLA_STATS64:
			if len(v) < 16 {
				return nl.ErrMalformed
			}
			nic.Received, nic.Sent = binary.NativeEndian.Uint64(v), binary.NativeEndian.Uint64(v[8:])
		case unix.IFLA_LINKINFO:
			err = nl.Each(v, func(typ uint16, v []byte) error {
				if typ == unix.IFLA_INFO_KIND {
					nic.Kind = nl.Text(v)
				}
				return nil
			})
		}
		return err
	})
	if err == nil && (nic.Index <= 0 || nic.Name == "") {
		err = nl.ErrMalformed
	}
	return nic, err
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

// Address is an address of this namespace and the interface that bears it.
type Address struct {
	Index int
	Addr  netip.Addr
}

// Addresses lists the addresses of one family (unix.AF_INET or AF_INET6) in the kernel's order, an interface's primary
// ones first.
func (c *Conn) Addresses(family byte) ([]Address, error) {
	request := make([]byte, unix.SizeofIfAddrmsg)
	request[0] = family
	var all []Address
	var bad error
	err := c.Dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, request, func() { all, bad = all[:0], nil },
		func(data []byte) error {
			a, index, err := parseAddr(data)
			if err != nil {
				bad = err
			} else if a.IsValid() {
				all = append(all, Address{index, a})
			}
			return nil
		})
	if err = errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("rtnetlink: dump addresses of family %d: %w", family, err)
	}
	return all, nil
}

// parseAddr reads an RTM_NEWADDR message: struct ifaddrmsg (family u8, prefixlen u8, flags u8, scope u8, index u32) and
// its attributes. IFA_LOCAL is the interface's own address where a peer stands in IFA_ADDRESS; IPv6 sends it only then.
func parseAddr(data []byte) (a netip.Addr, index int, err error) {
	if len(data) < unix.SizeofIfAddrmsg {
		return a, 0, nl.ErrMalformed
	}
	index = int(int32(binary.NativeEndian.Uint32(data[4:])))
	size := 4
	if data[0] == unix.AF_INET6 {
		size = 16
	}
	var local, remote netip.Addr
	err = nl.Each(data[unix.SizeofIfAddrmsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.IFA_LOCAL:
			local, err = nl.Address(v, size)
		case unix.IFA_ADDRESS:
			remote, err = nl.Address(v, size)
		}
		return err
	})
	if local.IsValid() {
		return local, index, err
	}
	return remote, index, err
}
