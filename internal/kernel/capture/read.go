package capture

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxBatch bounds what one Read hands over; the queue holds fewer.
	maxBatch = 4096
	// While nothing comes, the queue is read idleFactor times less often, and never more often than every minIdle.
	idleFactor = 2
	minIdle    = 10 * time.Millisecond
)

// Batch is what one Read saw.
type Batch struct {
	Passed int           // packets that passed the filter, lost ones included
	Took   time.Duration // that the Read took, and as much of the time in which nothing is captured as belongs to it
}

// Read waits for Gather and hands over what is queued then; it waits again as long as nothing is, but not after the
// deadline. The error is ErrDown when the interface went away, os.ErrClosed after Close.
func (c *Capture) Read(deadline time.Time, each func(Packet)) (b Batch, err error) {
	state, first := c.State(), time.Now()
	for b.Passed == 0 {
		pause := c.gather
		if !c.flowing {
			pause = max(pause*idleFactor, minIdle)
		}
		// In a window, as many packets come as else in the whole cycle.
		pause = time.Duration(float64(pause) * state.Duty.In)
		last := false
		// Half as long again is not worth a wake-up of its own, and at rest nothing can come.
		if left := time.Until(deadline); !deadline.IsZero() && (left <= pause*3/2 || c.State().Resting) {
			pause, last = left, true
		}
		if !c.sleep(pause) {
			return b, fmt.Errorf("capture on %s: %w", c.name, os.ErrClosed)
		}
		c.mu.Lock()
		b.Passed, err = c.drain(state.Ratio, each)
		c.mu.Unlock()
		if err != nil {
			return b, err
		}
		if c.flowing = b.Passed > 0; last {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, drops, err := c.sock.Stats()
	if err != nil {
		return b, c.explain(fmt.Errorf("PACKET_STATISTICS: %w", err))
	}
	c.stats.Lost += uint64(drops)
	b.Passed += int(drops)
	b.Took = time.Duration(float64(time.Since(first)) / state.Duty.In)
	return b, nil
}

// sleep returns false when the capture is closed before d has passed.
func (c *Capture) sleep(d time.Duration) bool {
	if d > 0 {
		c.timer.Reset(d)
		select {
		case <-c.timer.C:
		case <-c.closed:
		}
	}
	select {
	case <-c.closed:
		return false
	default:
		return true
	}
}

// drain hands over what is queued. It is called with mu held.
func (c *Capture) drain(ratio float64, each func(Packet)) (n int, err error) {
	for n < maxBatch {
		got, err := c.receive(ratio, each)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			return n, c.explain(err)
		}
		n += got
	}
	return n, nil
}

// receive takes packets from the queue, one at least. One that is unreadable counts.
func (c *Capture) receive(ratio float64, each func(Packet)) (got int, err error) {
	// The filter cuts off what is longer.
	if longest := c.filter.MaxLength; c.room == nil || c.longest != longest {
		c.room, c.longest = NewMessages(longest), longest
	}
	got, err = c.sock.Receive(c.room)
	switch {
	case err == nil && got == 0:
		// RHEL 7's recvmmsg takes the error that says that the interface went away, and returns 0 instead
		// (net/socket.c, __sys_recvmmsg).
		return 0, os.NewSyscallError("recvmmsg", unix.ENETDOWN)
	case errors.Is(err, unix.EINVAL):
		c.stats.Unreadable++
		return 1, nil
	case err != nil:
		return 0, err
	}
	for i := range c.room[:got] {
		p := c.room[i].Packet()
		p.Meta.Link, p.Meta.MTU = c.iface.Link, c.iface.MTU
		if p.Ratio = ratio * c.duty.In; p.Meta.Outgoing {
			p.Ratio = ratio * c.duty.Out
		}
		each(p)
	}
	c.stats.Captured += uint64(got) // now that they are counted by whoever reads
	return got, nil
}
