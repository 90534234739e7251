package capture_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"vxlan_exporter/internal/kernel/capture"
)

// layout describes a VXLAN packet to build: outer Ethernet, IP, UDP, VXLAN, inner Ethernet, IPv4, TCP.
type layout struct {
	six           bool
	tags          []uint16 // EtherTypes of tags in the frame
	options       int      // words of IPv4 options
	extensions    []byte   // IPv6 extension headers, 8 bytes each
	fragment      uint16   // IPv4 flags and offset
	sport, dport  uint16
	payload       int
	noVNI         bool
	innerPartial  bool // the inner checksum holds the pseudo-header's sum
	outerPartial  bool // the outer too
	field         func(correct uint16) uint16
	padding       int // bytes behind the IP packet
	badIPChecksum bool
}

// word sums in the plainest way, to check the package by another.
func word(s uint32, b []byte) uint32 {
	for i, c := range b {
		if i%2 == 0 {
			s += uint32(c) << 8
		} else {
			s += uint32(c)
		}
		s = s>>16 + s&0xffff
	}
	return s
}

func finish(s uint32) uint16 {
	s = s>>16 + s&0xffff
	if c := ^uint16(s); c != 0 {
		return c
	}
	return 0xffff
}

// build returns the frame, the offsets of the UDP and of the inner TCP header, and the right outer checksum for the
// packet as it will be when a NIC has finished it.
func (l layout) build() (frame []byte, udpAt, tcpAt int, correct uint16) {
	be := binary.BigEndian
	frame = append(frame, 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1)
	for _, t := range l.tags {
		frame = be.AppendUint16(frame, t)
		frame = be.AppendUint16(frame, 5)
	}
	payload := make([]byte, l.payload)
	for i := range payload {
		payload[i] = byte(i*7 + 3)
	}
	// inner
	tcp := make([]byte, 20, 20+len(payload))
	be.PutUint16(tcp, 40000)
	be.PutUint16(tcp[2:], 80)
	tcp[12] = 5 << 4
	tcp = append(tcp, payload...)
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	be.PutUint16(ip[2:], uint16(20+len(tcp)))
	be.PutUint16(ip[4:], 0x1234)
	copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	be.PutUint16(ip[10:], finish(word(0, ip)))
	pseudo := word(uint32(6+len(tcp)), ip[12:20])
	done := finish(word(pseudo, tcp))
	be.PutUint16(tcp[16:], done)

	udp := make([]byte, 16)
	be.PutUint16(udp, l.sport)
	be.PutUint16(udp[2:], l.dport)
	if !l.noVNI {
		udp[8] = 8
	}
	udp[14] = 1
	udp = append(udp, 2, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 3, 8, 0)
	udp = append(udp, ip...)
	tcpAt = len(udp)
	udp = append(udp, tcp...)
	be.PutUint16(udp[4:], uint16(len(udp)))

	var outer uint32
	var header []byte
	if l.six {
		header = make([]byte, 40)
		header[0], header[7] = 0x60, 64
		be.PutUint16(header[4:], uint16(len(udp)+8*len(l.extensions)))
		a, b := netip.MustParseAddr("fd00::1").As16(), netip.MustParseAddr("fd00::2").As16()
		copy(header[8:], a[:])
		copy(header[24:], b[:])
		outer = word(uint32(17+len(udp)), header[8:40])
		next := append(append([]byte{}, l.extensions...), 17)
		header[6] = next[0]
		for i := range l.extensions {
			header = append(header, next[i+1], 0, 0, 0, 0, 0, 0, 0)
		}
		frame = be.AppendUint16(frame, 0x86dd)
	} else {
		header = make([]byte, 20+4*l.options)
		header[0], header[8], header[9] = byte(0x45+l.options), 64, 17
		be.PutUint16(header[2:], uint16(len(header)+len(udp)))
		be.PutUint16(header[6:], l.fragment)
		copy(header[12:], []byte{192, 168, 77, 1, 192, 168, 77, 2})
		sum := finish(word(0, header))
		if l.badIPChecksum {
			sum ^= 0x0100
		}
		be.PutUint16(header[10:], sum)
		outer = word(uint32(17+len(udp)), header[12:20])
		frame = be.AppendUint16(frame, 0x0800)
	}
	correct = finish(word(outer, udp))
	field := correct
	if l.field != nil {
		field = l.field(correct)
	}
	if l.innerPartial {
		be.PutUint16(udp[tcpAt+16:], uint16(pseudo>>16+pseudo&0xffff))
	}
	if l.outerPartial {
		field = uint16(outer>>16 + outer&0xffff)
	}
	be.PutUint16(udp[6:], field)
	frame = append(frame, header...)
	udpAt = len(frame)
	frame = append(frame, udp...)
	return append(frame, make([]byte, l.padding)...), udpAt, udpAt + tcpAt, correct
}

// natPort makes the field right for another source port: what NAT leaves of an offloaded checksum.
func natPort(before, after uint16) func(uint16) uint16 {
	return func(correct uint16) uint16 { return ^finish(uint32(correct) + uint32(after) + uint32(^before)) }
}

func set(v uint16) func(uint16) uint16 { return func(uint16) uint16 { return v } }
func add(v uint16) func(uint16) uint16 { return func(c uint16) uint16 { return c + v } }

func TestJudge(t *testing.T) {
	const mtu = 1500
	finishInner := func(frame []byte, tcpAt int, m *capture.Meta) {
		m.NotReady, m.ChecksumStart, m.ChecksumOffset = true, tcpAt, 16
	}
	outgoing := func(_ []byte, _ int, m *capture.Meta) { m.Outgoing = true }
	both := func(a, b func([]byte, int, *capture.Meta)) func([]byte, int, *capture.Meta) {
		return func(f []byte, at int, m *capture.Meta) { a(f, at, m); b(f, at, m) }
	}
	tests := map[string]struct {
		l       layout
		meta    func(frame []byte, tcpAt int, m *capture.Meta)
		cut     int // bytes captured, 0: all
		kind    capture.Kind
		reason  capture.Reason
		variant capture.Variant
		preNAT  uint16
	}{
		"right":             {l: layout{}, kind: capture.OK},
		"right, odd length": {l: layout{payload: 7}, kind: capture.OK},
		"right, padded":     {l: layout{padding: 6}, kind: capture.OK},
		"right, IPv6":       {l: layout{six: true, payload: 100}, kind: capture.OK},
		"right, tagged":     {l: layout{tags: []uint16{0x8100}}, kind: capture.OK},
		"right, QinQ":       {l: layout{tags: []uint16{0x88a8, 0x8100}}, kind: capture.OK},
		"none":              {l: layout{field: set(0)}, kind: capture.Zero},
		"none, IPv6":        {l: layout{six: true, field: set(0)}, kind: capture.Zero},

		"A":       {l: layout{field: set(0xffff)}, kind: capture.Bad, variant: capture.ZeroChecksum},
		"A, IPv6": {l: layout{six: true, field: set(0xffff)}, kind: capture.Bad, variant: capture.ZeroChecksum},
		"A, sent": {
			l: layout{field: set(0xffff)}, meta: outgoing, kind: capture.Bad,
			variant: capture.ZeroChecksum,
		},
		"B": {
			l: layout{sport: 5032, field: natPort(41234, 5032)}, kind: capture.Bad,
			variant: capture.OffloadedChecksum, preNAT: 41234,
		},
		"B, lowest port": {
			l: layout{sport: 65535, field: natPort(32768, 65535)}, kind: capture.Bad,
			variant: capture.OffloadedChecksum, preNAT: 32768,
		},
		"B, highest port": {
			l: layout{sport: 1024, field: natPort(60999, 1024)}, kind: capture.Bad,
			variant: capture.OffloadedChecksum, preNAT: 60999,
		},
		"B, IPv6": {
			l: layout{six: true, sport: 5032, field: natPort(41234, 5032)}, kind: capture.Bad,
			variant: capture.OffloadedChecksum, preNAT: 41234,
		},
		"no VXLAN port before": {
			l: layout{sport: 5032, field: natPort(61000, 5032)}, kind: capture.Bad,
			variant: capture.UnknownVariant,
		},
		"B, still unfinished, sent": {
			l:    layout{sport: 5032, innerPartial: true, field: natPort(41234, 5032)},
			meta: both(finishInner, outgoing), kind: capture.Bad, variant: capture.OffloadedChecksum, preNAT: 41234,
		},
		"B, still unfinished, received": {
			l:    layout{sport: 5032, innerPartial: true, field: natPort(41234, 5032)},
			meta: finishInner, kind: capture.Unjudgeable, reason: capture.Unfinished,
		},
		"outer never finished": {l: layout{outerPartial: true}, kind: capture.Bad, variant: capture.UnfinishedChecksum},
		"inner never finished": {l: layout{innerPartial: true}, kind: capture.Bad, variant: capture.UnfinishedChecksum},

		"unfinished inside, received": {l: layout{innerPartial: true}, meta: finishInner, kind: capture.CompletedOK},
		"unfinished inside, sent": {
			l: layout{innerPartial: true, payload: 33}, meta: both(finishInner, outgoing),
			kind: capture.CompletedOK,
		},
		"unfinished inside, IPv6": {
			l: layout{six: true, innerPartial: true}, meta: finishInner,
			kind: capture.CompletedOK,
		},
		"unfinished outside": {l: layout{outerPartial: true}, meta: func(_ []byte, at int, m *capture.Meta) {
			m.NotReady, m.ChecksumStart, m.ChecksumOffset = true, 34, 6
		}, kind: capture.Partial},
		"unfinished outside, captured in part": {
			l:    layout{outerPartial: true, payload: 1000},
			meta: func(_ []byte, at int, m *capture.Meta) { m.NotReady = true }, cut: 128, kind: capture.Partial,
		},
		"unfinished somewhere": {
			l:    layout{innerPartial: true},
			meta: func(_ []byte, at int, m *capture.Meta) { m.NotReady = true }, kind: capture.Unjudgeable,
			reason: capture.UnknownLink,
		},
		"unfinished, SCTP": {l: layout{innerPartial: true}, meta: func(_ []byte, at int, m *capture.Meta) {
			m.NotReady, m.ChecksumStart, m.ChecksumOffset = true, at, 8
		}, kind: capture.Unjudgeable, reason: capture.UnknownLink},
		"unfinished, padded": {
			l: layout{innerPartial: true, padding: 2}, meta: finishInner, kind: capture.Unjudgeable,
			reason: capture.UnknownLink,
		},

		"GSO": {l: layout{innerPartial: true, field: set(77)}, meta: func(_ []byte, at int, m *capture.Meta) {
			m.NotReady, m.GSO, m.Outgoing = true, true, true
		}, kind: capture.Unjudgeable, reason: capture.Aggregated},
		"aggregated on the way in": {
			l:    layout{field: set(77)},
			meta: func(_ []byte, at int, m *capture.Meta) { m.GSO = true }, kind: capture.Unjudgeable,
			reason: capture.Aggregated,
		},
		"longer than the MTU": {
			l: layout{payload: 1500, field: set(77)}, kind: capture.Unjudgeable,
			reason: capture.Aggregated,
		},
		"longer than the MTU, right": {l: layout{payload: 1500}, kind: capture.OK},
		"cut": {
			l: layout{payload: 1000, field: set(77)}, cut: 128, kind: capture.Unjudgeable,
			reason: capture.Truncated,
		},
		"cut in the header": {l: layout{}, cut: 38, kind: capture.Unjudgeable, reason: capture.NotUDP},
		"first fragment": {
			l: layout{fragment: 0x2000, field: set(77)}, kind: capture.Unjudgeable,
			reason: capture.Fragment,
		},
		"later fragment": {l: layout{fragment: 0x2001}, kind: capture.Unjudgeable, reason: capture.NotUDP},
		"IPv4 header corrupt": {
			l: layout{badIPChecksum: true, field: add(1)}, kind: capture.Unjudgeable,
			reason: capture.Corrupt,
		},
		"not VXLAN": {
			l: layout{noVNI: true, field: add(1)}, kind: capture.Unjudgeable,
			reason: capture.NotVXLAN,
		},
		"not VXLAN, right": {l: layout{noVNI: true}, kind: capture.OK},
		"vouched for": {
			l:    layout{field: add(1)},
			meta: func(_ []byte, at int, m *capture.Meta) { m.Verified = true }, kind: capture.Unjudgeable,
			reason: capture.VouchedFor,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.l.sport == 0 {
				tt.l.sport = 45678
			}
			tt.l.dport = 8472
			frame, _, tcpAt, correct := tt.l.build()
			m := capture.Meta{Length: len(frame), MTU: mtu}
			if tt.meta != nil {
				tt.meta(frame, tcpAt, &m)
			}
			if tt.cut > 0 {
				frame = frame[:tt.cut]
			}
			v := capture.Judge(frame, m)
			if v.Kind != tt.kind || v.Reason != tt.reason || v.Variant != tt.variant || v.SourcePortPreNAT != tt.preNAT {
				t.Fatalf("%+v, want %s %q %q, port %d", v, tt.kind, tt.reason, tt.variant, tt.preNAT)
			}
			if v.Kind == capture.Bad && tt.variant != capture.UnfinishedChecksum && v.Correct != correct {
				t.Errorf("correct %#x, want %#x", v.Correct, correct)
			}
			if v.Reason != capture.NotUDP && (v.Source.Port() != tt.l.sport || v.Destination.Port() != 8472) {
				t.Errorf("from %s to %s", v.Source, v.Destination)
			}
		})
	}
}

// TestJudgeRaw: interfaces without a link-layer header.
func TestJudgeRaw(t *testing.T) {
	for _, six := range []bool{false, true} {
		frame, _, _, _ := layout{six: six, sport: 40000, dport: 4789}.build()
		if v := capture.Judge(frame[14:], capture.Meta{Link: capture.RawIP, MTU: 1420}); v.Kind != capture.OK {
			t.Errorf("six %v: %+v", six, v)
		}
	}
}

// TestEveryPort: for every pair of ports the deduction finds the port before NAT, and never a port for a packet that is
// right.
func TestEveryPort(t *testing.T) {
	for before := 32768; before <= 60999; before += 7 {
		after := uint16(1024 + before*31%64512)
		if int(after) == before {
			continue
		}
		frame, _, _, _ := layout{sport: after, dport: 8472, field: natPort(uint16(before), after)}.build()
		v := capture.Judge(frame, capture.Meta{})
		if v.Field == 0xffff {
			continue // one in 65535 looks like the other variant
		}
		if v.Variant != capture.OffloadedChecksum || v.SourcePortPreNAT != uint16(before) {
			t.Fatalf("%d to %d: %+v", before, after, v)
		}
	}
}
