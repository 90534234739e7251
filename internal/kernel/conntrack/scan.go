package conntrack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/label"
)

const (
	// bufferSize of a receive, bytes. The kernel sizes a dump's datagrams by the largest receive ever made on the socket
	// and cuts off what does not fit a smaller one, so the buffer never shrinks. A larger one makes each walk longer: 4
	// KiB holds softirqs off for half of the time that 8 KiB would, for the same CPU. Less the kernel does not do: it
	// makes datagrams of NLMSG_GOODSIZE, a page or 8 KiB. Where that is more than this, the first datagram is cut off and
	// the buffer doubled.
	bufferSize = 4 << 10
	maxBuffer  = 64 << 10

	// maxAttempts bounds how often a scan is begun again because the table was resized under it.
	maxAttempts = 8

	// defaultTimeout bounds a scan whose context has no deadline: four times what a million entries take.
	defaultTimeout = 5 * time.Second
)

// Config says where a Scanner reads.
type Config struct {
	Open     Opener   // nil: Open
	Proc     string   // where procfs is mounted; empty: /proc
	Strategy Strategy // empty: Auto
}

// Scanner scans the table again and again on one socket, and learns from each scan how the next is best made. It is not
// safe for concurrent use.
type Scanner struct {
	open    Opener
	sysctls Sysctls
	plan    planner

	sock    Socket
	seq     uint32
	request []byte
	buf     []byte
	size    number // nf_conntrack_buckets, open during a scan
	buckets uint64 // when the attempt began
	count   uint64 // entries when the scan began
	fams    []uint8
	targets []Target
	entry   entry

	last, current []uint64 // keys of the flows in the previous datagram and in this one

	wall  func() time.Time
	clock func() (wall time.Time, cpu time.Duration) // cpu: of the calling thread
}

// NewScanner makes a Scanner. Nothing is opened before the first scan.
func NewScanner(c Config) *Scanner {
	if c.Open == nil {
		c.Open = Open
	}
	return &Scanner{
		open:    c.Open,
		sysctls: NewSysctls(cmp.Or(c.Proc, "/proc")),
		plan:    planner{strategy: cmp.Or(c.Strategy, Auto)},
		buf:     make([]byte, bufferSize),
		wall:    time.Now,
		clock:   threadClock,
	}
}

// Close closes the socket. The Scanner may be used again.
func (s *Scanner) Close() error {
	if s.sock == nil {
		return nil
	}
	err := s.sock.Close()
	s.sock = nil
	return err
}

// Scan looks at every entry of the table once and tells v those that match a target. It returns at ctx's deadline at
// the latest (5 s when it has none), give or take one receive. The error wraps fs.ErrNotExist when this kernel or
// namespace tracks no connections, fs.ErrPermission without CAP_NET_ADMIN, errors.ErrUnsupported when the kernel has no
// ctnetlink.
func (s *Scanner) Scan(ctx context.Context, targets []Target, v Visitor) (Stats, error) {
	// The clock is the thread's, and the socket is opened in the thread's namespace.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := s.wall()
	stats, err := s.scan(ctx, targets, v, begin)
	stats.Duration = s.wall().Sub(begin)
	if err == nil {
		return stats, nil
	}
	// A dump that was left in the middle goes on in the next receive: start afresh.
	err = errors.Join(err, s.Close())
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// The socket's deadline is the context's, and passes on its cancellation; the context itself may be a moment behind.
		err = fmt.Errorf("%w: %w", cmp.Or(ctx.Err(), context.DeadlineExceeded), err)
	}
	return stats, fmt.Errorf("conntrack: %w", err)
}

func (s *Scanner) scan(ctx context.Context, targets []Target, v Visitor, begin time.Time) (Stats, error) {
	count, err := s.sysctls.Count()
	if err != nil {
		return Stats{}, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = begin.Add(defaultTimeout)
	}
	if s.size, err = openNumber(s.sysctls.buckets); err != nil {
		// Not "no conntrack", which fs.ErrNotExist would say: entries are counted, but a resize would go unseen.
		return Stats{}, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	defer s.size.close()
	s.targets, s.fams, s.count = targets, families(targets), count

	stats := Stats{Attempts: 1}
	for ; ; stats.Attempts++ {
		if err := ctx.Err(); err != nil {
			return stats, err
		}
		if s.buckets, err = s.size.read(); err != nil {
			return stats, err
		}
		if s.sock == nil {
			if s.sock, err = s.open(); err != nil {
				s.sock = nil
				return stats, err
			}
		}
		if err := s.sock.SetDeadline(deadline); err != nil {
			return stats, err
		}
		v.Begin()
		if count == 0 || len(s.fams) == 0 {
			// Nothing is tracked here: do not walk the other namespaces' entries to learn it.
			stats.Strategy = Full
			return stats, s.run(ctx, dump{totals: true}, deadline, v, new(tally))
		}
		strategy, dumps := s.plan.choose(s.fams, s.buckets, count, begin)
		var t tally
		err := s.attempt(ctx, dumps, deadline, v, &t)
		switch {
		case err == nil:
			stats.Strategy, stats.Entries, stats.LongestReceive = strategy, t.entries, t.longest
			stats.Filtered = s.plan.learn(strategy, dumps, &t, s.buckets, count, s.wall())
			return stats, nil
		case errors.Is(err, errRefused):
			s.plan.noFilter = true
		case !errors.Is(err, errSpoiled):
			return stats, err
		}
		if stats.Attempts == maxAttempts {
			return stats, fmt.Errorf("%d attempts in vain: %w", maxAttempts, err)
		}
		if err := s.Close(); err != nil {
			return stats, err
		}
	}
}

// attempt makes the dumps of one attempt.
func (s *Scanner) attempt(ctx context.Context, dumps []dump, deadline time.Time, v Visitor, t *tally) error {
	sock := s.sock
	// It ends a receive that waits, when the context is canceled before its deadline.
	stop := context.AfterFunc(ctx, func() { _ = sock.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for _, d := range dumps {
		if err := s.run(ctx, d, deadline, v, t); err != nil {
			if errors.Is(err, unix.ENOBUFS) && !errors.Is(err, errSpoiled) {
				err = fmt.Errorf("%w: %w", errSpoiled, err)
			}
			return fmt.Errorf("dump %s (%d entries read): %w", familyName(d.family), t.entries, err)
		}
		if err := s.checkBuckets(); err != nil {
			return err
		}
	}
	return nil
}

// checkBuckets finds out whether the table was resized since the attempt began. A dump then loses entries and sends
// others twice, and the kernel sets no flag.
func (s *Scanner) checkBuckets() error {
	n, err := s.size.read()
	if err != nil {
		return err
	}
	if n != s.buckets {
		return fmt.Errorf("%w: the table was resized from %d to %d buckets during the dump", errSpoiled, s.buckets, n)
	}
	return nil
}

// threadClock reads the wall clock and the CPU time of the calling thread (clock_gettime(2)).
func threadClock() (time.Time, time.Duration) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		// Not known to fail. The wall clock alone is the safe answer: it only makes holds look longer.
		now := time.Now()
		return now, time.Duration(now.UnixNano())
	}
	return time.Now(), time.Duration(ts.Nano())
}

func familyName(family uint8) string {
	switch family {
	case unix.AF_INET:
		return label.IPv4
	case unix.AF_INET6:
		return label.IPv6
	}
	return "all families"
}
