// Package conntracktest fills connection tracking tables, for tests and benchmarks. It works on the network namespace
// of the calling thread, which must be one made for the purpose.
package conntracktest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Flow is an entry to be made. Without NAT and without a reply of its own its reply tuple is the original turned round.
type Flow struct {
	Proto               uint8 // unix.IPPROTO_UDP or IPPROTO_TCP
	Source, Destination netip.AddrPort
	Zone                uint16

	SNAT, DNAT netip.AddrPort // rewritten by the kernel's own NAT, which sets the status bits

	// A reply tuple that the kernel is merely told, as IPVS leaves one: no status bit.
	ReplySource, ReplyDestination netip.AddrPort

	Timeout time.Duration // 0: one hour
	Replied bool          // packets of both directions were seen, as of TCP and DNS; VXLAN never gets an answer
}

func (f *Flow) family() uint8 {
	if f.Source.Addr().Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// Table creates and deletes entries over ctnetlink. It is not safe for concurrent use.
type Table struct {
	conn *netlink.Conn
	builder
}

// Open opens the table of the calling thread's network namespace.
func Open() (*Table, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("conntracktest: %w", err)
	}
	return &Table{conn: c}, nil
}

// Close closes the socket; the entries stay.
func (t *Table) Close() error { return t.conn.Close() }

const (
	msgNew    = unix.NFNL_SUBSYS_CTNETLINK << 8
	msgDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2
	nested    = 0x8000
	maxBatch  = 16 << 10
)

// Add creates flows. It stops at the first that the kernel refuses.
func (t *Table) Add(flows ...Flow) error {
	return t.each(flows, msgNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, (*builder).fresh)
}

// Delete deletes flows by their original tuples.
func (t *Table) Delete(flows ...Flow) error {
	return t.each(flows, msgDelete, 0, func(b *builder, f *Flow) {
		b.nest(1, func() { b.tuple(f.Proto, f.Source, f.Destination) })
		b.zone(f)
	})
}

// Flush deletes all entries of the namespace.
func (t *Table) Flush() error {
	t.seq++
	t.begin(msgDelete, unix.NLM_F_REQUEST, unix.AF_UNSPEC)
	t.end()
	return t.flush()
}

func (t *Table) each(flows []Flow, typ, flags uint16, body func(*builder, *Flow)) error {
	for i := range flows {
		f := &flows[i]
		t.seq++
		t.begin(typ, unix.NLM_F_REQUEST|flags, f.family())
		body(&t.builder, f)
		t.end()
		if len(t.batch) > maxBatch {
			if err := t.flush(); err != nil {
				return err
			}
		}
	}
	return t.flush()
}

// flush sends the batch and waits until the kernel has done all of it.
func (t *Table) flush() error {
	if len(t.batch) == 0 {
		return nil
	}
	defer func() { t.batch = t.batch[:0] }()
	flags := binary.NativeEndian.Uint16(t.batch[t.last+6:])
	binary.NativeEndian.PutUint16(t.batch[t.last+6:], flags|unix.NLM_F_ACK)
	rc, err := t.conn.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := rc.Write(func(fd uintptr) bool {
		_, serr = unix.Write(int(fd), t.batch)
		return !errors.Is(serr, unix.EAGAIN)
	}); err != nil {
		return err
	}
	if serr != nil {
		return fmt.Errorf("conntracktest: send: %w", serr)
	}
	return t.acknowledged(rc)
}

// rawConn is the part of syscall.RawConn that acknowledged needs.
type rawConn interface {
	Read(f func(fd uintptr) (done bool)) error
}

func (t *Table) acknowledged(rc rawConn) error {
	var first error
	buf := make([]byte, 64<<10)
	for {
		var n int
		var rerr error
		if err := rc.Read(func(fd uintptr) bool {
			n, rerr = unix.Read(int(fd), buf)
			return !errors.Is(rerr, unix.EAGAIN)
		}); err != nil {
			return err
		}
		if rerr != nil {
			return fmt.Errorf("conntracktest: receive: %w", rerr)
		}
		for b := buf[:n]; len(b) >= 20; {
			length := binary.NativeEndian.Uint32(b)
			seq, code := binary.NativeEndian.Uint32(b[8:]), int32(binary.NativeEndian.Uint32(b[16:]))
			if code != 0 && first == nil {
				first = fmt.Errorf("conntracktest: request %d of a batch ending with %d: %w", seq, t.seq, unix.Errno(-code))
			}
			if seq == t.seq {
				return first
			}
			b = b[min(int(length+3)&^3, len(b)):]
		}
	}
}
