package kerneltest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
	"vxlan_exporter/internal/kernel/nl"
)

// OpenConntrack is a conntrack.Opener.
func (k *Kernel) OpenConntrack() (conntrack.Socket, error) {
	if err := k.opened(Conntrack); err != nil {
		return nil, err
	}
	k.flows.IgnoreFilter = k.Old
	s, err := k.flows.Open()
	if err != nil {
		return nil, err
	}
	return &flowSocket{Socket: s, k: k}, nil
}

// flowSocket is a ctnetlink socket.
type flowSocket struct {
	conntrack.Socket
	deadline
	k     *Kernel
	seq   uint32
	last  []byte
	count int
}

func (s *flowSocket) SetDeadline(t time.Time) error {
	return errors.Join(s.deadline.SetDeadline(t), s.Socket.SetDeadline(t))
}

func (s *flowSocket) Close() error {
	s.k.closed(Conntrack)
	return s.Socket.Close()
}

func (s *flowSocket) Send(request []byte) error {
	f, _ := s.k.fault(Conntrack)
	if f.Send != nil {
		return fmt.Errorf("send: %w", f.Send)
	}
	s.seq, s.last, s.count = binary.NativeEndian.Uint32(request[8:]), nil, 0
	return s.Socket.Send(request)
}

func (s *flowSocket) Receive(p []byte) (int, error) {
	f, changed := s.k.fault(Conntrack)
	switch {
	case f.Hung:
		<-changed
	case f.Silent:
		if s.wait(changed) {
			return 0, fmt.Errorf("receive: %w", os.ErrDeadlineExceeded)
		}
	case f.Refuse != nil:
		errno, _ := f.Refuse.(unix.Errno) //nolint:errorlint // the fault's own value, never wrapped
		return copy(p, conntracktest.Refusal(conntracktest.Request{Seq: s.seq, PortID: s.PortID()}, errno)), nil
	case f.Receive != nil && s.count >= f.After:
		return 0, fmt.Errorf("receive: %w", f.Receive)
	case f.Endless && s.last != nil:
		if s.passed() {
			return 0, fmt.Errorf("receive: %w", os.ErrDeadlineExceeded)
		}
		time.Sleep(pace)
		return copy(p, s.last), nil
	}
	n, err := s.Socket.Receive(p)
	if err != nil || n > len(p) {
		return n, err
	}
	s.count++
	if s.last == nil {
		s.last = slices.Clone(p[:n])
	}
	if f.OtherSequence {
		binary.NativeEndian.PutUint32(p[8:], s.seq+1000)
	}
	if f.OtherPort {
		binary.NativeEndian.PutUint32(p[12:], s.PortID()+1)
	}
	if f.Interrupted {
		binary.NativeEndian.PutUint16(p[6:], binary.NativeEndian.Uint16(p[6:])|unix.NLM_F_DUMP_INTR)
	}
	return max(0, n-f.Cut), nil
}

// Invalid is what connection tracking calls invalid, as the fixture of 6.18 has it in /proc/net/stat/nf_conntrack.
const Invalid = 45

// OpenCounters is the opener of the counters of connection tracking, of one CPU.
func (k *Kernel) OpenCounters() (nl.Socket, error) {
	return k.messages(Counters, func(m netlink.Message) ([]netlink.Message, error) {
		const stats, invalid = unix.NFNL_SUBSYS_CTNETLINK<<8 | 4, 4 // IPCTNL_MSG_CT_GET_STATS_CPU, CTA_STATS_INVALID
		if m.Header.Type != stats {
			return nil, unix.EINVAL
		}
		b := nl.Append([]byte{unix.AF_UNSPEC, 0, 0, 0}, invalid, binary.BigEndian.AppendUint32(nil, Invalid))
		return []netlink.Message{{Header: netlink.Header{Type: stats}, Data: b}}, nil
	})
}
