package collectors

import (
	"sync"
	"time"

	"vxlan_exporter/internal/kernel/procnet"
)

const (
	// wireAlert is for how long everything is captured after a bad packet: the SYNs of a stalled connection are at most
	// 32 s apart.
	wireAlert = time.Minute
	// wireDoubt is the same after a UDP checksum error of the node, which may be any datagram's, and for how long such
	// errors count while no bad VXLAN packet is found. wireIgnore is for how long they are ignored after that.
	wireDoubt  = 40 * time.Second
	wireIgnore = 10 * time.Minute
	// wirePoll is how often the counters are read, wireStale when what they said before is too old to compare with.
	wirePoll  = 500 * time.Millisecond
	wireStale = 5 * time.Second
)

// wireSuspicion says when a busy NIC is to be captured on all the time, because a failure may be under way. All watches
// share it.
type wireSuspicion struct {
	errors func() (uint64, error) // UDP datagrams dropped for a bad checksum

	mu     sync.Mutex
	until  time.Time
	doubts time.Time // when the errors began that no bad packet explains yet; zero: there are none
	ignore time.Time // until when errors are ignored
	polled time.Time
	before uint64
}

// bad reports a bad packet.
func (s *wireSuspicion) bad(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until, s.doubts, s.ignore = now.Add(wireAlert), time.Time{}, time.Time{}
}

// suspected reports whether a failure may be under way.
func (s *wireSuspicion) suspected(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.polled) >= wirePoll {
		s.poll(now)
	}
	return now.Before(s.until)
}

func (s *wireSuspicion) poll(now time.Time) {
	n, err := s.errors()
	if err != nil {
		return // the host collector says so
	}
	rose := n > s.before && now.Sub(s.polled) < wireStale
	s.before, s.polled = n, now
	if !rose || now.Before(s.ignore) {
		return
	}
	if s.doubts.IsZero() || !now.Before(s.until) {
		s.doubts = now
	}
	if now.Sub(s.doubts) > wireDoubt {
		s.ignore = now.Add(wireIgnore)
		return
	}
	if until := now.Add(wireDoubt); until.After(s.until) {
		s.until = until
	}
}

// udpChecksumErrors sums InCsumErrors of both address families.
func udpChecksumErrors(proc string) (sum uint64, err error) {
	snmp, err := procnet.ReadSNMP(proc)
	if err != nil {
		return 0, err
	}
	for _, v := range []*uint64{snmp.UDP4.InCsumErrors, snmp.UDP6.InCsumErrors} {
		if v != nil {
			sum += *v
		}
	}
	return sum, nil
}
