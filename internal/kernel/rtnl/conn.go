package rtnl

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"

	"vxlan_exporter/internal/kernel/nl"
)

// Conn is an rtnetlink socket for one observation. It is not safe for concurrent use.
type Conn struct{ *nl.Conn }

// Dial opens a Conn; nil opens an rtnetlink socket in the network namespace of the calling thread. ctx bounds
// everything done with it.
func Dial(ctx context.Context, open nl.Opener) (*Conn, error) {
	if open == nil {
		open = nl.Route
	}
	c, err := nl.Dial(ctx, open)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	return &Conn{c}, nil
}

// dump asks for a list and returns what parse makes of its messages, those without an error. There is no list after an
// error of the dump itself.
func dump[T any](
	c *Conn, what string, get, reply netlink.HeaderType, request []byte, parse func(data []byte) (T, error),
) (all []T, err error) {
	var bad error
	err = c.Dump(get, reply, request, func() { all, bad = all[:0], nil }, func(data []byte) error {
		if one, err := parse(data); err == nil {
			all = append(all, one)
		} else if bad == nil {
			bad = err
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: dump %s: %w", what, err)
	}
	if bad != nil {
		bad = fmt.Errorf("rtnetlink: dump %s: %w", what, bad)
	}
	return all, bad
}

// number is a u32 attribute's value. Indexes of interfaces and file descriptors are positive and fit.
func number[T int | uint32](n T) []byte {
	return binary.NativeEndian.AppendUint32(nil, uint32(n)) //nolint:gosec // see above
}

// header is a request's fixed part, of which all but the family and, for links and bridges, the index is 0.
func header(size int, family byte, index int) []byte {
	b := make([]byte, size, 96)
	b[0] = family
	if index != 0 {
		copy(b[4:], number(index))
	}
	return b
}
