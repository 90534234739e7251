// Package exporter serves what the collectors observe: metrics, health and a status page. It reads nothing of the
// kernel itself.
package exporter

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/version"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

// DefaultTimeout bounds an observation that nobody gave a deadline.
const DefaultTimeout = 10 * time.Second

// patient is how long an observation must be allowed to take for a failure in it to be logged. Who announces a
// shorter timeout gets what there is by then; that the collectors had no time is nothing that an administrator can
// mend, and the log must not be at a scraper's mercy.
const patient = time.Second / 2

// minRateInterval is how far apart the two observations that counters are compared of must be.
const minRateInterval = 5 * time.Second

// grace is how long an observation waits for a call that an earlier observation gave up. A call that sees its
// context end takes a moment to come back; one that does not is stuck in a system call.
const grace = 100 * time.Millisecond

// comeBack is how long before the end of an observation its collectors' deadline is, at most, so that they come back
// in time with what they have: also a busy machine wakes them up by then.
const comeBack = 250 * time.Millisecond

// Observer observes the node: one observation at a time, whoever asks, each collector with its own error and duration.
type Observer struct {
	slots  []*slot // the first finds the devices and ports, which the others need
	logger *slog.Logger

	known node.Node // the last observation, with the last known devices and ports; of the observation under way

	mu      sync.Mutex
	current *observing   // the observation under way, or nil
	past    []*node.Node // counters of the last minutes, oldest first
}

// Observation is what was read of the node at one time.
type Observation struct {
	Node *node.Node
	// Answered holds the collectors that filled their part, completely or not.
	Answered map[string]bool
}

// slot is a collector and what the observer remembers of it.
type slot struct {
	collectors.Collector
	turn     chan struct{}             // held by the call under way
	since    atomic.Pointer[time.Time] // when the call under way began; nil when there is none
	panicked string                    // what the previous call panicked with; of whoever holds the turn
	logged   node.Status               // the status of the observation before, empty at first; of the one under way
}

// NewObserver makes an observer. first runs before the others, which then run side by side.
func NewObserver(logger *slog.Logger, first collectors.Collector, rest ...collectors.Collector) *Observer {
	o := &Observer{logger: logger}
	for _, c := range append([]collectors.Collector{first}, rest...) {
		o.slots = append(o.slots, &slot{Collector: c, turn: make(chan struct{}, 1)})
	}
	return o
}

// Collectors lists all collectors, the first one first.
func (o *Observer) Collectors() []collectors.Collector {
	var cs []collectors.Collector
	for _, s := range o.slots {
		cs = append(cs, s.Collector)
	}
	return cs
}

// Observe observes the node, or joins the observation that is under way. It returns at ctx's deadline with what has
// answered by then; a collector that has not is reported as failed. An observation ends at the deadline of the
// caller that began it; one who has more time, and joined an observation that was cut short, observes again.
func (o *Observer) Observe(ctx context.Context) *Observation {
	for {
		o.mu.Lock()
		l := o.current
		joined := l != nil
		if !joined {
			l = o.begin(ctx)
		}
		o.mu.Unlock()

		select {
		case <-l.done:
		case <-ctx.Done():
		}
		if !joined || ctx.Err() != nil || !l.cutShort {
			return l.snapshot()
		}
	}
}

// earlier is what an observation that begins now compares its counters with: the newest that is diagnosis.Recent old,
// or the oldest there is. nil when none is minRateInterval old. o.mu is held.
func (o *Observer) earlier(now time.Time) *node.Node {
	for len(o.past) > 1 && now.Sub(o.past[1].Time) >= diagnosis.Recent {
		o.past = o.past[1:]
	}
	if len(o.past) == 0 || now.Sub(o.past[0].Time) < minRateInterval {
		return nil
	}
	return o.past[0]
}

// begin starts an observation. o.mu is held.
func (o *Observer) begin(ctx context.Context) *observing {
	start := time.Now()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = start.Add(DefaultTimeout)
	}
	hostname, _ := os.Hostname() // empty when unknown; it is only shown
	o.current = &observing{
		slots: o.slots, done: make(chan struct{}), answered: map[string]bool{},
		node: node.Node{
			Schema: node.Schema, Time: start, Hostname: hostname, Exporter: version.Version,
			Results: map[string]node.Result{}, Earlier: o.earlier(start),
		},
	}
	go o.run(o.current, deadline)
	return o.current
}

func (o *Observer) run(l *observing, deadline time.Time) {
	left := time.Until(deadline)
	moment := min(comeBack, left/10)
	// Should the device collector hang, the others still get half of the time.
	firstCutShort := o.observeAll(l, o.slots[:1], deadline.Add(-left/2), moment, l.snapshot().Node)
	known := o.knownTo(l)
	l.cutShort = o.observeAll(l, o.slots[1:], deadline, moment, known) || firstCutShort
	l.close()
	seen := l.snapshot().Node
	for _, s := range o.slots {
		if r := seen.Results[s.Name()]; r.Status != node.Failed || deadline.Sub(seen.Time) >= patient {
			o.logChange(s, r)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.current = nil
	o.known = *seen
	o.known.Devices, o.known.Ports = known.Devices, known.Ports
	if c := seen.Counters(); c != nil &&
		(len(o.past) == 0 || c.Time.Sub(o.past[len(o.past)-1].Time) >= minRateInterval) {
		o.past = append(o.past, c)
	}
	close(l.done)
}

// configured is a first collector that knows ports without reading anything.
type configured interface{ ConfiguredPorts() []node.Port }

// knownTo is what the other collectors are told: the devices and ports of now, and all else as the last observation
// found it. Devices that were there last stand for those that could not be read now: the failure of one collector must
// not make the others search other places, or in none. They are not published.
func (o *Observer) knownTo(l *observing) *node.Node {
	now, first := l.snapshot().Node, o.slots[0].Collector
	result, known := now.Results[first.Name()], o.known
	if now.Devices != nil || result.Succeeded() {
		known.Devices, known.Ports = now.Devices, now.Ports
	} else if c, ok := first.(configured); ok && known.Ports == nil {
		known.Ports = c.ConfiguredPorts()
	}
	known.Time, known.Results = now.Time, map[string]node.Result{}
	maps.Copy(known.Results, o.known.Results)
	known.Results[first.Name()] = result
	return &known
}

// observeAll runs collectors side by side and waits for them until the deadline. Theirs is a moment before; it reports
// whether they reached it. No context is derived from a caller's: others may have joined, and a client that hangs up
// must not spoil their answer.
func (o *Observer) observeAll(
	l *observing, slots []*slot, deadline time.Time, moment time.Duration, known *node.Node,
) (cutShort bool) {
	wait, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	work, cancelWork := context.WithDeadline(wait, deadline.Add(-moment))
	defer cancelWork()
	answers := make(chan struct{}, len(slots))
	for _, s := range slots {
		go func() {
			o.observe(work, l, s, known)
			answers <- struct{}{}
		}()
	}
	for range slots {
		select {
		case <-answers:
		case <-wait.Done():
		}
	}
	return work.Err() != nil
}

// observe runs one collector and stores its answer in l, unless l has ended by then.
func (o *Observer) observe(ctx context.Context, l *observing, s *slot, known *node.Node) {
	start := time.Now()
	if !s.enter(ctx) {
		// Another try would only pile up goroutines.
		why := "an earlier call has only just come back"
		if since := s.since.Load(); since != nil {
			why = fmt.Sprintf("an earlier call has been hanging for %s", time.Since(*since).Round(time.Second))
		}
		l.answer(s.Name(), nil, node.NewResult(fmt.Errorf("%s: %s", s.Name(), why), 0))
		return
	}
	s.since.Store(&start)
	fill, err := o.protect(ctx, s, known)
	s.since.Store(nil)
	<-s.turn
	l.answer(s.Name(), fill, node.NewResult(err, time.Since(start)))
}

// protect turns a panic of a collector into an error: it costs that collector's metrics and nothing else. A panic
// that comes again with every observation is logged once.
func (o *Observer) protect(ctx context.Context, s *slot, known *node.Node) (fill collectors.Fill, err error) {
	before := s.panicked
	s.panicked = ""
	defer func() {
		if p := recover(); p != nil {
			if s.panicked = fmt.Sprint(p); s.panicked != before {
				o.logger.Error("collector panicked", "collector", s.Name(), "panic", s.panicked, "stack", string(debug.Stack()))
			}
			fill, err = nil, fmt.Errorf("%s: panic: %v (a bug, please report it)", s.Name(), p)
		}
	}()
	return s.Observe(ctx, known)
}

// enter waits, but not for long, until no call of the collector is under way. Where none is, one may begin even after
// ctx has ended: a collector may have something from before to tell.
func (s *slot) enter(ctx context.Context) bool {
	select {
	case s.turn <- struct{}{}:
		return true
	default:
	}
	select {
	case s.turn <- struct{}{}:
		return true
	case <-time.After(grace):
	case <-ctx.Done():
	}
	return false
}

// logChange logs a collector's status once, when it is not what it was.
func (o *Observer) logChange(s *slot, r node.Result) {
	before := s.logged
	s.logged = r.Status
	attrs := []any{"collector", s.Name(), "status", string(r.Status)}
	switch {
	case before == r.Status:
	case !r.Succeeded():
		o.logger.Warn("collector failed", append(attrs, "err", r.Error)...)
	case r.Status == node.None:
		o.logger.Info("collector found nothing to read on this node", append(attrs, "reason", r.Error)...)
	case before != "":
		o.logger.Info("collector works again", attrs...)
	}
}

// observing is an observation under way.
type observing struct {
	slots    []*slot
	done     chan struct{}
	cutShort bool // it reached its deadline, or that of the device collector; valid once done is closed

	mu       sync.Mutex
	closed   bool // answers that come now are thrown away
	node     node.Node
	answered map[string]bool
}

// answer stores what a collector found, unless the observation has ended: then the collector has failed already.
func (l *observing) answer(name string, fill collectors.Fill, r node.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if fill != nil {
		fill(&l.node)
		l.answered[name] = true
	}
	l.node.Results[name] = r
}

// close ends the observation: whoever has not answered has failed.
func (l *observing) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.failRest(l.node.Results)
}

// failRest adds the results of those that have not answered.
func (l *observing) failRest(results map[string]node.Result) {
	d := time.Since(l.node.Time)
	for _, s := range l.slots {
		if _, ok := results[s.Name()]; !ok {
			results[s.Name()] = node.NewResult(fmt.Errorf("%s: no answer within %s: %w", s.Name(),
				d.Round(time.Millisecond), context.DeadlineExceeded), d)
		}
	}
}

// snapshot copies what is known now. Collectors assign whole slices and maps, so a shallow copy is enough.
func (l *observing) snapshot() *Observation {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.node
	n.Results = maps.Clone(n.Results)
	l.failRest(n.Results)
	return &Observation{Node: &n, Answered: maps.Clone(l.answered)}
}
