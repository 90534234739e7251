package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// Neighbor is an entry of a neighbor table, or of a forwarding database (struct ndmsg, include/uapi/linux/neighbour.h).
type Neighbor struct {
	Index   int        // interface
	Addr    netip.Addr // overlay address of a neighbor, tunnel endpoint of a forwarding database; the zero Addr when unset
	LLAddr  string     // link-layer address as bytes; empty when not known
	State   uint16     // NUD_*
	Flags   uint8      // NTF_*
	Forward bool       // of a forwarding database

	out int // NDA_IFINDEX: the interface by which packets to a tunnel endpoint must leave; 0: any
}

// Usable reports whether packets are sent to the neighbor without asking for its link-layer address first, or with one
// known before.
func (n Neighbor) Usable() bool {
	return n.LLAddr != "" && n.State&(unix.NUD_INCOMPLETE|unix.NUD_FAILED) == 0
}

// Neighbors lists the neighbors of one interface, of both address families.
func (c *Conn) Neighbors(index int) ([]Neighbor, error) {
	return c.neighbors(unix.AF_UNSPEC, index)
}

// Forwarding lists the forwarding database of a VXLAN device or a bridge's port.
func (c *Conn) Forwarding(index int) ([]Neighbor, error) {
	return c.neighbors(unix.AF_BRIDGE, index)
}

func (c *Conn) neighbors(family byte, index int) ([]Neighbor, error) {
	// NDA_IFINDEX has the kernel send those of one interface (4.4; for AF_BRIDGE the field of the header); older ones send
	// all.
	request := make([]byte, unix.SizeofNdMsg, 32)
	request[0] = family
	number := binary.NativeEndian.AppendUint32(nil, uint32(index)) //nolint:gosec // an interface index is a positive int32
	if family == unix.AF_BRIDGE {
		copy(request[4:], number)
	} else {
		request = nl.Append(request, unix.NDA_IFINDEX, number)
	}
	var all []Neighbor
	var bad error
	err := c.Dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, request, func() { all, bad = all[:0], nil },
		func(data []byte) error {
			n, err := parseNeighbor(data)
			switch {
			case err != nil:
				bad = err
			case n.Index == index:
				all = append(all, n)
			}
			return nil
		})
	if err = errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("rtnetlink: dump neighbors of link %d: %w", index, err)
	}
	return all, nil
}

func parseNeighbor(data []byte) (n Neighbor, err error) {
	if len(data) < unix.SizeofNdMsg {
		return n, nl.ErrMalformed
	}
	n.Forward = data[0] == unix.AF_BRIDGE
	n.Index = int(int32(binary.NativeEndian.Uint32(data[4:])))
	n.State, n.Flags = binary.NativeEndian.Uint16(data[8:]), data[10]
	err = nl.Each(data[unix.SizeofNdMsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.NDA_DST:
			a, ok := netip.AddrFromSlice(v)
			if !ok {
				return nl.ErrMalformed
			}
			n.Addr = a
		case unix.NDA_LLADDR:
			n.LLAddr = string(v)
		case unix.NDA_IFINDEX:
			n.out, err = nl.Index(v)
		}
		return err
	})
	return n, err
}
