package capture

import (
	"encoding/binary"
	"net/netip"
)

// Meta is what the kernel says of a packet beside its bytes.
type Meta struct {
	Link     Link
	Index    int  // of the interface
	Length   int  // bytes that the packet has, of which perhaps only the first were handed over (tpacket_auxdata, tp_len)
	Outgoing bool // sent by this node (sockaddr_ll, PACKET_OUTGOING)
	MTU      int  // of the interface; 0: not known

	NotReady bool // CHECKSUM_PARTIAL: a checksum in it is still to be finished by a NIC (TP_STATUS_CSUMNOTREADY)
	Verified bool // the driver has verified the checksum, and the kernel does not (TP_STATUS_CSUM_VALID, 4.0)
	GSO      bool // several packets in one, to be cut on the way out or put together on the way in

	// ChecksumStart and ChecksumOffset say which checksum is unfinished when NotReady: the sum over everything from the
	// first, to be put at the second counted from there (struct virtio_net_hdr, csum_start and csum_offset). Start 0:
	// not known.
	ChecksumStart, ChecksumOffset int
}

// Kind is the verdict on the outer UDP checksum of a packet.
type Kind string

// The verdicts.
const (
	Zero        Kind = "zero"         // there is none
	OK          Kind = "ok"           // right
	Partial     Kind = "partial"      // still to be computed by the NIC; what it needs for that is right
	CompletedOK Kind = "completed_ok" // right as soon as the NIC has finished the inner checksum
	Unjudgeable Kind = "unjudgeable"  // see Reason
	Bad         Kind = "bad"          // wrong; a receiver drops it
)

// Kinds lists all verdicts.
func Kinds() []Kind { return []Kind{Zero, OK, Partial, CompletedOK, Unjudgeable, Bad} }

// Reason says why a packet cannot be judged.
type Reason string

// The reasons.
const (
	NotUDP      Reason = "no complete UDP header"
	Malformed   Reason = "lengths contradict each other"
	Corrupt     Reason = "IPv4 header checksum is wrong"
	NotVXLAN    Reason = "no VXLAN header"
	Fragment    Reason = "fragment"
	Truncated   Reason = "captured only in part"
	Aggregated  Reason = "several packets in one, or longer than the MTU"
	Unfinished  Reason = "wrong, but not finished either"
	VouchedFor  Reason = "wrong, but the driver vouches for it"
	UnknownLink Reason = "unfinished at a place that is not understood"
)

// Variant says what made a checksum bad.
type Variant string

// The variants.
const (
	// ZeroChecksum: the field is 0xffff, which is what NAT makes of "none" on kernels before ea64d8d6c675.
	ZeroChecksum Variant = "zero_checksum"
	// OffloadedChecksum: the field is right for another source port, one that a VXLAN device would have chosen: NAT
	// changed the port and left the checksum as it was, because it took it for unfinished.
	OffloadedChecksum Variant = "offloaded_checksum"
	// UnfinishedChecksum: the outer or the inner checksum field holds only the sum of the pseudo-header. A NIC or
	// hypervisor forgot to finish it.
	UnfinishedChecksum Variant = "unfinished_checksum"
	// UnknownVariant: none of these; also NAT that changed the source address as well.
	UnknownVariant Variant = "unknown"
)

// Verdict is what Judge says of a packet. The addresses and Field are zero values when Reason is NotUDP; Correct is set
// for OK, CompletedOK and Bad, and for Zero when the whole datagram is there.
type Verdict struct {
	Kind    Kind
	Reason  Reason  // for Unjudgeable
	Variant Variant // for Bad

	Source, Destination netip.AddrPort
	Field               uint16 // the checksum field
	Correct             uint16 // what it should be
	// SourcePortPreNAT is the source port for which Field is right, for OffloadedChecksum; else 0: it cannot be told.
	SourcePortPreNAT uint16
}

// Source ports that a Linux VXLAN device picks unless told otherwise (udp_flow_src_port, include/net/udp.h): the
// default of net.ipv4.ip_local_port_range (inet_init_net, net/ipv4/af_inet.c).
const (
	firstLocalPort = 32768
	lastLocalPort  = 60999
)

// Judge says whether the outer UDP checksum of a VXLAN packet is right. It only calls a packet bad when it has all of
// it and the sum is wrong whatever a NIC may still do to it.
//
// An incoming packet that is still unfinished has come through memory (veth, virtio), and the receiver does not check
// it (__skb_checksum_validate_needed, include/linux/skbuff.h), nor one that the driver vouches for: neither is ever
// bad.
func Judge(frame []byte, m Meta) Verdict {
	d, ok := parse(frame, m.Link)
	if !ok {
		return Verdict{Kind: Unjudgeable, Reason: NotUDP}
	}
	v := Verdict{Source: d.source, Destination: d.destination, Field: binary.BigEndian.Uint16(frame[d.offset+6:])}
	if v.Kind, v.Reason = v.judge(frame, d, m); v.Field == 0 {
		v.Kind, v.Reason, v.Variant, v.SourcePortPreNAT = Zero, "", "", 0
	}
	return v
}

func (v *Verdict) judge(frame []byte, d datagram, m Meta) (Kind, Reason) {
	switch {
	case d.fragment:
		return Unjudgeable, Fragment
	case m.NotReady && v.Field == d.pseudo:
		return Partial, ""
	case m.GSO || (m.NotReady && overlong(d, m)):
		return Unjudgeable, Aggregated
	case d.length < udpHeader+vxlanHeader || d.length > d.available:
		return Unjudgeable, Malformed
	case len(frame) < d.offset+d.length:
		return Unjudgeable, Truncated
	}
	udp := frame[d.offset : d.offset+d.length]
	rest := sum(uint64(d.pseudo), udp) + uint64(^v.Field) // everything but the field
	kind := OK
	if m.NotReady {
		change, ok := completion(frame, d, m)
		if !ok {
			return Unjudgeable, UnknownLink
		}
		rest += uint64(change)
		kind = CompletedOK
	}
	v.Correct = complement(rest)
	if v.Field == v.Correct {
		return kind, ""
	}
	switch {
	case d.badHeader:
		return Unjudgeable, Corrupt
	case udp[udpHeader]&0x08 == 0: // flag I, RFC 7348 section 5; without it the kernel drops the packet (vxlan_rcv)
		return Unjudgeable, NotVXLAN
	case overlong(d, m):
		return Unjudgeable, Aggregated
	case m.NotReady && !m.Outgoing:
		return Unjudgeable, Unfinished
	case m.Verified:
		return Unjudgeable, VouchedFor
	}
	v.Variant, v.SourcePortPreNAT = v.variant(udp, d, m)
	return Bad, ""
}

// overlong reports whether the packet is longer than the interface can send.
func overlong(d datagram, m Meta) bool {
	return m.MTU > 0 && max(m.Length, d.offset+d.available) > maxLength(m.Link, m.MTU)
}

// maxLength is how long a single packet on an interface can be, all headers included.
func maxLength(link Link, mtu int) int {
	if link == RawIP {
		return mtu
	}
	return mtu + etherHeader + maxVLANTags*vlanTag
}

// completion returns by how much the sum of the frame changes when a NIC finishes the checksum that is unfinished
// (skb_checksum_help, net/core/dev.c). ok is false unless it is that of a TCP or UDP header inside the datagram.
func completion(frame []byte, d datagram, m Meta) (change uint16, ok bool) {
	start, end := m.ChecksumStart, d.offset+d.length
	at := start + m.ChecksumOffset
	switch {
	case m.ChecksumOffset != 6 && m.ChecksumOffset != 16: // struct udphdr and tcphdr; others are no ones' complement sums
		return 0, false
	case start < d.offset+udpHeader+vxlanHeader || at+2 > end || (at-d.offset)%2 != 0 || (start-d.offset)%2 != 0:
		return 0, false
	case m.Length > end: // what follows the datagram would be summed too
		return 0, false
	}
	return subtract(complement(sum(0, frame[start:end])), binary.BigEndian.Uint16(frame[at:])), true
}

// variant explains a wrong field.
func (v *Verdict) variant(udp []byte, d datagram, m Meta) (Variant, uint16) {
	if v.Field == 0xffff {
		return ZeroChecksum, 0
	}
	if !m.NotReady && (v.Field == d.pseudo || v.innerUnfinished(udp, d)) {
		return UnfinishedChecksum, 0
	}
	// The field is right but for the source port: field + new port = correct + old port.
	port := fold(uint64(v.Source.Port()) + uint64(v.Correct) + uint64(^v.Field))
	if port >= firstLocalPort && port <= lastLocalPort {
		return OffloadedChecksum, port
	}
	return UnknownVariant, 0
}

// innerUnfinished reports whether the inner checksum is only that of the pseudo-header, and the outer one right as soon
// as it is finished.
func (v *Verdict) innerUnfinished(udp []byte, d datagram) bool {
	start, field, ok := innerChecksum(udp)
	if !ok || start%2 != 0 {
		return false
	}
	change := subtract(complement(sum(0, udp[start:])), binary.BigEndian.Uint16(udp[start+field:]))
	return complement(sum(uint64(d.pseudo), udp)+uint64(^v.Field)+uint64(change)) == v.Field
}
