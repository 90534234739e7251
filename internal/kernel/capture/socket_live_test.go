package capture_test

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/capture"
	"vxlan_exporter/test/lab/labtest"
)

// socket calls f with a socket at the far end that is not bound yet.
func (c *cable) socket(f func(capture.Socket, capture.Interface) error) {
	c.to.Do(func() error {
		s, err := capture.Open()
		if err != nil {
			return err
		}
		defer s.Close()
		i, err := s.Interface("eth0")
		if err != nil {
			return err
		}
		return f(s, i)
	})
}

// TestSocketRests: at rest a socket sees nothing, bound again it sees what comes from then on, and the interface counts
// all of it.
func TestSocketRests(t *testing.T) {
	c := newCable(t)
	frame, _, _, _ := layout{sport: 40000, dport: 8472}.build()
	c.socket(func(s capture.Socket, i capture.Interface) error {
		room := []capture.Message{{Data: make([]byte, 2000), Control: make([]byte, 200)}}
		// received takes what has come: a sent frame is there at once, or as soon as a busy machine gets to it.
		received := func(want int) (n int) {
			for start := time.Now(); time.Since(start) < aWhile ||
				(n < want && time.Since(start) < inTime); time.Sleep(aMoment) {
				for {
					got, err := s.Receive(room)
					if err != nil {
						if !errors.Is(err, unix.EAGAIN) {
							t.Error(err)
						}
						break
					}
					n += got
				}
			}
			return n
		}
		for round, want := range []int{2, 0, 2, 0} {
			change := s.Bind
			if want == 0 {
				change = s.Rest
			}
			if err := change(i.Index); err != nil {
				return err
			}
			c.send(frame)
			c.send(frame)
			if n := received(want); n != want {
				t.Errorf("round %d: %d packets, want %d", round, n, want)
			}
		}
		after, err := s.Interface("eth0")
		if n := after.Counts.Received - i.Counts.Received; n != 8 {
			t.Errorf("the interface has received %d packets, want 8", n)
		}
		return err
	})
}

// TestSocketDoesNotWake: a socket in non-blocking mode would be watched by Go's poller, which is woken by each packet
// that comes.
func TestSocketDoesNotWake(t *testing.T) {
	labtest.New(t, "wake").Do(func() error {
		s, err := capture.Open()
		if err != nil {
			return err
		}
		defer s.Close()
		if flags, err := capture.Flags(s); err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Errorf("flags %#x, %v", flags, err)
		}
		if _, err := s.Receive(make([]capture.Message, 1)); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("without a packet: %v", err)
		}
		return nil
	})
}

// TestSocketReceivesMany: one call brings all that is queued, in order, each with its own length, its own bytes and its
// own direction.
func TestSocketReceivesMany(t *testing.T) {
	c := newCable(t)
	c.socket(func(s capture.Socket, i capture.Interface) error {
		if err := s.Bind(i.Index); err != nil {
			return err
		}
		const sent = 40
		lengths := make([]int, sent)
		for n := range lengths {
			frame, _, _, _ := layout{sport: uint16(1000 + n), dport: 8472, payload: 10 * n}.build()
			c.send(frame)
			lengths[n] = len(frame)
		}
		room := make([]capture.Message, 64)
		for i := range room {
			room[i] = capture.Message{Data: make([]byte, 2000), Control: make([]byte, 200)}
		}
		most, n := 0, 0
		for start := time.Now(); n < sent && time.Since(start) < inTime; {
			got, err := s.Receive(room)
			if errors.Is(err, unix.EAGAIN) {
				time.Sleep(aMoment)
				continue
			}
			if err != nil {
				return err
			}
			most = max(most, got)
			for _, m := range room[:got] {
				const vnet, sport = 10, 14 + 20
				if m.Length != vnet+lengths[n] || m.Outgoing || m.ControlLength == 0 ||
					binary.BigEndian.Uint16(m.Data[vnet+sport:]) != uint16(1000+n) {
					t.Errorf("packet %d: %d bytes, outgoing %v, % x", n, m.Length, m.Outgoing, m.Data[:min(m.Length, 60)])
				}
				n++
			}
		}
		if n != sent || most < 2 || most > 32 {
			t.Errorf("%d packets, want %d, at most %d at once", n, sent, most)
		}
		return nil
	})
}
