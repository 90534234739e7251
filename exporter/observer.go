// Package exporter serves what the collectors observe: metrics, health and a status page. It reads nothing of the
// kernel itself.
package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/common/version"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

// DefaultTimeout bounds an observation that nobody gave a deadline.
const DefaultTimeout = 10 * time.Second

// Observer observes the node: one observation at a time, whoever asks, each collector with its own error and duration.
type Observer struct {
	first  *slot // finds the devices and ports, which the others need
	rest   []*slot
	logger *slog.Logger
	now    func() time.Time

	known node.Node // the last observation, with the last known devices and ports; of the observation under way

	mu      sync.Mutex
	current *observing   // the observation under way, or nil
	past    []*node.Node // counters of the last minutes, oldest first
}

// patient is how long an observation must be allowed to take for a failure in it to be logged. Who announces a
// shorter timeout gets what there is by then; that the collectors had no time is nothing that an administrator can
// mend, and the log must not be at a scraper's mercy.
const patient = time.Second / 2

// minRateInterval is how far apart the two observations that counters are compared of must be.
const minRateInterval = 5 * time.Second

// Observation is what was read of the node at one time.
type Observation struct {
	Node *node.Node
	// Answered holds the collectors that filled their part, completely or not.
	Answered map[string]bool
}

// slot is a collector and what the observer remembers of it.
type slot struct {
	collector collectors.Collector
	turn      chan struct{} // held by the call under way
	panicked  string        // what the previous call panicked with; of whoever holds the turn

	mu     sync.Mutex
	since  time.Time   // when the call under way began; zero when there is none
	logged node.Status // the status of the observation before; empty at first
}

// NewObserver makes an observer. first runs before the others, which then run side by side.
func NewObserver(logger *slog.Logger, first collectors.Collector, rest ...collectors.Collector) *Observer {
	slotOf := func(c collectors.Collector) *slot { return &slot{collector: c, turn: make(chan struct{}, 1)} }
	o := &Observer{first: slotOf(first), logger: logger, now: time.Now}
	for _, c := range rest {
		o.rest = append(o.rest, slotOf(c))
	}
	return o
}

// Collectors lists all collectors, the first one first.
func (o *Observer) Collectors() []collectors.Collector {
	var cs []collectors.Collector
	for _, s := range o.slots() {
		cs = append(cs, s.collector)
	}
	return cs
}

func (o *Observer) slots() []*slot { return append([]*slot{o.first}, o.rest...) }

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

// observing is an observation under way.
type observing struct {
	done     chan struct{}
	cutShort bool // it reached its deadline, or that of the device collector; valid once done is closed
	now      func() time.Time

	mu       sync.Mutex
	closed   bool // answers that come now are thrown away
	node     node.Node
	answered map[string]bool
	pending  map[string]time.Time // collectors that have not answered, with their start
}

// begin starts an observation. o.mu is held.
func (o *Observer) begin(ctx context.Context) *observing {
	start := o.now()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = start.Add(DefaultTimeout)
	}
	hostname, _ := os.Hostname() // empty when unknown; it is only shown
	l := &observing{
		done: make(chan struct{}), now: o.now, answered: map[string]bool{}, pending: map[string]time.Time{},
		node: node.Node{
			Schema: node.Schema, Time: start, Hostname: hostname, Exporter: version.Version,
			Results: map[string]node.Result{}, Earlier: o.earlier(start),
		},
	}
	for _, c := range o.Collectors() {
		l.pending[c.Name()] = start
	}
	o.current = l
	go o.run(l, deadline)
	return l
}

func (o *Observer) run(l *observing, deadline time.Time) {
	// Not derived from the caller's context: others may have joined, and a client that hangs up must not spoil their
	// answer.
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()

	// A collector that sees its deadline pass takes a moment to come back with what it has. So that this still
	// counts, its deadline is a moment before that of the observation.
	left := time.Until(deadline)
	moment := min(comeBack, left/10)
	work, cancelWork := context.WithDeadline(ctx, deadline.Add(-moment))
	defer cancelWork()

	// Should the device collector hang, the others still get half of the time.
	half, cancelHalf := context.WithTimeout(ctx, left/2)
	head, cancelHead := context.WithTimeout(half, left/2-moment)
	wait(half, o.observe(head, l, o.first, l.snapshot().Node))
	headCutShort := head.Err() != nil
	cancelHead()
	cancelHalf()

	known := o.knownTo(l)
	var all []<-chan struct{}
	for _, s := range o.rest {
		all = append(all, o.observe(work, l, s, known))
	}
	for _, c := range all {
		wait(ctx, c)
	}

	l.cutShort = headCutShort || work.Err() != nil
	l.close()
	seen := l.snapshot()
	for _, s := range o.slots() {
		if r := seen.Node.Results[s.collector.Name()]; r.Status != node.Failed || deadline.Sub(seen.Node.Time) >= patient {
			o.logChange(s, r)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.current = nil
	o.known = *seen.Node
	o.known.Devices, o.known.Ports = known.Devices, known.Ports
	if c := seen.Node.Counters(); c != nil &&
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
	now, first := l.snapshot().Node, o.first.collector
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

func wait(ctx context.Context, done <-chan struct{}) {
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// grace is how long an observation waits for a call that an earlier observation gave up. A call that sees its
// context end takes a moment to come back; one that does not is stuck in a system call.
const grace = 100 * time.Millisecond

// comeBack is how long before the end of an observation its collectors' deadline is, at most: also a busy machine
// wakes them up by then.
const comeBack = 250 * time.Millisecond

// observe runs one collector and stores its answer in l, unless l has ended by then. The channel closes when it has
// answered.
func (o *Observer) observe(ctx context.Context, l *observing, s *slot, known *node.Node) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		name, start := s.collector.Name(), o.now()
		if !s.enter(ctx, start) {
			// Another try would only pile up goroutines.
			l.answer(name, nil, node.NewResult(fmt.Errorf("%s: %w", name, s.inTheWay(o.now())), 0))
			return
		}
		fill, err := o.protect(ctx, s, known)
		s.leave()
		l.answer(name, fill, node.NewResult(err, o.now().Sub(start)))
	}()
	return done
}

// protect turns a panic of a collector into an error: it costs that collector's metrics and nothing else. A panic
// that comes again with every observation is logged once.
func (o *Observer) protect(ctx context.Context, s *slot, known *node.Node) (fill collectors.Fill, err error) {
	name, before := s.collector.Name(), s.panicked
	s.panicked = ""
	defer func() {
		if p := recover(); p != nil {
			if s.panicked = fmt.Sprint(p); s.panicked != before {
				o.logger.Error("collector panicked", "collector", name, "panic", s.panicked, "stack", string(debug.Stack()))
			}
			fill, err = nil, fmt.Errorf("%s: panic: %v (a bug, please report it)", name, p)
		}
	}()
	return s.collector.Observe(ctx, known)
}

// enter waits, but not for long, until no call of the collector is under way, and begins one. Where none is, it
// begins one even after ctx has ended: a collector may have something from before to tell.
func (s *slot) enter(ctx context.Context, now time.Time) bool {
	select {
	case s.turn <- struct{}{}:
	default:
		patience := time.NewTimer(grace)
		defer patience.Stop()
		select {
		case s.turn <- struct{}{}:
		case <-patience.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = now
	return true
}

func (s *slot) leave() {
	s.mu.Lock()
	s.since = time.Time{}
	s.mu.Unlock()
	<-s.turn
}

// inTheWay says why no call could begin.
func (s *slot) inTheWay(now time.Time) error {
	since, ok := s.busy()
	if !ok { // it came back as its time was read
		return errors.New("an earlier call has only just come back")
	}
	return fmt.Errorf("an earlier call has been hanging for %s", now.Sub(since).Round(time.Second))
}

// busy tells since when a call is under way, if one is.
func (s *slot) busy() (since time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since, !s.since.IsZero()
}

// answer stores what a collector found, unless the observation has ended: then the collector has failed already.
func (l *observing) answer(name string, fill collectors.Fill, r node.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	delete(l.pending, name)
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
	l.failPending(l.node.Results)
}

func (l *observing) failPending(readings map[string]node.Result) {
	now := l.now()
	for name, start := range l.pending {
		d := now.Sub(start)
		readings[name] = node.NewResult(fmt.Errorf("%s: no answer within %s: %w", name, d.Round(time.Millisecond),
			context.DeadlineExceeded), d)
	}
}

// snapshot copies what is known now. Collectors assign whole slices and maps, so a shallow copy is enough.
func (l *observing) snapshot() *Observation {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.node
	n.Results = maps.Clone(l.node.Results)
	if !l.closed {
		l.failPending(n.Results)
	}
	return &Observation{Node: &n, Answered: maps.Clone(l.answered)}
}

// logChange logs a collector's status once, when it is not what it was.
func (o *Observer) logChange(s *slot, r node.Result) {
	s.mu.Lock()
	before := s.logged
	s.logged = r.Status
	s.mu.Unlock()
	if before == r.Status {
		return
	}
	attrs := []any{"collector", s.collector.Name(), "status", string(r.Status)}
	switch {
	case !r.Succeeded():
		o.logger.Warn("collector failed", append(attrs, "err", r.Error)...)
	case r.Status == node.None:
		o.logger.Info("collector found nothing to read on this node", append(attrs, "reason", r.Error)...)
	case before != "":
		o.logger.Info("collector works again", attrs...)
	}
}
