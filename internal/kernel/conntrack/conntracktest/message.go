package conntracktest

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// builder writes ctnetlink messages one behind the other.
type builder struct {
	seq, portID uint32
	batch       []byte
	last        int // start of the last message in batch
}

func (b *builder) tuples(f *Flow) {
	replySource, replyDestination := f.Destination, f.Source
	if f.ReplySource.IsValid() {
		replySource = f.ReplySource
	}
	if f.ReplyDestination.IsValid() {
		replyDestination = f.ReplyDestination
	}
	b.nest(1, func() { b.tuple(f.Proto, f.Source, f.Destination) }) // CTA_TUPLE_ORIG
	b.nest(2, func() { b.tuple(f.Proto, replySource, replyDestination) })
}

// fresh writes what a new entry is created from.
func (b *builder) fresh(f *Flow) {
	timeout := f.Timeout
	if timeout == 0 {
		timeout = time.Hour
	}
	b.tuples(f)
	if f.Replied {
		b.be32(3, 2|4|8) // CTA_STATUS: IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED
	}
	b.be32(7, uint32(timeout/time.Second)) // CTA_TIMEOUT
	b.zone(f)
	if f.Proto == unix.IPPROTO_TCP {
		b.nest(4, func() { b.nest(1, func() { b.attr(1, 3) }) }) // CTA_PROTOINFO, _TCP, _TCP_STATE: established
	}
	if f.SNAT.IsValid() {
		b.nest(6, func() { b.nat(f.SNAT) }) // CTA_NAT_SRC
	}
	if f.DNAT.IsValid() {
		b.nest(13, func() { b.nat(f.DNAT) }) // CTA_NAT_DST
	}
}

func (b *builder) zone(f *Flow) {
	if f.Zone != 0 {
		b.attr(18, byte(f.Zone>>8), byte(f.Zone)) // CTA_ZONE
	}
}

func (b *builder) tuple(proto uint8, src, dst netip.AddrPort) {
	b.nest(1, func() { // CTA_TUPLE_IP
		if src.Addr().Is4() {
			b.attr(1, src.Addr().AsSlice()...)
			b.attr(2, dst.Addr().AsSlice()...)
		} else {
			b.attr(3, src.Addr().AsSlice()...)
			b.attr(4, dst.Addr().AsSlice()...)
		}
	})
	b.nest(2, func() { // CTA_TUPLE_PROTO
		b.attr(1, proto)
		b.attr(2, byte(src.Port()>>8), byte(src.Port()))
		b.attr(3, byte(dst.Port()>>8), byte(dst.Port()))
	})
}

func (b *builder) nat(to netip.AddrPort) {
	a := to.Addr().AsSlice()
	if to.Addr().Is4() {
		b.attr(1, a...) // CTA_NAT_V4_MINIP
		b.attr(2, a...)
	} else {
		b.attr(4, a...) // CTA_NAT_V6_MINIP
		b.attr(5, a...)
	}
	b.nest(3, func() { // CTA_NAT_PROTO
		b.attr(1, byte(to.Port()>>8), byte(to.Port()))
		b.attr(2, byte(to.Port()>>8), byte(to.Port()))
	})
}

func (b *builder) begin(typ, flags uint16, family uint8) {
	b.last = len(b.batch)
	b.batch = binary.NativeEndian.AppendUint32(b.batch, 0)
	b.batch = binary.NativeEndian.AppendUint16(b.batch, typ)
	b.batch = binary.NativeEndian.AppendUint16(b.batch, flags)
	b.batch = binary.NativeEndian.AppendUint32(b.batch, b.seq)
	b.batch = binary.NativeEndian.AppendUint32(b.batch, b.portID)
	b.batch = append(b.batch, family, unix.NFNETLINK_V0, 0, 0)
}

func (b *builder) end() { binary.NativeEndian.PutUint32(b.batch[b.last:], uint32(len(b.batch)-b.last)) }

func (b *builder) nest(typ uint16, body func()) {
	at := len(b.batch)
	b.batch = binary.NativeEndian.AppendUint16(b.batch, 0)
	b.batch = binary.NativeEndian.AppendUint16(b.batch, typ|nested)
	body()
	binary.NativeEndian.PutUint16(b.batch[at:], uint16(len(b.batch)-at))
}

func (b *builder) attr(typ uint16, value ...byte) {
	b.batch = binary.NativeEndian.AppendUint16(b.batch, uint16(4+len(value)))
	b.batch = binary.NativeEndian.AppendUint16(b.batch, typ)
	b.batch = append(b.batch, value...)
	for len(b.batch)%4 != 0 {
		b.batch = append(b.batch, 0)
	}
}

func (b *builder) be32(typ uint16, v uint32) {
	b.attr(typ, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}
