package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	payload = 1400
	burst   = 32 // packets for one system call on the sender
	bursts  = 50 // in a slice
)

// stream sends UDP.
type stream struct{ from, to int }

func (b *bed) startUDP() (traffic, error) {
	s := &stream{from: -1, to: -1}
	receiver := &unix.SockaddrInet4{Port: 5001, Addr: [4]byte{10, 99, 0, 2}}
	err := b.receiver.Do(func() (err error) {
		if s.to, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		return errors.Join(unix.Bind(s.to, receiver), unix.SetsockoptInt(s.to, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20))
	})
	if err == nil {
		err = b.sender.Do(func() (err error) {
			if s.from, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			// One system call, and one way down the stack, for a burst, as TCP does it.
			return errors.Join(unix.SetsockoptInt(s.from, unix.IPPROTO_UDP, unix.UDP_SEGMENT, payload), unix.Connect(s.from, receiver))
		})
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("open the stream: %w", err)
	}
	return s, nil
}

func (s *stream) slice(ctx context.Context) (arrived int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	out, in := make([]byte, burst*payload), make([]byte, 2*payload)
	for range bursts {
		if _, err := unix.Write(s.from, out); err != nil {
			return 0, fmt.Errorf("send: %w", err)
		}
		for left := burst; left > 0; {
			switch _, err := unix.Read(s.to, in); {
			case err == nil:
				left--
				arrived++
			case errors.Is(err, unix.EAGAIN):
				// Another thread has the softirq. What it leaves comes with the next burst.
				left = 0
			default:
				return 0, fmt.Errorf("receive: %w", err)
			}
		}
	}
	return arrived, nil
}

func (s *stream) close() {
	unix.Close(s.from)
	unix.Close(s.to)
}
