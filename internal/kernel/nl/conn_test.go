package nl

import (
	"context"
	"errors"
	"iter"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// kernel answers the n-th request by the n-th list of messages, and by err behind them.
type kernel struct {
	answers  [][]netlink.Message
	err      error
	asked    netlink.Message
	requests int
	deadline time.Time
}

func (k *kernel) Send(m netlink.Message) (netlink.Message, error) {
	m.Header.Sequence, m.Header.PID = uint32(k.requests+1), 9
	k.asked = m
	k.requests++
	return m, nil
}

func (k *kernel) ReceiveIter() iter.Seq2[netlink.Message, error] {
	return func(yield func(netlink.Message, error) bool) {
		for _, m := range k.answers[k.requests-1] {
			m.Header.Sequence += k.asked.Header.Sequence
			m.Header.PID = k.asked.Header.PID
			if !yield(m, nil) {
				return
			}
		}
		if k.err != nil {
			yield(netlink.Message{}, &netlink.OpError{Op: "receive", Err: k.err})
		}
	}
}

func (k *kernel) SetDeadline(t time.Time) error { k.deadline = t; return nil }

func (*kernel) Close() error { return nil }

const request, reply = unix.RTM_GETROUTE, unix.RTM_NEWROUTE

func message(typ netlink.HeaderType, flags netlink.HeaderFlags, data string) netlink.Message {
	return netlink.Message{Header: netlink.Header{Type: typ, Flags: flags}, Data: []byte(data)}
}

func dial(t *testing.T, k *kernel) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), func() (Socket, error) { return k, nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestOneAnswer(t *testing.T) {
	stale := message(reply, 0, "stale")
	stale.Header.Sequence = 7
	broken := os.NewSyscallError("recvmsg", unix.ENOBUFS)
	for _, tt := range []struct {
		name   string
		answer []netlink.Message
		err    error
		want   string
		fails  error // nil: any error, when there is nothing wanted
		broken bool
	}{
		{"one", []netlink.Message{message(reply, 0, "a")}, nil, "a", nil, false},
		{"none", nil, nil, "", ErrMalformed, false},
		{"of another type", []netlink.Message{message(unix.RTM_NEWADDR, 0, "a")}, nil, "", ErrMalformed, false},
		{"to another request", []netlink.Message{stale}, nil, "", nil, true},
		{"refused", nil, unix.ENETUNREACH, "", unix.ENETUNREACH, false},
		{"not received", nil, broken, "", unix.ENOBUFS, true},
		{"too late", nil, os.ErrDeadlineExceeded, "", os.ErrDeadlineExceeded, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := &kernel{answers: [][]netlink.Message{tt.answer, {message(reply, 0, "b")}}, err: tt.err}
			c := dial(t, k)
			got, err := c.Get(request, reply, []byte("x"))
			if string(got) != tt.want || (err == nil) != (tt.want != "") || tt.fails != nil && !errors.Is(err, tt.fails) {
				t.Errorf("%q, %v", got, err)
			}
			k.err = nil
			if got, err := c.Get(request, reply, nil); (err != nil) != tt.broken || err == nil && string(got) != "b" {
				t.Errorf("afterwards: %q, %v", got, err)
			}
		})
	}
}

func TestDo(t *testing.T) {
	k := &kernel{answers: [][]netlink.Message{{message(netlink.Error, 0, "\x00\x00\x00\x00")}, {message(reply, 0, "a")}}}
	c := dial(t, k)
	if err := c.Do(request, netlink.Create, nil); err != nil ||
		k.asked.Header.Flags != netlink.Request|netlink.Acknowledge|netlink.Create {
		t.Errorf("flags %v, %v", k.asked.Header.Flags, err)
	}
	if err := c.Do(request, 0, nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("no acknowledgement: %v", err)
	}
}

func TestDump(t *testing.T) {
	dump := func(k *kernel, c *Conn) (got []string, err error) {
		err = c.Dump(request, reply, nil, func() { got = nil }, func(b []byte) error {
			if got = append(got, string(b)); string(b) == "no" {
				return unix.E2BIG
			}
			return nil
		})
		return got, err
	}
	a, b := message(reply, netlink.Multi, "a"), message(reply, netlink.Multi, "b")
	torn := message(reply, netlink.Multi|netlink.DumpInterrupted, "torn")
	other := message(unix.RTM_NEWADDR, netlink.Multi, "other")
	k := &kernel{answers: [][]netlink.Message{{a, torn, b}, {a, other, b}}}
	if got, err := dump(k, dial(t, k)); err != nil || !slices.Equal(got, []string{"a", "b"}) || k.requests != 2 {
		t.Errorf("interrupted once: %q, %v, %d requests", got, err, k.requests)
	}
	k = &kernel{answers: slices.Repeat([][]netlink.Message{{torn}}, dumpTries)}
	if _, err := dump(k, dial(t, k)); !errors.Is(err, ErrInterrupted) {
		t.Errorf("interrupted for ever: %v", err)
	}
	k = &kernel{answers: [][]netlink.Message{{a, message(reply, netlink.Multi, "no"), b}, {a}}}
	c := dial(t, k)
	if got, err := dump(k, c); !errors.Is(err, unix.E2BIG) || len(got) != 2 || !k.deadline.Before(time.Now()) {
		t.Errorf("given up: %q, %v", got, err)
	}
	if _, err := dump(k, c); err == nil || k.requests != 1 {
		t.Errorf("asked again after a dump was left in the middle: %v", err)
	}
}

func TestDeadlineIsTheContexts(t *testing.T) {
	k := &kernel{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	c, err := Dial(ctx, func() (Socket, error) { return k, nil })
	if err != nil {
		t.Fatal(err)
	}
	if until, _ := ctx.Deadline(); !k.deadline.Equal(until) {
		t.Errorf("deadline %v, want %v", k.deadline, until)
	}
	c.Close()
	cancel()
	if _, err := Dial(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("dialled although nobody waits: %v", err)
	}
}
