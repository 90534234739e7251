package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

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
	Out     int        // NDA_IFINDEX: the interface by which packets to a tunnel endpoint must leave; 0: any
	Port    uint16     // NDA_PORT: UDP port of a tunnel endpoint; 0: the device's
	Nexthop uint32     // NDA_NH_ID: the nexthop object that has the tunnel endpoints; 0: none
}

const nexthopID = 13 // NDA_NH_ID

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
	request := header(unix.SizeofNdMsg, family, index)
	if family != unix.AF_BRIDGE {
		request = nl.Append(header(unix.SizeofNdMsg, family, 0), unix.NDA_IFINDEX, number(index))
	}
	what := fmt.Sprint("neighbors of link ", index)
	all, err := dump(c, what, unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, request, ParseNeighbor)
	return slices.DeleteFunc(all, func(n Neighbor) bool { return n.Index != index }), err
}

var errFound = errors.New("found")

// FirstRemote is one endpoint that a VXLAN device sends to; ok is false where it has none. It needs a socket of its
// own, since the rest of the answer is not read.
func FirstRemote(ctx context.Context, open nl.Opener, index int) (first Neighbor, ok bool, err error) {
	c, err := Dial(ctx, open)
	if err != nil {
		return first, false, err
	}
	defer func() { _ = c.Close() }()
	// struct ifinfomsg, not ndmsg: it names the device (net/core/rtnetlink.c, valid_fdb_dump_legacy).
	request := header(unix.SizeofIfInfomsg, unix.AF_BRIDGE, index)
	err = c.Dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, request, func() {}, func(b []byte) error {
		first, err = ParseNeighbor(b)
		a := first.Addr
		if err != nil || first.Index != index || !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
			return err
		}
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return first, false, fmt.Errorf("rtnetlink: forwarding database of index %d: %w", index, err)
	}
	return first, err != nil, nil
}

// ParseNeighbor reads an RTM_NEWNEIGH message.
func ParseNeighbor(data []byte) (n Neighbor, err error) {
	if len(data) < unix.SizeofNdMsg {
		return n, nl.ErrMalformed
	}
	n.Forward = data[0] == unix.AF_BRIDGE
	n.Index = int(int32(binary.NativeEndian.Uint32(data[4:])))
	n.State, n.Flags = binary.NativeEndian.Uint16(data[8:]), data[10]
	err = nl.Each(data[unix.SizeofNdMsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.NDA_DST:
			n.Addr, err = nl.AnyAddress(v)
		case unix.NDA_LLADDR:
			n.LLAddr = string(v)
		case unix.NDA_IFINDEX:
			n.Out, err = nl.Index(v)
		case unix.NDA_PORT:
			if len(v) != 2 {
				return nl.ErrMalformed
			}
			n.Port = binary.BigEndian.Uint16(v)
		case nexthopID:
			n.Nexthop, err = nl.Uint32(v)
		}
		return err
	})
	return n, err
}
