package conntracktest

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// builder writes ctnetlink messages one behind the other.
type builder struct {
	seq, portID uint32
	batch       []byte
	last        int // start of the last message in batch
}

func (b *builder) tuples(f *Flow) {
	b.nest(1, func() { b.tuple(f.Proto, f.Source, f.Destination) }) // CTA_TUPLE_ORIG
	b.nest(2, func() {
		b.tuple(f.Proto, cmp.Or(f.ReplySource, f.Destination), cmp.Or(f.ReplyDestination, f.Source))
	})
}

// fresh writes what a new entry is created from.
func (b *builder) fresh(f *Flow) {
	b.tuples(f)
	if f.Replied {
		b.be32(3, 2|4|8) // CTA_STATUS: IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED
	}
	b.be32(7, uint32(cmp.Or(f.Timeout, time.Hour)/time.Second)) // CTA_TIMEOUT
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
		first := uint16(1) // CTA_IP_V4_SRC
		if src.Addr().Is6() {
			first = 3 // CTA_IP_V6_SRC
		}
		b.attr(first, src.Addr().AsSlice()...)
		b.attr(first+1, dst.Addr().AsSlice()...)
	})
	b.nest(2, func() { // CTA_TUPLE_PROTO
		b.attr(1, proto)
		b.attr(2, byte(src.Port()>>8), byte(src.Port()))
		b.attr(3, byte(dst.Port()>>8), byte(dst.Port()))
	})
}

func (b *builder) nat(to netip.AddrPort) {
	least := uint16(1) // CTA_NAT_V4_MINIP
	if to.Addr().Is6() {
		least = 4 // CTA_NAT_V6_MINIP
	}
	b.attr(least, to.Addr().AsSlice()...)
	b.attr(least+1, to.Addr().AsSlice()...)
	b.nest(3, func() { // CTA_NAT_PROTO
		b.attr(1, byte(to.Port()>>8), byte(to.Port()))
		b.attr(2, byte(to.Port()>>8), byte(to.Port()))
	})
}

func (b *builder) begin(typ, flags uint16, family uint8) {
	b.last = len(b.batch)
	to := Request{Seq: b.seq, PortID: b.portID}
	b.batch = append(b.batch, Message(to, typ, flags, []byte{family, unix.NFNETLINK_V0, 0, 0})...)
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
	b.batch = nl.Append(b.batch, typ, value)
}

func (b *builder) be32(typ uint16, v uint32) {
	b.attr(typ, binary.BigEndian.AppendUint32(nil, v)...)
}
