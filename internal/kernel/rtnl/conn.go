package rtnl

import (
	"context"
	"fmt"

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
