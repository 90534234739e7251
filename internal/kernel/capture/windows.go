package capture

import (
	"errors"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// A tap costs every packet that passes the NIC, whatever its filter says: 110 ns when it is received (two indirect
// calls and a few cache lines, packet_rcv in net/packet/af_packet.c), 170 ns when it is sent (the kernel first makes a
// copy of its descriptor, dev_queue_xmit_nit in net/core/dev.c). That is 3 and 7 % of a CPU that does nothing but
// VXLAN. The filter is a tenth of it. So a NIC that carries more than a tap can see for 1 % of a CPU is captured on
// part of the time, and what is seen then counts for the rest.
const (
	// FullRate is how many packets per second may be received, or sent, while all of them are seen.
	FullRate = 100_000
	// maxDuty is up to where a part of the time is worth the switching.
	maxDuty = 0.85
	// How many packets per second are seen on average when there are more: about 1 % of a CPU in each direction, and no more than
	// suspectedRate times as much while a failure may be under way.
	seenReceived  = 100_000
	seenSent      = 50_000
	suspectedRate = 5

	// cycle is how long a pause and the window after it last together, unless the window would be shorter than
	// minWindow. It is short, so that what one window brings fits into the socket's queue. To rebind a socket takes
	// some 10 ms (synchronize_net).
	cycle     = 200 * time.Millisecond
	maxCycle  = 2 * time.Second
	minWindow = 10 * time.Millisecond

	// rateInterval is how often the rate is computed while all is seen, lowRateInterval how often while it is far from
	// too high.
	rateInterval    = 250 * time.Millisecond
	lowRateInterval = time.Second
)

// Duty is the part of the time that packets are seen, by direction.
type Duty struct{ In, Out float64 }

func always() Duty { return Duty{1, 1} }

// Windows decides when a Capture sees packets. It belongs to the goroutine that reads.
type Windows struct {
	cfg     WindowsConfig
	capture *Capture
	load    load

	next     time.Time // when to act
	phase    phase
	at       time.Time     // when the phase began
	length   time.Duration // of the pause and the window together, as the window has been planned
	over     [2]float64    // seconds that packets, in and out, have been seen for beyond their duty
	outKnown bool          // this kernel can ignore outgoing packets (4.20)
	urgent   bool          // a failure may be under way, at the last step
}

// WindowsConfig holds what Windows needs beside the capture.
type WindowsConfig struct {
	Now func() time.Time // nil: time.Now
	// Handled returns a number of packets that rises with all that the NICs bring, after several were put together
	// (GRO): a tap sees no more than that. nil: not known.
	Handled func() (uint64, error)
	// Suspected reports that a failure may be under way: more is seen then, as long as all of it can be judged. nil: never.
	Suspected func(now time.Time) bool
}

type phase int

const (
	full   phase = iota // all is seen
	pause               // nothing is seen, or nothing outgoing
	window              // all is seen, for a while
	half                // the rest of a window, without outgoing packets
)

// NewWindows begins with everything being seen, or as soon as Step is called.
func NewWindows(c *Capture, cfg WindowsConfig) *Windows {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	now := cfg.Now()
	w := &Windows{
		cfg:      cfg,
		capture:  c,
		load:     load{capture: c, handled: cfg.Handled},
		next:     now.Add(rateInterval),
		at:       now,
		outKnown: true,
	}
	if c.State().Duty != always() {
		w.phase, w.next = half, now // of a window that somebody else has left open
	}
	return w
}

// Next is when Step wants to be called.
func (w *Windows) Next() time.Time { return w.next }

// Step opens and closes the windows. Packets that are still queued are handed over as seen under the duty before.
func (w *Windows) Step(each func(Packet)) error {
	now, duty, calm := w.cfg.Now(), w.capture.State().Duty, !w.urgent
	w.urgent = w.suspected(now)
	switch {
	case w.phase != full && calm && w.urgent: // at once
	case now.Before(w.next):
		return nil
	case w.phase == pause:
		return w.open(duty)
	case w.phase == window && duty.Out < duty.In && duty.In < 1:
		w.account(1, duty.Out)
		w.phase, w.next = half, w.at.Add(w.wanted(0, duty.In))
		return w.see(true, false)
	}
	wanted := w.duty()
	if wanted == always() {
		return w.all(duty, each)
	}
	return w.close(duty, wanted, each)
}

// suspected reports whether more is to be seen: not where only a sample of it is judged anyhow.
func (w *Windows) suspected(now time.Time) bool {
	return w.cfg.Suspected != nil && w.capture.State().Ratio == 1 && w.cfg.Suspected(now)
}

// duty is what the present rates allow.
func (w *Windows) duty() Duty {
	allowed := 1.0
	if w.urgent {
		allowed = suspectedRate
	}
	d := w.load.duty(w.cfg.Now(), allowed)
	if !w.outKnown {
		d.Out = d.In
	}
	return d
}

// account ends a window of one direction.
func (w *Windows) account(direction int, duty float64) {
	if w.over[direction] += w.cfg.Now().Sub(w.at).Seconds() - duty*w.length.Seconds(); duty == 1 {
		w.over[direction] = 0
	}
}

// wanted is how long a window has to be for a duty, given what the ones before have brought.
func (w *Windows) wanted(direction int, duty float64) time.Duration {
	return max(time.Duration((duty*w.length.Seconds()-w.over[direction])*float64(time.Second)), 0)
}

// all begins to see everything.
func (w *Windows) all(before Duty, each func(Packet)) error {
	w.next = w.cfg.Now().Add(rateInterval)
	if w.load.low {
		w.next = w.cfg.Now().Add(lowRateInterval)
	}
	if w.phase == full {
		return nil
	}
	if err := w.change(before, always(), each); err != nil {
		return err
	}
	w.phase, w.over = full, [2]float64{}
	return w.see(true, true)
}

// close ends a window, or the time in which all was seen, and begins a pause.
func (w *Windows) close(before, wanted Duty, each func(Packet)) error {
	if w.phase == window || w.phase == half {
		w.account(0, before.In)
	}
	if w.phase == window {
		w.account(1, before.Out)
	}
	w.at = w.cfg.Now()
	if err := w.change(before, wanted, each); err != nil {
		return err
	}
	least, rarest := wanted.In, min(wanted.In, wanted.Out)
	if least == 1 {
		least = wanted.Out
	}
	length := min(max(cycle, time.Duration(float64(minWindow)/rarest)), maxCycle)
	// Retransmissions come by the clock. A pause of random length meets them by chance, not always or never.
	w.phase, w.next = pause, w.at.Add(time.Duration((1-least)*(0.5+rand.Float64())*float64(length)))
	return nil
}

// change goes over from one duty to another, with nothing new arriving until what is queued has been handed over.
func (w *Windows) change(before, wanted Duty, each func(Packet)) error {
	if err := w.see(before.In == 1 && wanted.In == 1, false); err != nil {
		return err
	}
	return w.capture.setDuty(wanted, each)
}

// open begins a window that makes up for the pause before it.
func (w *Windows) open(duty Duty) error {
	if err := w.see(true, true); err != nil {
		return err
	}
	now := w.cfg.Now()
	least, direction := duty.In, 0
	if least == 1 {
		least, direction = duty.Out, 1
	}
	w.length = time.Duration(float64(now.Sub(w.at)) / (1 - least))
	w.phase, w.at = window, now
	length := w.wanted(direction, least)
	if duty.In < 1 && duty.Out < duty.In {
		length = min(length, w.wanted(1, duty.Out))
	}
	w.next = now.Add(length)
	return nil
}

// see makes the capture see packets or not.
func (w *Windows) see(in, out bool) error {
	err := w.capture.see(in, out || !w.outKnown)
	if errors.Is(err, unix.ENOPROTOOPT) && w.outKnown {
		w.outKnown = false
		err = w.capture.see(in, true)
	}
	return err
}
