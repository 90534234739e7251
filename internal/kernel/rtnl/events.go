package rtnl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Events is a source of link notifications; *netlink.Conn is one.
type Events interface {
	Receive() ([]netlink.Message, error)
	SetReadDeadline(t time.Time) error
	Close() error
}

// eventBuffer is room for about a thousand notifications of 1 to 2 KiB each. More than that makes the kernel drop some
// and say so.
const eventBuffer = 2 << 20

// ListenLinks subscribes to the notifications of all links of the calling thread's network namespace (RTNLGRP_LINK).
func ListenLinks() (Events, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: unix.RTMGRP_LINK})
	if err != nil {
		return nil, err
	}
	// Without CAP_NET_ADMIN the kernel may grant less; lost events are dealt with anyhow.
	_ = c.SetReadBuffer(eventBuffer)
	return c, nil
}

// Watcher turns notifications into a flag that says: look again.
type Watcher struct {
	source  Events
	stop    func() bool
	done    chan struct{}
	changed chan struct{}
	failed  chan error
	overrun atomic.Bool // the kernel had to drop notifications (ENOBUFS, netlink(7))
}

// Watch listens until ctx ends.
func Watch(ctx context.Context, open func() (Events, error)) (*Watcher, error) {
	source, err := open()
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: subscribe to link events: %w", err)
	}
	w := &Watcher{source: source, done: make(chan struct{}), changed: make(chan struct{}, 1), failed: make(chan error, 1)}
	w.stop = context.AfterFunc(ctx, w.wake)
	go w.receive()
	return w, nil
}

// Changed has one element when a VXLAN device may have come or changed.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Failed has one element, the reason, when there will be no more events.
func (w *Watcher) Failed() <-chan error { return w.failed }

// Overrun reports whether notifications have been lost since the last call.
func (w *Watcher) Overrun() bool { return w.overrun.Swap(false) }

// wake ends a Receive that waits.
func (w *Watcher) wake() { _ = w.source.SetReadDeadline(time.Unix(1, 0)) }

// Close stops listening.
func (w *Watcher) Close() {
	w.stop()
	w.wake()
	<-w.done
	_ = w.source.Close()
}

func (w *Watcher) receive() {
	defer close(w.done)
	for {
		msgs, err := w.source.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			w.overrun.Store(true)
			w.signal()
		case err != nil:
			w.failed <- fmt.Errorf("rtnetlink: receive link events: %w", err)
			return
		default:
			if slices.ContainsFunc(msgs, concerns) {
				w.signal()
			}
		}
	}
}

func (w *Watcher) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// concerns reports whether a notification may be about a VXLAN device that came or changed. When in doubt it is.
func concerns(m netlink.Message) bool {
	if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
		return false
	}
	var l Link
	return l.parse(m.Data) != nil || l.Kind == kind
}
