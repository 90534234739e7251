package packet

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// For each packet that is sent, the kernel makes a copy of its descriptor for whoever may want to see it, before any filter is asked
// (dev_queue_xmit_nit, net/core/dev.c): 80 ns, or 7 % of a CPU that does nothing but VXLAN. So an interface that sends much is watched
// only part of the time, and what is seen then counts for the rest.
const (
	// fullRate is how many packets per second may be sent while all of them are seen: 1 % of a CPU.
	fullRate = 100_000
	// partRate is how many are seen per second at most, on average, when there are more.
	partRate = 50_000
	// window is for how long outgoing packets are seen at a time.
	window = 200 * time.Millisecond
	// look is how often the rate is looked at, seldom how often while it is far from too high.
	look   = 250 * time.Millisecond
	seldom = time.Second
)

// Outgoing decides when a Capture sees outgoing packets. It belongs to the goroutine that reads.
type Outgoing struct {
	capture *Capture
	next    time.Time // when to act
	opened  time.Time // of the window that is open; zero: none is, or all is seen
	ignored bool
	stuck   bool // this kernel cannot ignore outgoing packets (before 4.20)

	at   time.Time // of the last look at the rate
	sent uint64
	low  bool // the rate was far from too high
}

// NewOutgoing begins with everything being seen.
func NewOutgoing(c *Capture, now time.Time) *Outgoing {
	return &Outgoing{capture: c, next: now.Add(look)}
}

// Next is when Step wants to be called; the zero time: never.
func (o *Outgoing) Next() time.Time {
	if o.stuck {
		return time.Time{}
	}
	return o.next
}

// Step opens and closes the windows. Packets that are still queued are handed over as seen under the ratio before.
func (o *Outgoing) Step(now time.Time, each func(Packet)) error {
	switch {
	case o.stuck || now.Before(o.next):
		return nil
	case !o.opened.IsZero():
		// The pause is in proportion to how long the window really was.
		pause := time.Duration(float64(now.Sub(o.opened)) / o.capture.Duty())
		o.next, o.opened = o.opened.Add(pause), time.Time{}
		return o.see(false, 0, each)
	}
	duty, known := o.wanted(now)
	if o.next = now.Add(look); o.low {
		o.next = now.Add(seldom)
	}
	if duty == 1 {
		if !known || (!o.ignored && o.capture.Duty() == 1) {
			return nil
		}
		return o.see(true, 1, each)
	}
	o.opened, o.next = now, now.Add(window)
	return o.see(true, duty, each)
}

// wanted is the part of the time that the present rate allows.
func (o *Outgoing) wanted(now time.Time) (duty float64, known bool) {
	sent, err := o.capture.sent()
	if err != nil {
		// Gone for a moment, or not to be had at all: better see all than nothing.
		o.at = time.Time{}
		return 1, o.ignored
	}
	before, at := o.sent, o.at
	o.sent, o.at, o.low = sent, now, false
	if at.IsZero() || sent < before || !now.After(at) {
		return 1, o.ignored
	}
	rate := float64(sent-before) / now.Sub(at).Seconds()
	o.low = rate < fullRate/4
	if rate <= fullRate {
		return 1, true
	}
	return partRate / rate, true
}

// see switches outgoing packets on or off.
func (o *Outgoing) see(on bool, duty float64, each func(Packet)) error {
	err := o.capture.setOutgoing(on, duty, each)
	switch {
	case errors.Is(err, unix.ENOPROTOOPT):
		o.stuck = true // and everything is seen
		return nil
	case err != nil:
		// Half done, perhaps: the next step sees to it.
		o.ignored, o.opened = true, time.Time{}
		return err
	}
	o.ignored = !on
	return nil
}

// Duty is the part of the time that outgoing packets are seen.
func (c *Capture) Duty() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.duty
}

func (c *Capture) sent() (uint64, error) {
	c.mu.Lock()
	index := c.iface.Index
	c.mu.Unlock()
	return c.sock.Sent(index)
}

// setOutgoing hands over what is queued, which was seen under the duty before, ahead of a new one; 0 keeps the one before.
func (c *Capture) setOutgoing(on bool, duty float64, each func(Packet)) error {
	if duty != 0 {
		// Nothing outgoing may arrive between the last packet of the old duty and the first of the new one.
		if err := c.sock.IgnoreOutgoing(true); err != nil {
			return fmt.Errorf("capture on %s: PACKET_IGNORE_OUTGOING: %w", c.name, err)
		}
		if _, err := c.drain(c.Ratio(), each); err != nil {
			return err
		}
		c.mu.Lock()
		c.duty = duty
		c.mu.Unlock()
	}
	if err := c.sock.IgnoreOutgoing(!on); err != nil {
		return fmt.Errorf("capture on %s: PACKET_IGNORE_OUTGOING: %w", c.name, err)
	}
	return nil
}
