// Package nl is the one netlink client: requests, dumps, and the attributes in both (netlink(7),
// include/uapi/linux/netlink.h). Package conntrack alone has a receive loop of its own, for a million entries.
package nl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
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

// Opener opens a netlink socket.
type Opener func() (Socket, error)

// receiveBuffer holds any datagram of a dump: they are at most 32 KiB (net/netlink/af_netlink.c, netlink_dump), unless
// a single message is larger, as that of a link with hundreds of alternative names is. A longer one is an error, not a
// loss.
const receiveBuffer = 32 << 10

// Route opens an rtnetlink socket in the network namespace of the calling thread.
func Route() (Socket, error) { return open(unix.NETLINK_ROUTE) }

// XFRM opens a socket for IPsec policies.
func XFRM() (Socket, error) { return open(unix.NETLINK_XFRM) }

// Netfilter opens an nfnetlink socket in the network namespace of the calling thread.
func Netfilter() (Socket, error) { return open(unix.NETLINK_NETFILTER) }

// open needs no capability and sets no option that only newer kernels know: netlink.Config.Strict cannot be had before
// 4.20.
func open(protocol int) (Socket, error) {
	c, err := netlink.Dial(protocol, &netlink.Config{MessageBufferSize: receiveBuffer})
	if err != nil {
		return nil, err
	}
	return c, nil
}

const (
	// defaultTimeout bounds each request on a Conn whose context has no deadline.
	defaultTimeout = 10 * time.Second
	// maxMessages bounds one answer, so that only a broken kernel reaches it. Old kernels send every nf_tables rule of the
	// namespace, whichever chain is asked for: a node of 10,000 services has some 200,000.
	maxMessages = 1 << 22
	// dumpTries bounds the repetitions of a dump that was interrupted.
	dumpTries = 4
)

// Errors of answers. Refusals of the kernel are unix.Errno.
var (
	// ErrInterrupted is a dump during which what was dumped changed (NLM_F_DUMP_INTR), at every try.
	ErrInterrupted = errors.New("changed while it was read, at every try")
	// ErrMalformed is an answer whose lengths contradict each other, or that lacks what it must have.
	ErrMalformed = errors.New("malformed netlink message")

	errEndless = errors.New("the kernel's answer does not end")
	errLeft    = errors.New("an answer was left in the middle")
)

// Conn is a netlink socket for a few requests. It is not safe for concurrent use.
type Conn struct {
	sock   Socket
	ctx    context.Context
	stop   func() bool
	broken error // an answer was left in the middle: what comes next may be the rest of it
}

// Dial opens a Conn. ctx bounds everything done with it: when ctx ends, pending and later calls fail.
func Dial(ctx context.Context, open Opener) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sock, err := open()
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	c := &Conn{sock: sock, ctx: ctx}
	if err := c.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("set deadline: %w", err), sock.Close())
	}
	c.stop = context.AfterFunc(ctx, c.wake)
	return c, nil
}

// begin sets the deadline of the next request.
func (c *Conn) begin() error {
	deadline, ok := c.ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(defaultTimeout)
	}
	err := c.sock.SetDeadline(deadline)
	return errors.Join(err, c.ctx.Err()) // it may have ended before the deadline was set
}

// wake ends a receive that waits; a socket closed meanwhile has nothing left to wake.
func (c *Conn) wake() { _ = c.sock.SetDeadline(time.Unix(1, 0)) }

// Close closes the socket.
func (c *Conn) Close() error {
	c.stop()
	return c.sock.Close()
}

// Get sends a request and returns the payload of the message that answers it, which must be of the reply type.
func (c *Conn) Get(request, reply netlink.HeaderType, data []byte) ([]byte, error) {
	answer, err := c.ask(request, 0, data)
	if err != nil {
		return nil, err
	}
	if answer.Header.Type != reply {
		return nil, ErrMalformed
	}
	return answer.Data, nil
}

// Do sends a request that the kernel answers by an acknowledgement, or by an error.
func (c *Conn) Do(request netlink.HeaderType, flags netlink.HeaderFlags, data []byte) error {
	answer, err := c.ask(request, netlink.Acknowledge|flags, data)
	if err == nil && answer.Header.Type != netlink.Error {
		err = ErrMalformed
	}
	return err
}

// ask sends a request and returns the one message of the answer. If there are more, the next request fails.
func (c *Conn) ask(
	request netlink.HeaderType, flags netlink.HeaderFlags, data []byte,
) (answer netlink.Message, err error) {
	err = ErrMalformed // when there is no message
	bad := c.exchange(request, flags, data, func(m netlink.Message) bool {
		answer, err = m, nil
		return false
	})
	return answer, cmp.Or(bad, err)
}

// Dump sends a dump request and hands the payload of each message of the reply type to each, as it comes; data is valid
// only during the call. A dump that was interrupted is repeated; reset is called before every try. An error of each
// ends the dump and is returned as it is; the Conn is then good for nothing but Close.
func (c *Conn) Dump(request, reply netlink.HeaderType, data []byte, reset func(), each func(data []byte) error) error {
	var err error
	for range dumpTries {
		reset()
		interrupted := false
		var refused error
		err = c.exchange(request, netlink.Dump, data, func(m netlink.Message) bool {
			interrupted = interrupted || m.Header.Flags&netlink.DumpInterrupted != 0
			if !interrupted && m.Header.Type == reply {
				refused = each(m.Data)
			}
			return refused == nil
		})
		switch {
		case err != nil:
		case refused != nil:
			return refused
		case interrupted:
			err = ErrInterrupted
		}
		again := errors.Is(err, ErrInterrupted) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN)
		if !again || c.broken != nil {
			break
		}
	}
	return err
}

// exchange sends a request and hands every message of the answer to each, until that returns false. After an error that
// is not the kernel's own refusal, and when a dump is left in the middle, the Conn is broken.
func (c *Conn) exchange(
	request netlink.HeaderType, flags netlink.HeaderFlags, data []byte, each func(m netlink.Message) bool,
) error {
	if c.broken != nil {
		return c.broken
	}
	if err := c.begin(); err != nil {
		return err
	}
	sent, err := c.sock.Send(netlink.Message{
		Header: netlink.Header{Type: request, Flags: netlink.Request | flags},
		Data:   data,
	})
	if err != nil {
		c.broken = err
		return err
	}
	n := 0
	for m, err := range c.sock.ReceiveIter() {
		if err != nil {
			if !refusal(err) {
				c.broken = err
			}
			return err
		}
		// What is left of another answer would end where that ends, and look like a short list.
		if got, want := m.Header, sent.Header; got.Sequence != want.Sequence || got.PID != want.PID {
			return c.leave(fmt.Errorf("the answer is to request %d of port %d, not %d of %d",
				got.Sequence, got.PID, want.Sequence, want.PID))
		}
		if n++; n > maxMessages {
			return c.leave(errEndless)
		}
		if !each(m) {
			if m.Header.Flags&netlink.Multi != 0 {
				_ = c.leave(errLeft)
			}
			break
		}
	}
	return nil
}

// leave ends an answer in the middle. Leaving ReceiveIter makes the socket drain the rest, until its deadline: this
// ends it at once.
func (c *Conn) leave(err error) error {
	c.broken = err
	c.wake()
	return err
}

// refusal tells the kernel's own refusal, which ends an answer, from a failure of the socket.
func refusal(err error) bool {
	return errors.As(err, new(unix.Errno)) && !errors.As(err, new(*os.SyscallError))
}
