package packet_test

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/kernel/packet"
)

// TestSocketRests: at rest a socket sees nothing, bound again it sees what comes from then on, and the interface counts all of it.
func TestSocketRests(t *testing.T) {
	c := newCable(t)
	frame, _, _, _ := layout{sport: 40000, dport: 8472}.build()
	c.to.Do(func() error {
		s, err := packet.Open()
		if err != nil {
			return err
		}
		defer s.Close()
		i, err := s.Interface("eth0")
		if err != nil {
			return err
		}
		before, err := s.Counts(i.Index)
		if err != nil {
			return err
		}
		room := []packet.Message{{Data: make([]byte, 2000), Control: make([]byte, 200)}}
		// received takes what has come: a sent frame is there at once, or as soon as a busy machine gets to it.
		received := func(want int) (n int) {
			for start := time.Now(); time.Since(start) < aWhile || (n < want && time.Since(start) < 20*aWhile); time.Sleep(aMoment) {
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
		after, err := s.Counts(i.Index)
		if n := after.Received - before.Received; n != 8 {
			t.Errorf("the interface has received %d packets, want 8", n)
		}
		return err
	})
}
