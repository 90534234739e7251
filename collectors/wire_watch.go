package collectors

import (
	"errors"
	"time"

	"vxlan_exporter/internal/kernel/capture"
	"vxlan_exporter/internal/kernel/procnet"
)

const (
	// wireIdle is how often an idle watch that samples wakes up, to raise the ratio again.
	wireIdle = time.Second
	// wireRetry is how often a watch tries an interface that is gone.
	wireRetry = time.Second
)

// wireWatch reads the packets of one interface.
type wireWatch struct {
	name    string
	capture *capture.Capture
	ports   func() []uint16 // as known last
	closed  chan struct{}
	done    chan struct{}
	err     error // why it ended; to be read once done is closed
}

// run reads until the watch is closed or fails.
func (w *wireWatch) run(c *Wire) {
	defer close(w.done)
	counted := 0
	count := func(p capture.Packet) {
		counted++
		if c.tally.add(w.name, p) {
			c.suspicion.bad(time.Now())
		}
	}
	conf := capture.WindowsConfig{
		Handled:   func() (uint64, error) { return procnet.Processed(c.cfg.Proc) },
		Suspected: c.suspicion.suspected,
	}
	windows := capture.NewWindows(w.capture, conf)
	for {
		deadline := windows.Next()
		if idle := time.Now().Add(wireIdle); c.sampler.current() < c.sampler.top && idle.Before(deadline) {
			deadline = idle
		}
		b, err := w.capture.Read(deadline, count)
		counted = 0 // of those, b.Passed knows
		if err == nil {
			err = windows.Step(count)
		}
		if err == nil {
			err = w.capture.SetRatio(c.sampler.passed(b.Passed+counted, b.Took), count)
		}
		switch {
		case w.isClosed():
			return
		case errors.Is(err, capture.ErrDown):
			c.cfg.Logger.Warn("wire: interface is down", "interface", w.name, "err", err)
			if err := w.wait(); err != nil {
				w.err = err
				return
			}
			if w.isClosed() {
				return
			}
			c.cfg.Logger.Info("wire: interface is up again", "interface", w.name)
			windows = capture.NewWindows(w.capture, conf)
		case err != nil:
			w.err = err
			return
		}
	}
}

// wait waits until the interface is up.
func (w *wireWatch) wait() error {
	t := time.NewTicker(wireRetry)
	defer t.Stop()
	for {
		err := w.capture.Update(w.ports())
		if !errors.Is(err, capture.ErrDown) {
			return err
		}
		select {
		case <-w.closed:
			return nil
		case <-t.C:
		}
	}
}

func (w *wireWatch) isClosed() bool {
	select {
	case <-w.closed:
		return true
	default:
		return false
	}
}

// failed returns why the watch ended by itself, or nil.
func (w *wireWatch) failed() error {
	select {
	case <-w.done:
		return w.err
	default:
		return nil
	}
}

// close ends the watch.
func (w *wireWatch) close() error {
	close(w.closed)
	err := w.capture.Close()
	<-w.done
	return err
}
