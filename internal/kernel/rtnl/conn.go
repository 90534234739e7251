package rtnl

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Socket is what a Conn needs of a netlink socket; *netlink.Conn is one.
type Socket interface {
	Send(m netlink.Message) (netlink.Message, error)
	ReceiveIter() iter.Seq2[netlink.Message, error]
	SetDeadline(t time.Time) error
	Close() error
}

// Opener opens an rtnetlink socket.
type Opener func() (Socket, error)

// receiveBuffer holds any datagram of a dump: they are at most 32 KiB (net/netlink/af_netlink.c, netlink_dump), unless a single link
// message is larger, which takes hundreds of alternative names. A longer one is an error, not a loss.
const receiveBuffer = 32 << 10

// Open opens an rtnetlink socket in the network namespace of the calling thread. It needs no capability and sets no option that
// only newer kernels know.
func Open() (Socket, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{MessageBufferSize: receiveBuffer})
	if err != nil {
		return nil, err
	}
	return c, nil
}

const (
	// defaultTimeout bounds a look whose context has no deadline.
	defaultTimeout = 10 * time.Second
	// maxMessages bounds one dump: more links than a namespace can hold in practice, so only a broken kernel reaches it.
	maxMessages = 1 << 20
	// dumpTries bounds the repetitions of a dump that the kernel flags as inconsistent (NLM_F_DUMP_INTR).
	dumpTries = 4
)

// Conn is an rtnetlink socket for one look at the node. It is not safe for concurrent use.
type Conn struct {
	sock Socket
	stop func() bool
}

// Dial opens a Conn. ctx bounds everything done with it: when ctx ends, pending and later calls fail.
func Dial(ctx context.Context, open Opener) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	sock, err := open()
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: open socket: %w", err)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(defaultTimeout)
	}
	if err := sock.SetDeadline(deadline); err != nil {
		return nil, errors.Join(fmt.Errorf("rtnetlink: set deadline: %w", err), sock.Close())
	}
	stop := context.AfterFunc(ctx, func() {
		// Wakes a blocked receive; a socket closed meanwhile has nothing left to wake.
		_ = sock.SetDeadline(time.Unix(1, 0))
	})
	return &Conn{sock: sock, stop: stop}, nil
}

// Close closes the socket.
func (c *Conn) Close() error {
	c.stop()
	return c.sock.Close()
}

// errInterrupted is a dump that the kernel flagged as changed under way every time it was tried.
var errInterrupted = errors.New("changed while it was read, at every try")

// errEndless is a dump that does not end.
var errEndless = errors.New("the kernel's answer does not end")

// Dump sends a dump request and hands each message of the reply type to each; data is valid only during the call. A dump that the
// kernel flags as changed under way is repeated; reset is called before every try. An error of each ends the dump and is returned as
// it is. After an error the Conn is good for nothing but Close.
func (c *Conn) Dump(request, reply netlink.HeaderType, data []byte, reset func(), each func(data []byte) error) error {
	for range dumpTries {
		reset()
		interrupted, err := c.dumpOnce(request, reply, data, each)
		if err != nil {
			return err
		}
		if !interrupted {
			return nil
		}
	}
	return errInterrupted
}

func (c *Conn) dumpOnce(request, reply netlink.HeaderType, data []byte, each func([]byte) error) (interrupted bool, err error) {
	req, err := c.sock.Send(netlink.Message{
		Header: netlink.Header{Type: request, Flags: netlink.Request | netlink.Dump},
		Data:   data,
	})
	if err != nil {
		return false, err
	}
	n := 0
	for m, err := range c.sock.ReceiveIter() {
		if err != nil {
			return false, err
		}
		err = answers(m, req)
		if n++; n > maxMessages {
			err = errEndless
		}
		if err == nil && m.Header.Type == reply {
			interrupted = interrupted || m.Header.Flags&netlink.HeaderFlags(unix.NLM_F_DUMP_INTR) != 0
			err = each(m.Data)
		}
		if err != nil {
			// Leaving the loop would make the socket drain the rest, until the deadline; this ends it at once.
			_ = c.sock.SetDeadline(time.Unix(1, 0))
			return false, err
		}
	}
	return interrupted, nil
}

// answers demands that m answers req. What is left of another answer would end where that ends, and look like a short list.
func answers(m, req netlink.Message) error {
	if m.Header.Sequence != req.Header.Sequence || m.Header.PID != req.Header.PID {
		return fmt.Errorf("the answer is to request %d of port %d, not %d of %d", m.Header.Sequence, m.Header.PID, req.Header.Sequence, req.Header.PID)
	}
	return nil
}

// get sends a request for one object and returns the first message of the reply type; nil when there was none.
func (c *Conn) get(request, reply netlink.HeaderType, data []byte) ([]byte, error) {
	req, err := c.sock.Send(netlink.Message{Header: netlink.Header{Type: request, Flags: netlink.Request}, Data: data})
	if err != nil {
		return nil, err
	}
	for m, err := range c.sock.ReceiveIter() {
		if err != nil {
			return nil, err
		}
		if err := answers(m, req); err != nil {
			return nil, err
		}
		if m.Header.Type == reply {
			return m.Data, nil
		}
	}
	return nil, nil
}
