package collectors

import (
	"context"
	"time"
)

// idleAfter is how long background work goes on after the last Observe.
const idleAfter = 10 * time.Minute

// background does what is due, as long as somebody observes. It carries the times of Observe.
type background chan time.Time

func newBackground() background { return make(background, 1) }

// observed takes note that somebody observes.
func (b background) observed() {
	select {
	case b <- time.Now():
	default: // the one before is just as good
	}
}

// run works when it is due, until ctx ends. It rests while nothing observes: from the start, and idleAfter the last
// time.
func (b background) run(ctx context.Context, due func() time.Time, work func(context.Context)) {
	var last time.Time
	timer := time.NewTimer(idleAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case last = <-b:
		case <-timer.C:
		}
		if time.Since(last) >= idleAfter {
			continue // the next Observe wakes it
		}
		wait := time.Until(due())
		if wait <= 0 {
			work(ctx)
			wait = 0 // when the next one is due depends on what this one found
		}
		timer.Reset(wait)
	}
}
