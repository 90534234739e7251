package capture

import (
	"math/rand/v2"
	"time"
)

// A tap costs every packet that passes the NIC, whatever its filter says: 110 ns when it is received (two indirect
// calls and a few cache lines, packet_rcv in net/packet/af_packet.c), 170 ns when it is sent (the kernel first makes a
// copy of its descriptor, dev_queue_xmit_nit in net/core/dev.c). That is 3 and 7 % of a CPU that does nothing but
// VXLAN. The filter is a tenth of it. So a NIC that carries more than a tap can see for 1 % of a CPU is captured on
// part of the time, and what is seen then counts for the rest.
const (
	// fullRate is how many packets per second may be received, or sent, while all of them are seen.
	fullRate = 100_000
	// maxDuty is up to where a part of the time is worth the switching.
	maxDuty = 0.85
	// How many packets per second are seen on average when there are more: about 1 % of a CPU in each direction, and no
	// more than suspectedRate times as much while a failure may be under way.
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

// least is the part of the time that a pause leaves, and whose it is: of both directions (0), or of what goes out (1).
func (d Duty) least() (duty float64, direction int) {
	if d.In < 1 {
		return d.In, 0
	}
	return d.Out, 1
}

// Windows decides when a Capture sees packets. It belongs to the goroutine that reads.
type Windows struct {
	cfg     WindowsConfig
	capture *Capture

	next   time.Time // when to act
	phase  phase
	at     time.Time     // when the phase began
	length time.Duration // of the pause and the window together, as the window has been planned
	over   [2]float64    // seconds that packets, in and out, have been seen for beyond their duty
	urgent bool          // a failure may be under way, at the last step

	counted time.Time // when the counters were read last; zero: they were not
	counts  Counts
	handled uint64 // 0: not known
	low     bool   // the rates were far from too high
}

// WindowsConfig holds what Windows needs beside the capture.
type WindowsConfig struct {
	Now func() time.Time // nil: time.Now
	// Handled returns a number of packets that rises with all that the NICs bring, after several were put together
	// (GRO): a tap sees no more than that. nil: not known.
	Handled func() (uint64, error)
	// Suspected reports that a failure may be under way: more is seen then, as long as all can be judged. nil: never.
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
	w := &Windows{cfg: cfg, capture: c, next: now.Add(rateInterval), at: now}
	if c.State().Duty != always() {
		w.phase, w.next = half, now // of a window that somebody else has left open
	}
	return w
}

// Next is when Step wants to be called.
func (w *Windows) Next() time.Time { return w.next }

// Step opens and closes the windows. Packets that are still queued are handed over as seen under the duty before.
func (w *Windows) Step(each func(Packet)) error {
	now, state, calm := w.cfg.Now(), w.capture.State(), !w.urgent
	duty := state.Duty
	// Not where only a sample is judged anyhow.
	w.urgent = w.cfg.Suspected != nil && state.Ratio == 1 && w.cfg.Suspected(now)
	switch {
	case w.phase != full && calm && w.urgent: // at once
	case now.Before(w.next):
		return nil
	case w.phase == pause:
		return w.open(duty)
	case w.phase == window && duty.Out < duty.In && duty.In < 1:
		w.account(1, duty.Out)
		w.phase, w.next = half, w.at.Add(w.wanted(0, duty.In))
		return w.capture.see(true, false)
	}
	wanted := w.duty()
	if wanted == always() {
		return w.all(duty, each)
	}
	return w.close(duty, wanted, each)
}

// duty is what the rates since the last call allow. A NIC without counters is captured on all the time.
func (w *Windows) duty() Duty {
	now := w.cfg.Now()
	since, before, handled := w.counted, w.counts, w.handled
	iface, err := w.capture.sock.Interface(w.capture.name)
	w.counted, w.counts, w.handled, w.low = now, iface.Counts, 0, false
	if err != nil {
		w.counted = time.Time{}
		return always()
	}
	if w.cfg.Handled != nil {
		if n, err := w.cfg.Handled(); err == nil { // it can only make the rate smaller
			w.handled = n
		}
	}
	if since.IsZero() || !now.After(since) || w.counts.Received < before.Received || w.counts.Sent < before.Sent {
		return always()
	}
	seconds := now.Sub(since).Seconds()
	in, out := float64(w.counts.Received-before.Received)/seconds, float64(w.counts.Sent-before.Sent)/seconds
	if handled != 0 && w.handled > handled {
		in = min(in, float64(w.handled-handled)/seconds)
	}
	w.low = max(in, out) < fullRate/4
	allowed := 1.0
	if w.urgent {
		allowed = suspectedRate
	}
	d := Duty{share(in, allowed*seenReceived), share(out, allowed*seenSent)}
	if d.Out = min(d.In, d.Out); w.capture.seesOutgoing { // what is sent is not seen while nothing is
		d.Out = d.In
	}
	return d
}

// share is the part of the time in which a rate may be seen.
func share(rate, seen float64) float64 {
	if d := seen / rate; rate > fullRate && d <= maxDuty {
		return d
	}
	return 1
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
	if w.low {
		w.next = w.cfg.Now().Add(lowRateInterval)
	}
	if w.phase == full {
		return nil
	}
	if err := w.change(before, always(), each); err != nil {
		return err
	}
	w.phase, w.over = full, [2]float64{}
	return w.capture.see(true, true)
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
	least, _ := wanted.least()
	length := min(max(cycle, time.Duration(float64(minWindow)/min(wanted.In, wanted.Out))), maxCycle)
	// Retransmissions come by the clock. A pause of random length meets them by chance, not always or never.
	w.phase, w.next = pause, w.at.Add(time.Duration((1-least)*(0.5+rand.Float64())*float64(length)))
	return nil
}

// change goes over from one duty to another, with nothing new arriving until what is queued has been handed over.
func (w *Windows) change(before, wanted Duty, each func(Packet)) error {
	if err := w.capture.see(before.In == 1 && wanted.In == 1, false); err != nil {
		return err
	}
	return w.capture.setDuty(wanted, each)
}

// open begins a window that makes up for the pause before it.
func (w *Windows) open(duty Duty) error {
	if err := w.capture.see(true, true); err != nil {
		return err
	}
	now := w.cfg.Now()
	least, direction := duty.least()
	w.length = time.Duration(float64(now.Sub(w.at)) / (1 - least))
	w.phase, w.at = window, now
	length := w.wanted(direction, least)
	if duty.In < 1 && duty.Out < duty.In {
		length = min(length, w.wanted(1, duty.Out))
	}
	w.next = now.Add(length)
	return nil
}
