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
}

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
		names: map[uint16]string{}, types: map[string]setType{}, asked: map[string]truth{},
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

// contains asks whether a packet's fields are in a set. dirs says for each dimension of the set whether it is the source.
func (s *ipSets) contains(name string, p *packet, dirs []bool) truth {
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
	if t.ipv6 != p.ipv6 {
		return no // ip_set_test: another family never matches
	}
	addrs := func(source bool) []netip.Addr {
		if source {
			return p.srcs
		}
		return p.dsts
	}
	firsts, seconds, port := addrs(dirs[0]), []netip.Addr{{}}, []byte(nil)
	switch t.name {
	case "hash:ip", "hash:net":
	case "hash:ip,port", "hash:net,port", "hash:ip,port,ip", "hash:ip,port,net":
		if len(dirs) < 2 || dirs[1] || !p.outer {
			return maybe
		}
		port = []byte{p.dport[0].bits, p.dport[1].bits}
		if strings.Count(t.name, ",") == 2 {
			if len(dirs) < 3 {
				return maybe
			}
			seconds = addrs(dirs[2])
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
