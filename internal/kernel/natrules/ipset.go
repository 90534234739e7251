package natrules

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// Messages and attributes of ip_set (include/uapi/linux/netfilter/ipset/ip_set.h).
const (
	soIPSet       = 83 // SO_IP_SET
	subsysIPSet   = 6  // NFNL_SUBSYS_IPSET
	ipsetProtocol = 6
	ipsetList     = 7 // IPSET_CMD_LIST

	ipsetAttrProtocol, ipsetAttrName, ipsetAttrType, ipsetAttrFamily, ipsetAttrData, ipsetAttrADT = 1, 2, 3, 5, 7, 8

	ipsetAttrIP, ipsetAttrCIDR, ipsetAttrPort, ipsetAttrCADTFlags, ipsetAttrMemberName = 1, 3, 4, 8, 18

	ipsetAttrBitmask, ipsetAttrNetmask = 12, 20 // of the set

	ipsetFlagNoMatch = 1 << 2 // IPSET_FLAG_NOMATCH: an exception

	ipsetErrPrivate = unix.Errno(4096) // IPSET_ERR_PRIVATE: from here on, what a type says of a question
)

const (
	maxSetMembers = 1 << 16
	maxExceptions = 256
)

// setKinds are those whose members are understood.
var setKinds = [...]string{
	"hash:ip", "hash:net", "bitmap:ip", "bitmap:port", "list:set",
	"hash:ip,port", "hash:net,port", "hash:ip,port,ip", "hash:ip,port,net",
}

// ipSets lists the members of the kernel's ip sets, for rules that match a set. Such a rule keeps ip_set in the kernel,
// so asking loads no module. A question that comes to nothing leaves open whether the rule matches.
type ipSets struct {
	conn       nfConn
	cancel     func()
	openLegacy func(ipv6 bool) (LegacySocket, error)
	failed     error // the first question that failed
	gone       bool  // a set that a rule names is not there: the rule is not either, by now
	names      map[uint16]string
	sets       map[string]*ipSet
}

// ipSet is one set; the zero ipSet is not known.
type ipSet struct {
	kind    string // "hash:net"
	family  byte   // of its addresses; 0: a set of ports or a list, for both
	members ranges // of several fields, those of the first
	lists   []string
}

func newIPSets(ctx context.Context, open nl.Opener, openLegacy func(ipv6 bool) (LegacySocket, error)) *ipSets {
	wait := 5 * time.Second
	if d, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(d)/2) // the other half is for what is judged without an answer
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	return &ipSets{
		conn: nfConn{ctx: ctx, open: open, subsys: subsysIPSet}, cancel: cancel, openLegacy: openLegacy,
		names: map[uint16]string{}, sets: map[string]*ipSet{},
	}
}

func (s *ipSets) close() {
	s.cancel()
	s.conn.close()
}

// fail keeps the first failure of a question. What a type of set cannot be asked is none.
func (s *ipSets) fail(what any, err error) {
	var refusal unix.Errno
	switch {
	case err == nil, errors.Is(err, errTooMany), errors.As(err, &refusal) && refusal >= ipsetErrPrivate:
	case errors.Is(err, unix.ENOENT):
		s.gone = true
	case s.failed == nil:
		s.failed = fmt.Errorf("set %v: %w", what, err)
	}
}

// name is the name of the set with that index, which is all that a rule has; "" when it cannot be had.
func (s *ipSets) name(index uint16) string {
	if s == nil {
		return ""
	}
	name, known := s.names[index]
	if !known {
		var err error
		name, err = setName(s.openLegacy, index)
		s.fail(index, err)
		s.names[index] = name
	}
	return name
}

// setName asks for a name by getsockopt(SO_IP_SET): struct ip_set_req_get_set {unsigned op, version; union {char
// name[32]; u16 index}}. The kernel gives none where no set has that index.
func setName(open func(ipv6 bool) (LegacySocket, error), index uint16) (string, error) {
	const getByIndex = 7 // IP_SET_OP_GET_BYINDEX
	socket, err := open(false)
	if err != nil {
		return "", fmt.Errorf("socket: %w", err)
	}
	defer func() { _ = socket.Close() }()
	var b [40]byte
	binary.NativeEndian.PutUint32(b[:], getByIndex)
	binary.NativeEndian.PutUint32(b[4:], ipsetProtocol)
	binary.NativeEndian.PutUint16(b[8:], index)
	switch err := socket.Getsockopt(soIPSet, b[:]); {
	case err != nil:
		return "", needsAdmin(fmt.Errorf("getsockopt: %w", err))
	case b[8] == 0:
		return "", unix.ENOENT
	case bytes.IndexByte(b[8:], 0) < 0:
		return "", nl.ErrMalformed
	}
	return nl.Text(b[8:]), nil
}

// contains says whether a packet's fields are in a set. dirs says for each dimension of the set whether it is the
// source ("src") or the destination.
func (s *ipSets) contains(name string, m *machine, dirs []string) truth {
	// kube-proxy's set of endpoints that reach themselves through a service: destination and source are one address,
	// and such a packet does not leave by a tunnel (pkg/proxy/ipvs).
	if strings.HasPrefix(name, "KUBE-") && strings.HasSuffix(name, "-LOOP-BACK") {
		return no
	}
	if s == nil || name == "" || len(dirs) == 0 {
		return maybe
	}
	set := s.set(name)
	if set.family != 0 && (set.family == unix.AF_INET6) != m.packet.ipv6 {
		return no // ip_set_test: another family never matches
	}
	address, port := dimDst, dimDport
	if dirs[0] == "src" {
		address, port = dimSrc, dimSport
	}
	switch set.kind {
	case "hash:ip", "hash:net", "bitmap:ip":
		return m.is(address, set.members)
	case "bitmap:port":
		return m.is(port, set.members)
	case "list:set":
		in := no
		for _, of := range set.lists {
			if s.set(of).kind == set.kind { // no kernel has a list of lists
				return maybe
			}
			in = in.or(s.contains(of, m, dirs))
		}
		return in
	case "hash:ip,port", "hash:net,port", "hash:ip,port,ip", "hash:ip,port,net":
		return m.is(address, set.members).and(maybe)
	default:
		return maybe
	}
}

// set asks for all members of a set; its kind stays unknown where they are too many, or not to be had.
func (s *ipSets) set(name string) *ipSet {
	if set := s.sets[name]; set != nil {
		return set
	}
	var set ipSet
	var all []member
	mask := 0 // of every member; 0: none
	attrs := named(nl.Append(nil, ipsetAttrProtocol, []byte{ipsetProtocol}), ipsetAttrName, name)
	reset := func() { set, all, mask = ipSet{}, nil, 0 }
	err := s.conn.dump(request{kind: ipsetList, family: nfIPv4, attrs: attrs}, reset, func(_ uint8, data []byte) error {
		part := parseNested(data)
		if kind := part.text(ipsetAttrType); set.kind == "" { // the first part of the answer
			if set.kind = kind; kind == "" {
				return nl.ErrMalformed
			}
			if family := part[ipsetAttrFamily]; len(family) == 1 {
				set.family = family[0]
			}
			header := parseNested(part[ipsetAttrData])
			if header.has(ipsetAttrBitmask) || !slices.Contains(setKinds[:], kind) {
				return errTooMany
			}
			if m := header[ipsetAttrNetmask]; len(m) == 1 {
				mask = int(m[0])
			}
		}
		for _, b := range nl.Attrs(part[ipsetAttrADT]) {
			if len(all)+len(set.lists) == maxSetMembers {
				return errTooMany
			}
			n := parseNested(b)
			if set.kind == "list:set" {
				set.lists = append(set.lists, n.text(ipsetAttrMemberName))
				continue
			}
			m, ok := set.member(n, mask)
			if !ok {
				return nl.ErrMalformed
			}
			if !m.except || !strings.Contains(set.kind, ",") { // of several fields the first does not make the exception
				all = append(all, m)
			}
		}
		return nil
	})
	if err == nil && set.kind == "" { // no answer at all
		err = nl.ErrMalformed
	}
	s.fail(name, err)
	if err != nil || !set.join(all) {
		set.kind = ""
	}
	s.sets[name] = &set
	return &set
}

// member is one of a set: numbers that it holds, or, except, that it does not. Of networks one in the other the
// narrower decides (net/netfilter/ipset/ip_set_hash_gen.h, mtype_test_cidrs).
type member struct {
	span
	length int // of the prefix
	except bool
}

// join makes ranges of the members; it is false where there are too many exceptions.
func (s *ipSet) join(all []member) bool {
	slices.SortStableFunc(all, func(a, b member) int { return cmp.Compare(a.length, b.length) })
	for exceptions := 0; len(all) > 0; {
		n := slices.IndexFunc(all, func(m member) bool { return m.except != all[0].except })
		if n < 0 {
			n = len(all)
		}
		part := union(all[:n], func(m member) span { return m.span })
		if !all[0].except {
			s.members = s.members.or(part)
		} else if exceptions++; exceptions <= maxExceptions {
			s.members = s.members.without(part)
		} else {
			return false
		}
		all = all[n:]
	}
	return true
}

// member reads IPSET_ATTR_IP, IPSET_ATTR_CIDR and the flags; of a set of ports IPSET_ATTR_PORT. A set with a mask for
// all members keeps the first address of each network, without its length.
func (s *ipSet) member(n nested, mask int) (member, bool) {
	if s.kind == "bitmap:port" {
		b := n[ipsetAttrPort]
		return member{span: one(numberOf(b))}, len(b) == 2
	}
	kind := uint16(1) // IPSET_ATTR_IPADDR_IPV4
	if s.family == unix.AF_INET6 {
		kind = 2
	}
	a, err := nl.Address(parseNested(n[ipsetAttrIP])[kind], addrLen(kind == 2))
	length := a.BitLen()
	if c := n[ipsetAttrCIDR]; len(c) == 1 {
		length = int(c[0])
	} else if mask != 0 {
		length = mask
	}
	p := netip.PrefixFrom(a, length)
	if err != nil || !p.IsValid() {
		return member{}, false
	}
	return member{prefixSpan(p), length, n.be32(ipsetAttrCADTFlags)&ipsetFlagNoMatch != 0}, true
}
