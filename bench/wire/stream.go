package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	payload = 1400
	burst   = 32 // packets for one system call on the sender
	slice   = 50 // bursts
)

// traffic saturates the overlay.
type traffic interface {
	run(ctx context.Context, d time.Duration) (rates, error)
	close()
}

// stream sends UDP through the overlay and takes it out on the other side, all on one thread: the kernel then does the work of both
// ends, softirqs included, on the thread's account, and a round is as long as that takes, whatever else the machine does.
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

// rates are packets per second of slices of a round, all of the same number of bursts.
type rates []float64

// byWork is the mean over slices of the same number of packets.
func (r rates) byWork() float64 {
	var seconds float64
	for _, v := range r {
		seconds += 1 / v
	}
	return float64(len(r)) / seconds
}

// byTime is the mean over slices of the same time.
func (r rates) byTime() float64 {
	var sum float64
	for _, v := range r {
		sum += v
	}
	return sum / float64(len(r))
}

// run sends for d and returns the rate of each slice of some milliseconds, by CPU time.
func (s *stream) run(ctx context.Context, d time.Duration) (rates, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, in := make([]byte, burst*payload), make([]byte, 2*payload)
	var all rates
	for start := time.Now(); len(all) == 0 || time.Since(start) < d; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		before, arrived := threadTime(), 0
		for range slice {
			if _, err := unix.Write(s.from, out); err != nil {
				return nil, fmt.Errorf("send: %w", err)
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
					return nil, fmt.Errorf("receive: %w", err)
				}
			}
		}
		all = append(all, float64(arrived)/(threadTime()-before).Seconds())
	}
	return all, nil
}

func (s *stream) close() {
	unix.Close(s.from)
	unix.Close(s.to)
}

func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
