package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// The limits of a request of Stalls: the first one's, a hundred times what an answer takes, and that of those after
// requests that were only late, shorter than the first SYN timeout of 1 s (RFC 6298), so that one that fails sends one
// packet.
const (
	firstPatience = 300 * time.Millisecond
	patience      = 900 * time.Millisecond
)

// Stalls makes requests until one is answered, or one sends a bad packet to the receiver, which is what makes it stall,
// and reports whether that was so. A request that is neither is only late, on a busy machine.
func (w *Wire) Stalls(ctx context.Context, request func(context.Context) error) (stalls bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for limit := firstPatience; ; limit = patience {
		before, err := w.Count()
		if err != nil {
			return false, err
		}
		bad := len(before.Bad)
		err = within(ctx, limit, request)
		if err == nil {
			return false, nil
		}
		var late net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) &&
			(!errors.As(err, &late) || !late.Timeout()) {
			return false, err
		}
		after, err := w.Count()
		switch {
		case err != nil:
			return false, err
		case len(after.Bad) > bad:
			return true, nil
		case ctx.Err() != nil:
			return false, fmt.Errorf("no request was answered, and no bad packet arrived: %w", ctx.Err())
		}
	}
}

func within(ctx context.Context, limit time.Duration, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return request(ctx)
}
