package kerneltest

import (
	"iter"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/netlink"

	"vxlan_exporter/internal/kernel/nl"
)

// messageSocket is a netlink socket as package netlink has them.
type messageSocket struct {
	deadline
	k      *Kernel
	source Source
	asked  Source // what the last request was to: source, or a part of it that breaks by itself
	answer func(m netlink.Message) ([]netlink.Message, error)
	seq    uint32
	queue  []netlink.Message
	refuse error
}

func (k *Kernel) messages(s Source, answer func(netlink.Message) ([]netlink.Message, error)) (nl.Socket, error) {
	if err := k.opened(s); err != nil {
		return nil, err
	}
	return &messageSocket{k: k, source: s, asked: s, answer: answer}, nil
}

// Send takes a request, and begins to answer it.
func (s *messageSocket) Send(m netlink.Message) (netlink.Message, error) {
	if s.source == Surroundings {
		s.asked = listOf(m)
	}
	f, _ := s.k.fault(s.asked)
	if f.Send != nil {
		return m, &netlink.OpError{Op: "send", Err: f.Send}
	}
	s.seq++
	m.Header.Sequence, m.Header.PID = s.seq, 4711
	if s.queue, s.refuse = s.answer(m); f.Empty {
		s.queue = nil
	}
	for i := range s.queue {
		h := &s.queue[i].Header
		h.Sequence, h.PID = s.seq, m.Header.PID
		if m.Header.Flags&netlink.Dump == netlink.Dump {
			h.Flags |= netlink.Multi
		}
		if f.OtherSequence {
			h.Sequence += 1000
		}
		if f.OtherPort {
			h.PID++
		}
		if f.Interrupted {
			h.Flags |= netlink.DumpInterrupted
		}
	}
	return m, nil
}

// ReceiveIter hands over the answer.
func (s *messageSocket) ReceiveIter() iter.Seq2[netlink.Message, error] {
	return func(yield func(netlink.Message, error) bool) {
		fail := func(err error) { yield(netlink.Message{}, &netlink.OpError{Op: "receive", Err: err}) }
		f, changed := s.k.fault(s.asked)
		switch {
		case f.Hung:
			<-changed
		case f.Silent:
			if s.wait(changed) {
				fail(os.ErrDeadlineExceeded)
				return
			}
		case f.Refuse != nil:
			fail(f.Refuse)
			return
		case s.refuse != nil:
			fail(s.refuse)
			return
		}
		endless := f.Endless && len(s.queue) > 0 && s.queue[0].Header.Flags&netlink.Multi != 0
		for i := 0; endless || i < len(s.queue); i++ {
			if f.Receive != nil && i == f.After {
				fail(os.NewSyscallError("recvmsg", f.Receive))
				return
			}
			if s.passed() {
				fail(os.ErrDeadlineExceeded)
				return
			}
			m := s.queue[i%len(s.queue)]
			m.Data = slices.Clone(m.Data[:max(0, len(m.Data)-f.Cut)])
			if endless && i%64 == 0 {
				time.Sleep(64 * pace)
			}
			if !yield(m, nil) {
				if endless { // package netlink reads on to the end of a dump
					s.wait(changed)
				}
				return
			}
		}
		if f.Receive != nil {
			fail(os.NewSyscallError("recvmsg", f.Receive))
		}
	}
}

// Close closes the socket.
func (s *messageSocket) Close() error {
	s.k.closed(s.source)
	return nil
}
