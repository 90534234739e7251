package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// Remote is a tunnel endpoint in the forwarding database of a VXLAN device.
type Remote struct {
	Addr netip.Addr
	Out  int // the interface that packets to it must leave by (NDA_IFINDEX); 0: any
}

var errFound = errors.New("found")

// FirstRemote is one endpoint that a VXLAN device sends to; ok is false where it has none. It needs a socket of its own, since the rest
// of the answer is not read.
func FirstRemote(ctx context.Context, open nl.Opener, index int) (first Remote, ok bool, err error) {
	c, err := Dial(ctx, open)
	if err != nil {
		return first, false, err
	}
	defer func() { _ = c.Close() }()
	// struct ifinfomsg, not ndmsg: it names the device (net/core/rtnetlink.c, valid_fdb_dump_legacy).
	request := make([]byte, unix.SizeofIfInfomsg)
	request[0] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(request[4:], uint32(index)) //nolint:gosec // an interface index is a positive int32
	err = c.Dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, request, func() {}, func(b []byte) error {
		r, of, err := parseRemote(b)
		if err != nil || of != index || !r.Addr.IsValid() || r.Addr.IsUnspecified() || r.Addr.IsMulticast() {
			return err
		}
		first = r
		return errFound
	})
	if errors.Is(err, errFound) {
		return first, true, nil
	}
	if err != nil {
		err = fmt.Errorf("rtnetlink: forwarding database of index %d: %w", index, err)
	}
	return first, false, err
}

// parseRemote reads struct ndmsg {u8 family; pad; s32 ifindex; u16 state; u8 flags, type} and its attributes.
func parseRemote(b []byte) (r Remote, index int, err error) {
	if len(b) < unix.SizeofNdMsg {
		return r, 0, nl.ErrMalformed
	}
	index = int(int32(binary.NativeEndian.Uint32(b[4:]))) //nolint:gosec // a signed field
	err = nl.Each(b[unix.SizeofNdMsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.NDA_DST:
			if len(v) == 4 || len(v) == 16 {
				r.Addr, err = nl.Address(v, len(v))
			}
		case unix.NDA_IFINDEX:
			var n uint32
			n, err = nl.Uint32(v)
			r.Out = int(n)
		}
		return err
	})
	return r, index, err
}
