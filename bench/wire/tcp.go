package main

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// tcpStream is a TCP connection through the overlay that never stops sending.
type tcpStream struct {
	received       atomic.Uint64
	client, server net.Conn
	failed         chan error
}

func (b *bed) startTCP() (traffic, error) {
	const address = "10.99.0.2:5001"
	s := &tcpStream{failed: make(chan error, 2)}
	var l net.Listener
	err := b.receiver.Do(func() (err error) {
		l, err = net.Listen("tcp4", address)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }()
	if s.client, err = b.sender.DialContext(context.Background(), "tcp4", address); err != nil {
		return nil, err
	}
	if s.server, err = l.Accept(); err != nil {
		return nil, errors.Join(err, s.client.Close())
	}
	go func() {
		buf := make([]byte, 256<<10)
		for {
			if _, err := s.client.Write(buf); err != nil {
				s.failed <- err
				return
			}
		}
	}()
	go func() {
		buf := make([]byte, 256<<10)
		for {
			n, err := s.server.Read(buf)
			s.received.Add(uint64(n))
			if err != nil {
				s.failed <- err
				return
			}
		}
	}()
	return s, nil
}

// run returns the rate in segments of 1398 bytes per second of wall time, in slices of 10 ms.
func (s *tcpStream) run(ctx context.Context, d time.Duration) (rates, error) {
	const segment = 1450 - 20 - 32 // MTU of the device less the IPv4 and TCP headers, with timestamps
	var all rates
	for end := time.Now().Add(d); time.Now().Before(end); {
		start, before := time.Now(), s.received.Load()
		select {
		case <-time.After(10 * time.Millisecond):
		case err := <-s.failed:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// At least one, so that a slice in which others had the CPU does not make the mean 0.
		n := max(float64(s.received.Load()-before)/segment, 1)
		all = append(all, n/time.Since(start).Seconds())
	}
	return all, nil
}

func (s *tcpStream) close() {
	_ = s.client.Close()
	_ = s.server.Close()
}
