package natrules

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"vxlan_exporter/internal/kernel/nl"
)

// ipSets asks the kernel's ip sets about single members, for rules that match a set. Such a rule keeps ip_set in the kernel, so
// asking loads no module. A question that comes to nothing leaves open whether the rule matches.
type ipSets struct {
	ctx        context.Context // of all questions
	cancel     func()
	open       nl.Opener
	openLegacy func(ipv6 bool) (LegacySocket, error)
	conn       *nl.Conn
	broken     error // nothing can be asked any more
	failed     error // the first question that failed
	gone       bool  // a set that a rule names is not there: the rule is not either, by now
	names      map[uint16]string
	types      map[string]setType
	asked      map[string]truth
	members    map[string]*setMembers
}

// setMembers are the members of a set of addresses or networks; nil where they are too many, or not to be had.
type setMembers struct{ all ranges }

// setType is what a set holds: "hash:net", and for which family.
type setType struct {
	name string
	ipv6 bool
}

const maxSetTests = 256 // members asked for in one reading

func newIPSets(ctx context.Context, open nl.Opener, openLegacy func(ipv6 bool) (LegacySocket, error)) *ipSets {
	wait := 5 * time.Second
	if d, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(d)/2) // the other half is for what is judged without an answer
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	return &ipSets{
		ctx: ctx, cancel: cancel, open: open, openLegacy: openLegacy,
		names: map[uint16]string{}, types: map[string]setType{}, asked: map[string]truth{}, members: map[string]*setMembers{},
	}
}

func (s *ipSets) close() {
	s.cancel()
	if s.conn != nil {
		_ = s.conn.Close()
	}
}

// name is the name of the set with that index, which is all that a rule has; "" when it cannot be had.
func (s *ipSets) name(index uint16) string {
	if s == nil {
		return ""
	}
	if _, known := s.names[index]; !known {
		name, err := setName(s.openLegacy, index)
		if err != nil {
			s.fail(fmt.Errorf("name of set %d: %w", index, err))
		}
		s.gone = s.gone || err == nil && name == ""
		s.names[index] = name
	}
	return s.names[index]
}

func (s *ipSets) typeOf(name string) (setType, bool) {
	if t, ok := s.types[name]; ok {
		return t, t.name != ""
	}
	answer, err := s.header(name)
	t := parseSetType(answer)
	if err == nil && t.name == "" {
		err = nl.ErrMalformed
	}
	s.note(name, err)
	s.types[name] = t
	return t, t.name != ""
}

// parseSetType reads the attributes of an answer to IPSET_CMD_HEADER.
func parseSetType(b []byte) setType {
	n := parseNested(b)
	return setType{name: n.text(ipsetAttrType), ipv6: len(n[ipsetAttrFamily]) == 1 && n[ipsetAttrFamily][0] == nfIPv6}
}

// contains says whether a packet's fields are in a set. dirs says for each dimension of the set whether it is the source.
func (s *ipSets) contains(name string, m *machine, dirs []bool) truth {
	// kube-proxy's set of endpoints that reach themselves through a service: destination and source are one address, and such a
	// packet does not leave by a tunnel (pkg/proxy/ipvs).
	if strings.HasPrefix(name, "KUBE-") && strings.HasSuffix(name, "-LOOP-BACK") {
		return no
	}
	if s == nil || name == "" || len(dirs) == 0 {
		return maybe
	}
	t, ok := s.typeOf(name)
	if !ok {
		return maybe
	}
	if t.ipv6 != m.packet.ipv6 {
		return no // ip_set_test: another family never matches
	}
	field := func(source bool) dim {
		if source {
			return dimSrc
		}
		return dimDst
	}
	firsts, seconds, port := m.few(field(dirs[0])), []netip.Addr{{}}, []byte(nil)
	switch t.name {
	case "hash:ip", "hash:net":
		if all := s.list(name, t.ipv6); all != nil {
			return m.is(field(dirs[0]), all.all)
		}
	case "hash:ip,port", "hash:net,port", "hash:ip,port,ip", "hash:ip,port,net":
		if len(dirs) < 2 || dirs[1] || !m.packet.outer {
			return maybe
		}
		port = bytesOf(m.value(dimDport))
		if strings.Count(t.name, ",") == 2 {
			if len(dirs) < 3 {
				return maybe
			}
			seconds = m.few(field(dirs[2]))
		}
	default:
		return maybe
	}
	var in, out bool
	for _, first := range firsts {
		for _, second := range seconds {
			switch s.test(name, first, port, second) {
			case yes:
				in = true
			case no:
				out = true
			default:
				return maybe
			}
		}
	}
	if in == out {
		return maybe
	}
	return truthOf(in)
}

// few are the addresses that a field can be, if they are few.
func (m *machine) few(d dim) []netip.Addr {
	const most = 16
	f := &m.packet.fields[m.seen(d)]
	var all []netip.Addr
	for _, s := range f.set {
		for n := s.first; f.known; n = n.next() {
			if len(all) == most {
				return nil
			}
			if all = append(all, n.addr(m.packet.ipv6)); n == s.last {
				break
			}
		}
	}
	return all
}

const maxSetMembers = 1 << 16

// list asks for all members of a set of addresses or networks; nil where they cannot be had.
func (s *ipSets) list(name string, ipv6 bool) *setMembers {
	if m, ok := s.members[name]; ok {
		return m
	}
	var spans []span
	err := s.dump(ipv6, name, func() { spans = nil }, func(data []byte) error {
		for _, b := range nl.Attrs(parseNested(data)[ipsetAttrADT]) {
			n := parseNested(b)
			if len(spans) == maxSetMembers || n.be32(ipsetAttrCADTFlags)&ipsetFlagNoMatch != 0 {
				return errTooMany
			}
			m, ok := member(n, ipv6)
			if !ok {
				return nl.ErrMalformed
			}
			spans = append(spans, m)
		}
		return nil
	})
	var m *setMembers
	if err == nil {
		m = &setMembers{rangesOf(spans...)}
	} else if !errors.Is(err, errTooMany) {
		s.note(name, err)
	}
	s.members[name] = m
	return m
}

// member reads IPSET_ATTR_IP and IPSET_ATTR_CIDR.
func member(n nested, ipv6 bool) (span, bool) {
	kind, size := uint16(1), 4 // IPSET_ATTR_IPADDR_IPV4
	if ipv6 {
		kind, size = 2, 16
	}
	a, ok := netip.AddrFromSlice(parseNested(n[ipsetAttrIP])[kind])
	if !ok || len(a.AsSlice()) != size {
		return span{}, false
	}
	length := size * 8
	if c := n[ipsetAttrCIDR]; len(c) == 1 {
		length = int(c[0])
	}
	p := netip.PrefixFrom(a, length)
	if !p.IsValid() {
		return span{}, false
	}
	return prefixSpan(p), true
}

// test asks for one member.
func (s *ipSets) test(name string, first netip.Addr, port []byte, second netip.Addr) truth {
	data := appendAddr(nil, ipsetAttrIP, first)
	if port != nil {
		data = nl.Append(data, ipsetAttrPort|nl.NetByteOrder, port)
		data = nl.Append(data, ipsetAttrProto, []byte{protoUDP})
	}
	if second.IsValid() {
		data = appendAddr(data, ipsetAttrIP2, second)
	}
	key := name + "\x00" + string(data)
	if t, ok := s.asked[key]; ok {
		return t
	}
	if len(s.asked) >= maxSetTests {
		return maybe
	}
	t := maybe
	switch err := s.member(first.Is6(), name, data); {
	case err == nil:
		t = yes
	case errors.Is(err, ipsetErrExist):
		t = no
	default:
		s.note(name, err)
	}
	s.asked[key] = t
	return t
}

func appendAddr(b []byte, kind uint16, a netip.Addr) []byte {
	const ipv4, ipv6 = 1, 2 // IPSET_ATTR_IPADDR_IPV4, _IPV6
	family := uint16(ipv4)
	if a.Is6() {
		family = ipv6
	}
	return nl.Append(b, kind|nl.Nested, nl.Append(nil, family|nl.NetByteOrder, a.AsSlice()))
}
