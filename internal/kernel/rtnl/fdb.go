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

// FirstRemote is one endpoint that a VXLAN device sends to; ok is false where it has none. It needs a socket of its
// own, since the rest of the answer is not read.
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
		n, err := parseNeighbor(b)
		if err != nil || n.Index != index || !n.Addr.IsValid() || n.Addr.IsUnspecified() || n.Addr.IsMulticast() {
			return err
		}
		first = Remote{n.Addr, n.out}
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
