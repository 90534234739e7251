package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// waiter waits for the answers to the packets of a wave. It blocks in poll(2), outside Go's poller, which would make
// each socket cost a goroutine.
type waiter struct {
	packets []*packet
	fds     []unix.PollFd
	buf     [2048]byte
	oob     [512]byte
}

// wait returns when every packet has been answered, or at the timeout. All sockets are closed then.
func (w *waiter) wait(ctx context.Context, timeout time.Duration) {
	deadline := time.Now().Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	for len(w.packets) > 0 && ctx.Err() == nil {
		left := time.Until(deadline)
		if left <= 0 {
			break
		}
		w.fds = w.fds[:0]
		for _, p := range w.packets {
			w.fds = append(w.fds, unix.PollFd{Fd: int32(p.fd), Events: p.events()}) //nolint:gosec // a file descriptor
		}
		n, err := unix.Poll(w.fds, int((left+time.Millisecond-1)/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
		if n <= 0 {
			continue
		}
		w.collect(time.Now())
	}
	for _, p := range w.packets {
		if ctx.Err() != nil { // it was not waited for
			p.from.refused = "the round was interrupted"
		}
		p.from.record(p.ask, false)
		p.close()
	}
	w.packets = w.packets[:0]
}

// events are those that an answer makes: a connection that is established, or data. Errors are always reported.
func (p *packet) events() int16 {
	if p.ask.kind == syn {
		return unix.POLLOUT
	}
	return unix.POLLIN
}

// collect takes the packets out that have been answered.
func (w *waiter) collect(now time.Time) {
	open := w.packets[:0]
	for i, p := range w.packets {
		if w.fds[i].Revents == 0 || !w.answered(p, w.fds[i].Revents) {
			open = append(open, p)
			continue
		}
		p.from.record(p.ask, true)
		p.from.sender.RoundTrips = append(p.from.sender.RoundTrips, now.Sub(p.sent))
		p.close()
	}
	w.packets = open
}

// answered reports whether what happened on the socket comes from beyond the tunnel. A socket that has failed for good
// stays among those that wait, without events, until the wave ends.
func (w *waiter) answered(p *packet, events int16) bool {
	if events&(unix.POLLERR|unix.POLLHUP) != 0 {
		if w.errorQueue(p) {
			return true
		}
		errno, err := unix.GetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && unix.Errno(errno) == unix.ECONNREFUSED { //nolint:gosec // an errno
			return true
		}
		if p.ask.kind == syn { // over; poll(2) passes over negative descriptors
			p.close()
			return false
		}
	}
	if p.ask.kind == syn { // somebody listens there: closed without a word
		_ = unix.SetsockoptLinger(p.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		return events&unix.POLLOUT != 0
	}
	for {
		n, _, err := unix.Recvfrom(p.fd, w.buf[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return errors.Is(err, unix.ECONNREFUSED)
		case p.ask.kind != echo || p.echo.answers(w.buf[:n], p.from.six):
			return true
		}
	}
}

// errorQueue reads what ICMP errors came (ip(7), IP_RECVERR) and reports whether one is of another host than this: it
// has received the packet. "Too big" is of one that has not.
func (w *waiter) errorQueue(p *packet) bool {
	for {
		_, n, _, _, err := unix.Recvmsg(p.fd, w.buf[:], w.oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false
		}
		messages, err := unix.ParseSocketControlMessage(w.oob[:n])
		if err != nil {
			return false
		}
		for _, m := range messages {
			if from, ok := offender(m.Data, p.from.six); ok && !p.from.found.Own[from] {
				return true
			}
		}
	}
}

// offender is who sent the ICMP error of a struct sock_extended_err (include/uapi/linux/errqueue.h): errno, origin,
// type, code, pad, info, data and a socket address.
func offender(b []byte, six bool) (netip.Addr, bool) {
	const size = 16
	originICMP, unreachable := byte(unix.SO_EE_ORIGIN_ICMP), byte(3) // ICMP_DEST_UNREACH
	at, length := size+4, 4                                          // struct sockaddr_in
	if six {
		// ICMPV6_DEST_UNREACH, struct sockaddr_in6
		originICMP, unreachable, at, length = unix.SO_EE_ORIGIN_ICMP6, 1, size+8, 16
	}
	if len(b) < at+length || b[4] != originICMP || b[5] != unreachable ||
		unix.Errno(binary.NativeEndian.Uint32(b)) == unix.EMSGSIZE {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(b[at : at+length])
}
