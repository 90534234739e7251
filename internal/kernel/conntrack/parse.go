package conntrack

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"vxlan_exporter/internal/kernel/nl"

	"golang.org/x/sys/unix"
)

// tuple is one direction of an entry, in place.
type tuple struct {
	src, dst         []byte // 4 or 16 bytes, nil when absent
	srcPort, dstPort uint16
	zone             uint16
	proto            uint8
	ports            uint8 // 1: the source's is there; 2: the destination's
}

func (t *tuple) parse(b []byte) (ok bool) {
	var typ uint16
	var v []byte
	for ok = true; ok && len(b) > 0; {
		typ, v, b, ok = nl.Next(b)
		switch typ {
		case ctaTupleIP:
			ok = t.parseIP(v)
		case ctaTupleProto:
			ok = t.parseProto(v)
		case ctaTupleZone:
			ok = be16(v, &t.zone)
		}
	}
	return ok
}

func (t *tuple) parseIP(b []byte) (ok bool) {
	var typ uint16
	var v []byte
	for ok = true; ok && len(b) > 0; {
		typ, v, b, ok = nl.Next(b)
		switch typ {
		case ctaIPv4Src:
			t.src, ok = v, len(v) == 4
		case ctaIPv4Dst:
			t.dst, ok = v, len(v) == 4
		case ctaIPv6Src:
			t.src, ok = v, len(v) == 16
		case ctaIPv6Dst:
			t.dst, ok = v, len(v) == 16
		}
	}
	return ok
}

func (t *tuple) parseProto(b []byte) (ok bool) {
	var typ uint16
	var v []byte
	for ok = true; ok && len(b) > 0; {
		typ, v, b, ok = nl.Next(b)
		switch typ {
		case ctaProtoNum:
			if ok = len(v) == 1; ok {
				t.proto = v[0]
			}
		case ctaProtoSrcPort:
			ok = be16(v, &t.srcPort)
			t.ports |= 1
		case ctaProtoDstPort:
			ok = be16(v, &t.dstPort)
			t.ports |= 2
		}
	}
	return ok
}

func (t *tuple) hasPorts() bool { return t.ports == 3 }

// be16 and be32 read an attribute in network byte order.
func be16(v []byte, to *uint16) (ok bool) {
	if ok = len(v) == 2; ok {
		*to = binary.BigEndian.Uint16(v)
	}
	return ok
}

func be32(v []byte, to *uint32) (ok bool) {
	if ok = len(v) == 4; ok {
		*to = binary.BigEndian.Uint32(v)
	}
	return ok
}

// ends returns both ends of t, invalid when t lacks an address or a port, or has one of another family.
func (t *tuple) ends(family uint8) (src, dst netip.AddrPort) {
	size := 4
	if family == unix.AF_INET6 {
		size = 16
	}
	if t.hasPorts() && len(t.src) == size && len(t.dst) == size {
		from, _ := netip.AddrFromSlice(t.src)
		to, _ := netip.AddrFromSlice(t.dst)
		src, dst = netip.AddrPortFrom(from, t.srcPort), netip.AddrPortFrom(to, t.dstPort)
	}
	return src, dst
}

// entry is what an IPCTNL_MSG_CT_NEW message says of a flow, as far as it is wanted.
type entry struct {
	family uint8
	proto  uint8 // of the original tuple; 0 when the kernel did not say
	flow   Flow
}

// parse reads the message's payload and reports whether a target wants the entry. Those that none wants are left as
// soon as their original tuple is read, which comes before all that is kept of a flow (ctnetlink_fill_info).
func (e *entry) parse(b []byte, targets []Target) (wanted bool, err error) {
	if len(b) < sizeofNfGenMsg {
		return false, nl.ErrMalformed
	}
	e.family, e.proto = b[0], 0
	f := &e.flow
	var typ uint16
	var v []byte
	ok := true
	for b = b[sizeofNfGenMsg:]; ok && len(b) > 0; {
		typ, v, b, ok = nl.Next(b)
		switch typ {
		case ctaTupleOrig:
			var orig tuple
			if !orig.parse(v) {
				return false, nl.ErrMalformed
			}
			if e.proto = orig.proto; e.proto != unix.IPPROTO_UDP || !orig.hasPorts() {
				return false, nil
			}
			target := slices.Index(targets, Target{e.family, orig.dstPort})
			if target < 0 {
				return false, nil
			}
			*f = Flow{Target: target, Zone: orig.zone}
			f.Source, f.Destination = orig.ends(e.family)
			wanted, ok = true, f.Source.IsValid()
		case ctaTupleReply:
			var reply tuple
			ok = reply.parse(v)
			f.ReplySource, f.ReplyDestination = reply.ends(e.family)
		case ctaStatus:
			ok = be32(v, &f.Status)
		case ctaID:
			ok = be32(v, &f.ID)
		case ctaTimeout:
			ok = be32(v, &f.Timeout)
		case ctaZone:
			ok = be16(v, &f.Zone)
		}
	}
	if !ok {
		return false, nl.ErrMalformed
	}
	return wanted, nil
}
