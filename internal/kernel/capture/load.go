package capture

import "time"

// load finds the part of the time in which a NIC may be captured on.
type load struct {
	capture *Capture
	handled func() (uint64, error)

	at     time.Time // of the counters before; zero: none
	before Counts
	stack  uint64
	low    bool // the rates were far from too high
}

// duty derives it from the rates since the last call, allowed times what usually may be seen. A NIC without counters is
// captured on all the time.
func (l *load) duty(now time.Time, allowed float64) Duty {
	counts, err := l.capture.counts()
	if err != nil {
		l.at = time.Time{}
		return always()
	}
	at, before, stack := l.at, l.before, l.stack
	l.at, l.before, l.stack, l.low = now, counts, 0, false
	if l.handled != nil {
		if n, err := l.handled(); err == nil { // it can only make the rate smaller
			l.stack = n
		}
	}
	if at.IsZero() || !now.After(at) || counts.Received < before.Received || counts.Sent < before.Sent {
		return always()
	}
	seconds := now.Sub(at).Seconds()
	in, out := float64(counts.Received-before.Received)/seconds, float64(counts.Sent-before.Sent)/seconds
	if stack != 0 && l.stack > stack {
		in = min(in, float64(l.stack-stack)/seconds)
	}
	l.low = max(in, out) < FullRate/4
	d := Duty{share(in, allowed*seenReceived), share(out, allowed*seenSent)}
	d.Out = min(d.In, d.Out) // what is sent is not seen while nothing is
	return d
}

// share is the part of the time in which a rate may be seen.
func share(rate, seen float64) float64 {
	if d := seen / rate; rate > FullRate && d <= maxDuty {
		return d
	}
	return 1
}
