package natrules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"vxlan_exporter/internal/kernel/nl"
)

// ipSets lists the members of the kernel's ip sets, for rules that match a set. Such a rule keeps ip_set in the kernel,
// so asking loads no module. A question that comes to nothing leaves open whether the rule matches.
type ipSets struct {
	conn       nfConn
	cancel     func()
	openLegacy func(ipv6 bool) (LegacySocket, error)
	failed     error // the first question that failed
	gone       bool  // a set that a rule names is not there: the rule is not either, by now
	names      map[uint16]string
	types      map[string]setType
	members    map[string]*setMembers
}

// setMembers are the members of a set of addresses, networks or ports (of several fields, those of the first), or the
// sets in a list.
type setMembers struct {
	all  ranges
	sets []string
}

// setType is what a set holds: "hash:net", and for which family; a set of ports or a list is for both.
type setType struct {
	name      string
	ipv6, any bool
}

func newIPSets(ctx context.Context, open nl.Opener, openLegacy func(ipv6 bool) (LegacySocket, error)) *ipSets {
	wait := 5 * time.Second
	if d, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(d)/2) // the other half is for what is judged without an answer
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	return &ipSets{
		conn: nfConn{ctx: ctx, open: open, subsys: subsysIPSet}, cancel: cancel, openLegacy: openLegacy,
		names: map[uint16]string{}, types: map[string]setType{}, members: map[string]*setMembers{},
	}
}

func (s *ipSets) close() {
	s.cancel()
	s.conn.close()
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
	answer, err := s.conn.get(about(ipsetHeader, false, name))
	t := parseSetType(answer)
	if err == nil && t.name == "" {
		err = nl.ErrMalformed
	}
	s.note(name, err)
	s.types[name] = t
	return t, t.name != ""
}

// parseSetType reads the attributes of an answer to IPSET_CMD_HEADER.
func parseSetType(n nested) setType {
	family := n[ipsetAttrFamily]
	told := len(family) == 1
	return setType{name: n.text(ipsetAttrType), ipv6: told && family[0] == nfIPv6, any: told && family[0] == 0}
}

// contains says whether a packet's fields are in a set. dirs says for each dimension of the set whether it is the
// source.
func (s *ipSets) contains(name string, m *machine, dirs []bool) truth {
	// kube-proxy's set of endpoints that reach themselves through a service: destination and source are one address,
	// and such a packet does not leave by a tunnel (pkg/proxy/ipvs).
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
	if !t.any && t.ipv6 != m.packet.ipv6 {
		return no // ip_set_test: another family never matches
	}
	field := func(source bool) dim {
		if source {
			return dimSrc
		}
		return dimDst
	}
	all := s.list(name, t)
	if all == nil {
		return maybe
	}
	switch t.name {
	case "hash:ip", "hash:net", "bitmap:ip":
		return m.is(field(dirs[0]), all.all)
	case "bitmap:port":
		if dirs[0] {
			return m.is(dimSport, all.all)
		}
		return m.is(dimDport, all.all)
	case "list:set":
		in := no
		for _, set := range all.sets { // a list holds no lists
			in = in.or(s.contains(set, m, dirs))
		}
		return in
	case "hash:ip,port", "hash:net,port", "hash:ip,port,ip", "hash:ip,port,net":
		return m.is(field(dirs[0]), all.all).and(maybe)
	default:
		return maybe
	}
}

const maxSetMembers = 1 << 16

// list asks for all members of a set; nil where they are too many, or not to be had.
func (s *ipSets) list(name string, t setType) *setMembers {
	if m, ok := s.members[name]; ok {
		return m
	}
	var all []member
	var sets []string
	mask := 0 // of every member; 0: none
	reset := func() { all, sets, mask = nil, nil, 0 }
	err := s.conn.dump(about(ipsetList, t.ipv6, name), reset, func(_ uint8, data []byte) error {
		part := parseNested(data)
		switch header := parseNested(part[ipsetAttrData]); {
		case header.has(ipsetAttrBitmask):
			return errTooMany
		case len(header[ipsetAttrNetmask]) == 1:
			mask = int(header[ipsetAttrNetmask][0])
		}
		for _, b := range nl.Attrs(part[ipsetAttrADT]) {
			if len(all)+len(sets) == maxSetMembers {
				return errTooMany
			}
			n := parseNested(b)
			if t.name == "list:set" {
				sets = append(sets, n.text(ipsetAttrMemberName))
				continue
			}
			m, ok := readMember(n, t, mask)
			if !ok {
				return nl.ErrMalformed
			}
			if !m.except || !strings.Contains(t.name, ",") { // of several fields the first does not make the exception
				all = append(all, m)
			}
		}
		return nil
	})
	var m *setMembers
	if err == nil {
		m = joinMembers(all, sets)
	} else if !errors.Is(err, errTooMany) {
		s.note(name, err)
	}
	s.members[name] = m
	return m
}

// member is one of a set: numbers that it holds, or, except, that it does not. Of networks one in the other the
// narrower decides (net/netfilter/ipset/ip_set_hash_gen.h, mtype_test_cidrs).
type member struct {
	span
	length int // of the prefix
	except bool
}

func joinMembers(all []member, sets []string) *setMembers {
	const mostExceptions = 256
	slices.SortStableFunc(all, func(a, b member) int { return cmp.Compare(a.length, b.length) })
	var m setMembers
	m.sets = sets
	exceptions := 0
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].except == all[0].except {
			n++
		}
		part := union(all[:n], func(m member) span { return m.span })
		if all[0].except {
			if exceptions++; exceptions > mostExceptions {
				return nil
			}
			m.all = m.all.without(part)
		} else {
			m.all = m.all.or(part)
		}
		all = all[n:]
	}
	return &m
}

// readMember reads IPSET_ATTR_IP, IPSET_ATTR_CIDR and the flags; of a set of ports IPSET_ATTR_PORT. A
// set with a mask for all members keeps the first address of each network, without its length.
func readMember(n nested, t setType, mask int) (member, bool) {
	if t.name == "bitmap:port" {
		b := n[ipsetAttrPort]
		return member{span: span{numberOf(b), numberOf(b)}}, len(b) == 2
	}
	kind, size := uint16(1), 4 // IPSET_ATTR_IPADDR_IPV4
	if t.ipv6 {
		kind, size = 2, 16
	}
	a, ok := netip.AddrFromSlice(parseNested(n[ipsetAttrIP])[kind])
	if !ok || len(a.AsSlice()) != size {
		return member{}, false
	}
	length := size * 8
	switch c := n[ipsetAttrCIDR]; {
	case len(c) == 1:
		length = int(c[0])
	case mask != 0:
		length = mask
	}
	p := netip.PrefixFrom(a, length)
	if !p.IsValid() {
		return member{}, false
	}
	return member{prefixSpan(p), length, n.be32(ipsetAttrCADTFlags)&ipsetFlagNoMatch != 0}, true
}
