// Package conntracktest fills connection tracking tables, for tests and benchmarks. It works on the network namespace of the
// calling thread, which must be one made for the purpose.
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
}

// Table creates and deletes entries over ctnetlink. It is not safe for concurrent use.
type Table struct {
	conn  *netlink.Conn
	seq   uint32
	batch []byte
	last  int // start of the last message in batch
}

// Open opens the table of the calling thread's network namespace.
func Open() (*Table, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("conntracktest: %w", err)
	}
	return &Table{conn: c, seq: 1}, nil
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
	return t.each(flows, msgNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, (*Table).appendNew)
}

// Delete deletes flows by their original tuples.
func (t *Table) Delete(flows ...Flow) error {
	return t.each(flows, msgDelete, 0, func(t *Table, f *Flow) {
		t.nest(1, func() { t.tuple(f.Proto, f.Source, f.Destination) })
		t.zone(f)
	})
}

// Flush deletes all entries of the namespace.
func (t *Table) Flush() error {
	t.begin(msgDelete, 0, unix.AF_UNSPEC)
	t.end()
	return t.flush()
}

func (t *Table) each(flows []Flow, typ, flags uint16, body func(*Table, *Flow)) error {
	for i := range flows {
		f := &flows[i]
		family := uint8(unix.AF_INET)
		if f.Source.Addr().Is6() {
			family = unix.AF_INET6
		}
		t.begin(typ, flags, family)
		body(t, f)
		t.end()
		if len(t.batch) > maxBatch {
			if err := t.flush(); err != nil {
				return err
			}
		}
	}
	return t.flush()
}

func (t *Table) appendNew(f *Flow) {
	replySource, replyDestination := f.Destination, f.Source
	if f.ReplySource.IsValid() {
		replySource = f.ReplySource
	}
	if f.ReplyDestination.IsValid() {
		replyDestination = f.ReplyDestination
	}
	timeout := f.Timeout
	if timeout == 0 {
		timeout = time.Hour
	}
	t.nest(1, func() { t.tuple(f.Proto, f.Source, f.Destination) }) // CTA_TUPLE_ORIG
	t.nest(2, func() { t.tuple(f.Proto, replySource, replyDestination) })
	t.be32(7, uint32(timeout/time.Second)) // CTA_TIMEOUT
	t.zone(f)
	if f.Proto == unix.IPPROTO_TCP {
		t.nest(4, func() { t.nest(1, func() { t.attr(1, 3) }) }) // CTA_PROTOINFO, _TCP, _TCP_STATE: established
	}
	if f.SNAT.IsValid() {
		t.nest(6, func() { t.nat(f.SNAT) }) // CTA_NAT_SRC
	}
	if f.DNAT.IsValid() {
		t.nest(13, func() { t.nat(f.DNAT) }) // CTA_NAT_DST
	}
}

func (t *Table) zone(f *Flow) {
	if f.Zone != 0 {
		t.attr(18, byte(f.Zone>>8), byte(f.Zone)) // CTA_ZONE
	}
}

func (t *Table) tuple(proto uint8, src, dst netip.AddrPort) {
	t.nest(1, func() { // CTA_TUPLE_IP
		if src.Addr().Is4() {
			t.attr(1, src.Addr().AsSlice()...)
			t.attr(2, dst.Addr().AsSlice()...)
		} else {
			t.attr(3, src.Addr().AsSlice()...)
			t.attr(4, dst.Addr().AsSlice()...)
		}
	})
	t.nest(2, func() { // CTA_TUPLE_PROTO
		t.attr(1, proto)
		t.attr(2, byte(src.Port()>>8), byte(src.Port()))
		t.attr(3, byte(dst.Port()>>8), byte(dst.Port()))
	})
}

func (t *Table) nat(to netip.AddrPort) {
	a := to.Addr().AsSlice()
	if to.Addr().Is4() {
		t.attr(1, a...) // CTA_NAT_V4_MINIP
		t.attr(2, a...)
	} else {
		t.attr(4, a...) // CTA_NAT_V6_MINIP
		t.attr(5, a...)
	}
	t.nest(3, func() { // CTA_NAT_PROTO
		t.attr(1, byte(to.Port()>>8), byte(to.Port()))
		t.attr(2, byte(to.Port()>>8), byte(to.Port()))
	})
}

func (t *Table) begin(typ, flags uint16, family uint8) {
	t.last = len(t.batch)
	t.seq++
	b := binary.NativeEndian.AppendUint32(t.batch, 0)
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = binary.NativeEndian.AppendUint32(b, t.seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	t.batch = append(b, family, unix.NFNETLINK_V0, 0, 0)
}

func (t *Table) end() { binary.NativeEndian.PutUint32(t.batch[t.last:], uint32(len(t.batch)-t.last)) }

func (t *Table) nest(typ uint16, body func()) {
	at := len(t.batch)
	t.batch = binary.NativeEndian.AppendUint16(t.batch, 0)
	t.batch = binary.NativeEndian.AppendUint16(t.batch, typ|nested)
	body()
	binary.NativeEndian.PutUint16(t.batch[at:], uint16(len(t.batch)-at))
}

func (t *Table) attr(typ uint16, value ...byte) {
	t.batch = binary.NativeEndian.AppendUint16(t.batch, uint16(4+len(value)))
	t.batch = binary.NativeEndian.AppendUint16(t.batch, typ)
	t.batch = append(t.batch, value...)
	for len(t.batch)%4 != 0 {
		t.batch = append(t.batch, 0)
	}
}

func (t *Table) be32(typ uint16, v uint32) { t.attr(typ, byte(v>>24), byte(v>>16), byte(v>>8), byte(v)) }

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
