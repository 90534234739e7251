package conntrack

import (
	"encoding/binary"
	"net/netip"

	"vxlan_exporter/internal/kernel/nl"

	"golang.org/x/sys/unix"
)

// tuple is one direction of an entry, in place.
type tuple struct {
	src, dst         []byte // 4 or 16 bytes, nil when absent
	srcPort, dstPort uint16
	zone             uint16
	proto            uint8
	hasPorts         bool
}

func (t *tuple) parse(b []byte) bool {
	for len(b) > 0 {
		typ, v, rest, ok := nl.Next(b)
		if !ok {
			return false
		}
		b = rest
		switch typ {
		case ctaTupleIP:
			if !t.parseIP(v) {
				return false
			}
		case ctaTupleProto:
			if !t.parseProto(v) {
				return false
			}
		case ctaTupleZone:
			if len(v) != 2 {
				return false
			}
			t.zone = binary.BigEndian.Uint16(v)
		}
	}
	return true
}

func (t *tuple) parseIP(b []byte) bool {
	for len(b) > 0 {
		typ, v, rest, ok := nl.Next(b)
		if !ok {
			return false
		}
		b = rest
		want := 4
		if typ == ctaIPv6Src || typ == ctaIPv6Dst {
			want = 16
		}
		switch typ {
		case ctaIPv4Src, ctaIPv6Src:
			t.src = v
		case ctaIPv4Dst, ctaIPv6Dst:
			t.dst = v
		default:
			continue
		}
		if len(v) != want {
			return false
		}
	}
	return true
}

func (t *tuple) parseProto(b []byte) bool {
	var ports int
	for len(b) > 0 {
		typ, v, rest, ok := nl.Next(b)
		if !ok {
			return false
		}
		b = rest
		switch typ {
		case ctaProtoNum:
			if len(v) != 1 {
				return false
			}
			t.proto = v[0]
		case ctaProtoSrcPort:
			if len(v) != 2 {
				return false
			}
			t.srcPort = binary.BigEndian.Uint16(v)
			ports |= 1
		case ctaProtoDstPort:
			if len(v) != 2 {
				return false
			}
			t.dstPort = binary.BigEndian.Uint16(v)
			ports |= 2
		}
	}
	t.hasPorts = ports == 3
	return true
}

// ends returns both ends of t, invalid when t lacks an address or a port, or has one of another family.
func (t *tuple) ends(family uint8) (src, dst netip.AddrPort) {
	if !t.hasPorts {
		return src, dst
	}
	switch {
	case family == unix.AF_INET && len(t.src) == 4 && len(t.dst) == 4:
		src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(t.src)), t.srcPort)
		dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(t.dst)), t.dstPort)
	case family == unix.AF_INET6 && len(t.src) == 16 && len(t.dst) == 16:
		src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(t.src)), t.srcPort)
		dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(t.dst)), t.dstPort)
	}
	return src, dst
}

// entry is what an IPCTNL_MSG_CT_NEW message says of a flow, as far as it is wanted.
type entry struct {
	family uint8
	proto  uint8 // of the original tuple; 0 when the kernel did not say
	match  int   // index of the target, or -1
	flow   Flow  // set when match is not -1
}

// parse reads the message's payload. Entries that no target wants are left as soon as their original tuple is read,
// which is the first attribute (ctnetlink_fill_info).
func (e *entry) parse(b []byte, want *targetSet) error {
	if len(b) < sizeofNfGenMsg {
		return nl.ErrMalformed
	}
	e.family, e.proto, e.match = b[0], 0, -1
	attrs := b[sizeofNfGenMsg:]

	var orig tuple
	for rest := attrs; ; {
		if len(rest) == 0 {
			return nil // no original tuple: nothing to judge
		}
		typ, v, r, ok := nl.Next(rest)
		if !ok {
			return nl.ErrMalformed
		}
		rest = r
		if typ == ctaTupleOrig {
			if !orig.parse(v) {
				return nl.ErrMalformed
			}
			break
		}
	}
	e.proto = orig.proto
	if orig.proto != unix.IPPROTO_UDP || !orig.hasPorts {
		return nil
	}
	match := want.find(e.family, orig.dstPort)
	if match < 0 {
		return nil
	}

	e.flow = Flow{Target: match, Zone: orig.zone}
	e.flow.Source, e.flow.Destination = orig.ends(e.family)
	if !e.flow.Source.IsValid() {
		return nl.ErrMalformed
	}
	for rest := attrs; len(rest) > 0; {
		typ, v, r, ok := nl.Next(rest)
		if !ok {
			return nl.ErrMalformed
		}
		rest = r
		switch typ {
		case ctaTupleReply:
			var reply tuple
			if !reply.parse(v) {
				return nl.ErrMalformed
			}
			e.flow.ReplySource, e.flow.ReplyDestination = reply.ends(e.family)
		case ctaStatus, ctaID, ctaTimeout:
			if len(v) != 4 {
				return nl.ErrMalformed
			}
			switch n := binary.BigEndian.Uint32(v); typ {
			case ctaStatus:
				e.flow.Status = n
			case ctaID:
				e.flow.ID = n
			default:
				e.flow.Timeout = n
			}
		case ctaZone:
			if len(v) != 2 {
				return nl.ErrMalformed
			}
			e.flow.Zone = binary.BigEndian.Uint16(v)
		}
	}
	e.match = match
	return nil
}

// targetSet finds the target of a flow in constant time, whatever the number of ports.
type targetSet struct {
	ports   [2][1 << 16 / 64]uint64 // bit sets, IPv4 and IPv6
	targets []Target
}

func (s *targetSet) set(targets []Target) {
	s.ports = [2][1 << 16 / 64]uint64{}
	s.targets = append(s.targets[:0], targets...)
	for _, t := range targets {
		s.ports[familyIndex(t.Family)][t.Port/64] |= 1 << (t.Port % 64)
	}
}

func (s *targetSet) find(family uint8, port uint16) int {
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return -1
	}
	if s.ports[familyIndex(family)][port/64]&(1<<(port%64)) == 0 {
		return -1
	}
	for i, t := range s.targets {
		if t.Family == family && t.Port == port {
			return i
		}
	}
	return -1
}

func familyIndex(family uint8) int {
	if family == unix.AF_INET6 {
		return 1
	}
	return 0
}
