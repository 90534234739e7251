package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// segment is what a full TCP segment carries: the MTU of the device less the IPv4 and TCP headers, with timestamps.
const segment = 1450 - 20 - 32

// connection sends over TCP.
type connection struct {
	from, to int
	carry    int // bytes received beyond whole segments
}

func (b *bed) startTCP() (traffic, error) {
	const address = "10.99.0.2:5001"
	c := &connection{from: -1, to: -1}
	var l net.Listener
	err := b.receiver.Do(func() (err error) { l, err = net.Listen("tcp4", address); return err })
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }()
	client, err := b.sender.DialContext(context.Background(), "tcp4", address)
	if err != nil {
		return nil, err
	}
	server, err := l.Accept()
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	if c.from, err = own(client); err == nil {
		c.to, err = own(server)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// own takes a connection out of the hands of the Go runtime, which would have other threads look after it.
func own(c net.Conn) (fd int, err error) {
	defer func() { err = errors.Join(err, c.Close()) }()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return -1, err
	}
	fd = -1
	err = errors.Join(raw.Control(func(p uintptr) { fd, err = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) }), err)
	return fd, err
}

func (c *connection) slice(ctx context.Context) (segments int, err error) {
	const wanted, patience = 1500 * segment, 5 * time.Second
	out, in := make([]byte, 32*segment), make([]byte, 256<<10)
	received, start := 0, time.Now()
	for received < wanted {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		_, err := unix.Write(c.from, out)
		full := errors.Is(err, unix.EAGAIN)
		if err != nil && !full {
			return 0, fmt.Errorf("send: %w", err)
		}
		n, err := unix.Read(c.to, in)
		switch {
		case err == nil:
			received += n
		case !errors.Is(err, unix.EAGAIN):
			return 0, fmt.Errorf("receive: %w", err)
		case full:
			// All is on its way: a timer or another thread has to go on.
			if time.Since(start) > patience {
				return 0, errors.New("the TCP connection stands still")
			}
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(c.to), Events: unix.POLLIN}}, 1); err != nil && !errors.Is(err, unix.EINTR) {
				return 0, fmt.Errorf("poll: %w", err)
			}
		}
	}
	received += c.carry
	c.carry = received % segment
	return received / segment, nil
}

func (c *connection) close() {
	unix.Close(c.from)
	unix.Close(c.to)
}
