package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"vxlan_exporter/internal/kernel/nl"

	"golang.org/x/sys/unix"
)

// errSpoiled marks an attempt that says nothing, through no fault of anybody: make another.
var errSpoiled = errors.New("spoiled")

// errRefused marks a filter that the kernel refused: ask again without.
var errRefused = errors.New("filter refused")

// resizeCheck is how often the bucket count is looked at during a dump. A table resized from A to B and back between
// two looks would go unnoticed; two resizes take longer than this.
const resizeCheck = 100 * time.Millisecond

// tally is what one attempt saw.
type tally struct {
	entries  uint64
	udp      [2]uint64 // UDP entries sent, by family index
	all      [2]uint64
	receives uint64
	longest  time.Duration
	cpu      time.Duration
	flagged  bool // an entry of a filtered dump carried NLM_F_DUMP_FILTERED
	ignored  bool // a filter was asked for and something else came back
	sampled  bool // the planner has seen the first part of it
}

// run makes one dump on the open socket and tells v the flows. It ends at the end of the reply, at the first error, or
// at the deadline, whatever the kernel sends.
func (s *Scanner) run(ctx context.Context, d dump, deadline time.Time, v Visitor, t *tally) error {
	s.seq++
	s.request = appendRequest(s.request[:0], d, s.seq, s.sock.PortID())
	s.last, s.current = s.last[:0], s.current[:0]

	start, cpu := s.clock()
	err := s.sock.Send(s.request)
	now := s.measure(start, &cpu, t)
	for nextCheck := now.Add(resizeCheck); err == nil; {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case now.After(deadline):
			return context.DeadlineExceeded
		case now.After(nextCheck):
			if err := s.checkBuckets(); err != nil {
				return err
			}
			nextCheck = now.Add(resizeCheck)
		}
		start = s.wall()
		var n int
		n, err = s.sock.Receive(s.buf)
		now = s.measure(start, &cpu, t)
		if err != nil {
			break
		}
		t.receives++
		if done, err := s.datagram(n, d, v, t); done || err != nil {
			return err
		}
		if !t.sampled && t.entries >= sampleSize && s.count > 2*sampleSize && d.family == unix.AF_UNSPEC {
			if t.sampled = true; s.plan.sample(s.fams, *t, s.buckets, s.count, now) {
				return fmt.Errorf("%w: a filter is better", errSpoiled)
			}
		}
	}
	return err
}

// measure takes the time of a system call begun at start. A thread that holds softirqs off is not preempted, so the
// hold is bounded by the thread's CPU time as well as by the wall: the shorter of the two does not blame the scan for
// what other programs do to the CPU. cpu is the thread's CPU time at the last call, and is advanced.
func (s *Scanner) measure(start time.Time, cpu *time.Duration, t *tally) time.Time {
	now, cpuNow := s.clock()
	t.longest = max(t.longest, min(now.Sub(start), cpuNow-*cpu))
	t.cpu += cpuNow - *cpu
	*cpu = cpuNow
	return now
}

// datagram reads one datagram of a reply; done says that it was the last.
func (s *Scanner) datagram(n int, d dump, v Visitor, t *tally) (done bool, err error) {
	switch {
	case n > len(s.buf):
		if len(s.buf) < maxBuffer {
			s.buf = make([]byte, 2*len(s.buf))
			return false, fmt.Errorf("%w: a reply of %d bytes was cut off", errSpoiled, n)
		}
		return false, fmt.Errorf("%w: a datagram of %d bytes", nl.ErrMalformed, n)
	case n == 0:
		return false, fmt.Errorf("%w: an empty datagram", nl.ErrMalformed)
	}
	s.last, s.current = s.current, s.last[:0]
	for b := s.buf[:n]; len(b) > 0; {
		if len(b) < sizeofNlMsghdr {
			return false, fmt.Errorf("%w: %d bytes left over", nl.ErrMalformed, len(b))
		}
		length := binary.NativeEndian.Uint32(b)
		if length < sizeofNlMsghdr || uint64(length) > uint64(len(b)) {
			return false, fmt.Errorf("%w: a message of %d bytes in %d", nl.ErrMalformed, length, len(b))
		}
		typ, flags := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
		seq, portID := binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:])
		payload := b[sizeofNlMsghdr:length]
		b = b[min((uint64(length)+3)&^3, uint64(len(b))):]
		if seq != s.seq || portID != s.sock.PortID() {
			return false, fmt.Errorf("%w: it answers request %d of port %d, not %d of %d", nl.ErrMalformed, seq, portID, s.seq,
				s.sock.PortID())
		}
		if flags&unix.NLM_F_DUMP_INTR != 0 {
			return false, fmt.Errorf("%w: the table changed during the dump (NLM_F_DUMP_INTR)", errSpoiled)
		}
		switch {
		case typ == unix.NLMSG_NOOP:
		case typ == unix.NLMSG_DONE:
			return true, endOfDump(payload)
		case typ == unix.NLMSG_ERROR:
			return true, s.refusal(payload, d)
		case typ == msgGetStats && d.totals:
			return true, nil
		case typ == msgNew && !d.totals:
			if err := s.entryMessage(payload, flags, d, v, t); err != nil {
				return false, err
			}
		default:
			return false, fmt.Errorf("%w: message type %#x", nl.ErrMalformed, typ)
		}
	}
	return false, nil
}

// entryMessage judges one entry, whatever the kernel was asked to filter.
func (s *Scanner) entryMessage(payload []byte, flags uint16, d dump, v Visitor, t *tally) error {
	e := &s.entry
	wanted, err := e.parse(payload, s.targets)
	if err != nil {
		return fmt.Errorf("%w: entry %d", err, t.entries)
	}
	t.entries++
	if e.family == unix.AF_INET || e.family == unix.AF_INET6 {
		i := familyIndex(e.family)
		t.all[i]++
		if e.proto == unix.IPPROTO_UDP {
			t.udp[i]++
		}
	}
	if d.udp {
		flagged := flags&unix.NLM_F_DUMP_FILTERED != 0
		t.flagged = t.flagged || flagged
		t.ignored = t.ignored || !flagged || e.proto != unix.IPPROTO_UDP || e.family != d.family
	}
	// What another dump of this scan will bring too is left to that one.
	if wanted && (d.family == unix.AF_UNSPEC || e.family == d.family) && !s.repeated(&e.flow) {
		v.Visit(&e.flow)
	}
	return nil
}

// repeated reports whether f was in the previous datagram already. A dump goes on, after a full reply, at the entry
// that did not fit. When that entry has died meanwhile it sends the whole bucket again (the restart in
// ctnetlink_dump_table), so flows of one bucket may stand in two successive datagrams.
func (s *Scanner) repeated(f *Flow) bool {
	a := f.Source.Addr().As16()
	key := uint64(f.ID)<<32 | uint64(a[14])<<24 | uint64(a[15])<<16 | uint64(f.Source.Port())
	if slices.Contains(s.last, key) {
		return true
	}
	s.current = append(s.current, key)
	return false
}

// endOfDump reads the status of NLMSG_DONE (netlink_dump_done, net/netlink/af_netlink.c). Some kernels' dumps send
// none.
func endOfDump(payload []byte) error {
	if len(payload) < 4 || int32(binary.NativeEndian.Uint32(payload)) >= 0 {
		return nil
	}
	return errnoOf(payload)
}

// refusal turns NLMSG_ERROR into an error (struct nlmsgerr).
func (s *Scanner) refusal(payload []byte, d dump) error {
	err := errnoOf(payload)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (needs CAP_NET_ADMIN)", err)
	case d.udp && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)):
		return fmt.Errorf("%w: %w", errRefused, err)
	case errors.Is(err, unix.EINVAL):
		// nfnetlink_rcv_msg, for a subsystem that is neither there nor can be loaded.
		return fmt.Errorf("%w: %w (this kernel has no ctnetlink: module nf_conntrack_netlink)", errors.ErrUnsupported, err)
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EBUSY), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return fmt.Errorf("%w: %w", errSpoiled, err)
	}
	return err
}

// errnoOf is the negative error number that a message begins with.
func errnoOf(payload []byte) error {
	if len(payload) < 4 {
		return fmt.Errorf("%w: an error message of %d bytes", nl.ErrMalformed, len(payload))
	}
	switch code := int32(binary.NativeEndian.Uint32(payload)); {
	case code >= 0:
		return fmt.Errorf("%w: an acknowledgement instead of a reply", nl.ErrMalformed)
	case code <= -4096: // MAX_ERRNO, include/linux/err.h
		return fmt.Errorf("%w: error number %d", nl.ErrMalformed, code)
	default:
		return unix.Errno(-code)
	}
}
