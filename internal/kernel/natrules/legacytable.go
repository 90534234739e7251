package natrules

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"unsafe"

	"vxlan_exporter/internal/kernel/nl"
)

// layout holds what differs between struct ipt_entry and struct ip6t_entry
// (include/uapi/linux/netfilter_ipv{4,6}/ip*_tables.h).
type layout struct {
	addr int // size of an address
	iniface, outiface, inMask, outMask,
	proto, flags, invflags,
	targetOffset, nextOffset, size int
	gotoFlag, protoFlag byte
}

func layoutOf(ipv6 bool) layout {
	if ipv6 {
		// struct ip6t_ip6: src, dst, smsk, dmsk at 0, 16, 32, 48. The counters behind comefrom are 64-bit.
		return layout{16, 64, 80, 96, 112, 128, 131, 132, 140, 142, align8(148) + 16, 4, 1}
	}
	return layout{4, 16, 32, 48, 64, 80, 82, 83, 88, 90, align8(96) + 16, 2, 0}
}

// align8 aligns as the compiler aligns a 64-bit number in a structure on this machine.
func align8(n int) int {
	const align = int(unsafe.Alignof(struct{ n uint64 }{}.n))
	return (n + align - 1) &^ (align - 1)
}

const (
	xtHeader       = 32            // struct xt_entry_match and xt_entry_target: u16 size, char name[29], u8 revision
	maxChainRules  = 20_000        // of one chain
	maxTableRules  = 100_000       // of all chains that are read of one table, or of nf_tables
	errorTargetLen = xtHeader + 32 // struct xt_error_target, aligned
)

var (
	errLegacy    = errors.New("entries do not add up")
	errLongChain = fmt.Errorf("more than %d rules in one chain", maxChainRules)
)

// legacyBlob gives parts of a table's entries.
type legacyBlob interface {
	// at returns n bytes from off on, valid until the next call.
	at(off, n int) ([]byte, error)
	// torn reports whether a read failed.
	torn() bool
	close()
}

// legacyTable is one table of one family.
type legacyTable struct {
	name       string
	ipv6       bool
	layout     layout
	size       int
	validHooks uint32
	hookEntry  [5]uint32
	underflow  [5]uint32
	blob       legacyBlob
	chains     map[int]*chain
	lookups    lookups
	bad        bool
	parsed     int // rules
}

func (t *legacyTable) close() { t.blob.close() }

// torn reports whether what was read did not add up, as when the table is replaced between two windows.
func (t *legacyTable) torn() bool { return t.bad || t.blob.torn() }

// parseLegacyInfo reads struct ipt_getinfo {char name[32]; u32 valid_hooks, hook_entry[5], underflow[5], num_entries,
// size}.
func parseLegacyInfo(b []byte, ipv6 bool) (*legacyTable, error) {
	i := &info{b: b}
	t := &legacyTable{
		name: nl.Text(i.bytes(0, 32)), validHooks: i.u32(32), size: int(i.u32(80)),
		ipv6: ipv6, layout: layoutOf(ipv6), chains: map[int]*chain{},
	}
	for h := range t.hookEntry {
		t.hookEntry[h], t.underflow[h] = i.u32(36+4*h), i.u32(56+4*h)
	}
	if i.bad {
		return nil, errShort
	}
	return t, nil
}

// base is the base chain at a hook: the entries from hook_entry to underflow, which holds the policy.
func (t *legacyTable) base(hook int) (*base, error) {
	if t.validHooks&(1<<hook) == 0 {
		return nil, fmt.Errorf("legacy table %s: hook %d: %w", t.name, hook, errLegacy)
	}
	from, policy := int(t.hookEntry[hook]), int(t.underflow[hook])
	name := [...]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}[hook]
	b := &base{hook: hook, nat: t.name == "nat", chain: t.newChain(name, from, policy)}
	e, err := t.entry(policy)
	if err != nil {
		return nil, err
	}
	v, ok := e.verdict()
	b.drop = ok && v == -1 // -NF_DROP - 1
	return b, nil
}

// newChain is the chain whose rules are from off on, before end.
func (t *legacyTable) newChain(name string, off, end int) *chain {
	c := &chain{backend: Legacy, family: "ip", table: t.name, name: name}
	if t.ipv6 {
		c.family = "ip6"
	}
	c.load = func() ([]*rule, error) { return t.rules(c, off, end) }
	return c
}

// user is the user chain whose first rule is at off: the entry before it is its head, an ERROR target that holds its
// name.
func (t *legacyTable) user(off int) *chain {
	if c := t.chains[off]; c != nil {
		return c
	}
	c := t.newChain("?", off, t.size)
	t.chains[off] = c
	e, err := t.entry(off - t.layout.size - errorTargetLen)
	if err == nil {
		if name, ok := e.head(); ok && e.next == t.layout.size+errorTargetLen {
			c.name = name
			return c
		}
		err = fmt.Errorf("legacy table %s: jump to %d, which is no chain's start: %w", t.name, off, errLegacy)
	}
	c.load = func() ([]*rule, error) { return nil, err }
	return c
}

// entry is one entry in the blob.
type entry struct {
	t      *legacyTable
	off    int
	b      []byte // valid until the next entry is read
	target int
	next   int
}

func (t *legacyTable) entry(off int) (e entry, err error) {
	l := &t.layout
	e = entry{t: t, off: off}
	if off < 0 || off+l.size+xtHeader > t.size {
		t.bad = true
		return e, fmt.Errorf("legacy table %s: entry at %d: outside of the table: %w", t.name, off, errLegacy)
	}
	if e.b, err = t.blob.at(off, l.size); err == nil {
		e.target = int(binary.NativeEndian.Uint16(e.b[l.targetOffset:]))
		e.next = int(binary.NativeEndian.Uint16(e.b[l.nextOffset:]))
		if e.target < l.size || e.target+xtHeader > e.next || off+e.next > t.size {
			t.bad = true
			return e, fmt.Errorf("legacy table %s: entry at %d: offsets: %w", t.name, off, errLegacy)
		}
		e.b, err = t.blob.at(off, e.next)
	}
	if err != nil {
		err = fmt.Errorf("legacy table %s: %w", t.name, err)
	}
	return e, err
}

// xt returns the match or target at off, and the offset behind it.
func (e *entry) xt(off, end int) (i info, next int, ok bool) {
	if off+xtHeader > end {
		return i, 0, false
	}
	size := int(binary.NativeEndian.Uint16(e.b[off:]))
	if size < xtHeader || off+size > end {
		return i, 0, false
	}
	i = info{b: e.b[off+xtHeader : off+size], ipv6: e.t.ipv6, lookups: e.t.lookups}
	i.name, i.revision = nl.Text(e.b[off+2:off+31]), e.b[off+31]
	return i, off + size, true
}

// verdict returns that of a standard target.
func (e *entry) verdict() (int, bool) {
	i, _, ok := e.xt(e.target, e.next)
	if !ok || i.name != "" || len(i.b) < 4 {
		return 0, false
	}
	return int(int32(i.u32(0))), true //nolint:gosec // a signed field (struct xt_standard_target)
}

// head returns the name of the chain that e is the head of; the last entry of a table is a head called ERROR.
func (e *entry) head() (string, bool) {
	i, _, ok := e.xt(e.target, e.next)
	return nl.Text(i.b), ok && i.name == "ERROR"
}

// rules parses the rules of c: from off to the next chain's head, or to end.
func (t *legacyTable) rules(c *chain, off, end int) ([]*rule, error) {
	var rules []*rule
	for off < end {
		e, err := t.entry(off)
		if err != nil {
			return nil, err
		}
		if _, head := e.head(); head {
			return rules[:max(0, len(rules)-1)], nil // every user chain ends with a RETURN that nobody wrote
		}
		if t.parsed++; len(rules) == maxChainRules || t.parsed > maxTableRules {
			return nil, errLongChain
		}
		rules = append(rules, t.rule(c, &e))
		off += e.next
	}
	return rules, nil
}

func (t *legacyTable) rule(c *chain, e *entry) *rule {
	r := &rule{chain: c, text: "-A " + c.name}
	portals := false
	add := func(p xtPart) {
		r.steps, r.asks = append(r.steps, p.step), r.asks|p.asks
		portals = portals || p.text == portalsComment
		if p.text != "" {
			r.text += " " + p.text
		}
	}
	add(t.header(e))
	for off, ok := t.layout.size, true; off < e.target && ok; {
		var i info
		if i, off, ok = e.xt(off, e.target); ok {
			add(parseXT("-m", i))
		} else {
			add(xtPart{step: unclear, text: "(matches that do not add up)"})
		}
	}
	target, to := t.target(e, portals)
	add(target)
	r.to = to
	return r
}

// header parses what every entry can match by itself.
func (t *legacyTable) header(e *entry) xtPart {
	const invIn, invOut, invSrc, invProto = 0x01, 0x02, 0x08, 0x40 // ipt_ip.invflags; 0x10: destination
	var o info
	l := &t.layout
	add := func(inverted byte, text string, q question) { o.add(e.b[l.invflags]&inverted != 0, text, q) }
	field := func(off, n int) []byte { return bytes.Clone(e.b[off : off+n]) }
	n := l.addr
	for k, option := range []string{"-s ", "-d "} {
		addr, mask := field(k*n, n), field((2+k)*n, n)
		if !allZero(mask) || !allZero(addr) {
			add(invSrc<<k, option+addrText(addr, mask), masked(dim(k), addr, mask))
		}
	}
	// A wildcard's "+" is in the name but not in the mask (net/netfilter/x_tables.h, ifname_compare_aligned).
	iface := func(inverted byte, option string, name, mask []byte, of func(m *machine) []Interface) {
		if maskedBytes(name, mask); allZero(mask) {
			return
		}
		add(inverted, option+ifaceText(name, mask), func(m *machine) truth {
			all := names(of(m))
			if len(all) == 0 || !isPrefix(mask) {
				return maybe
			}
			return all.within(ranges{maskSpan(name, mask)})
		})
	}
	iface(invIn, "-i ", field(l.iniface, 16), field(l.inMask, 16), (*machine).in)
	iface(invOut, "-o ", field(l.outiface, 16), field(l.outMask, 16), (*machine).out)
	proto := byte(binary.NativeEndian.Uint16(e.b[l.proto:]))
	if proto != 0 && (!t.ipv6 || e.b[l.flags]&l.protoFlag != 0) {
		add(invProto, "-p "+protoText(proto), in(dimProto, numbers(uint64(proto))))
	}
	if !t.ipv6 && e.b[l.flags]&1 != 0 { // an outer packet may be fragmented; its first fragment meets the nat table
		add(0, "-f", unsure)
	}
	o.text = strings.TrimPrefix(o.text, " ")
	return o.part()
}

func maskedBytes(b, mask []byte) []byte {
	for i := range b {
		b[i] &= mask[i]
	}
	return b
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func addrText(addr, mask []byte) string {
	a, _ := netip.AddrFromSlice(addr)
	if isPrefix(mask) {
		ones, _ := net.IPMask(mask).Size()
		return netip.PrefixFrom(a, ones).String()
	}
	m, _ := netip.AddrFromSlice(mask)
	return a.String() + "/" + m.String()
}

func ifaceText(name, mask []byte) string {
	s := nl.Text(name)
	if len(s) < len(mask) && mask[len(s)] == 0 {
		s += "+"
	}
	return s
}

func protoText(proto byte) string {
	names := map[byte]string{1: "icmp", protoTCP: "tcp", protoUDP: "udp", 58: "ipv6-icmp", protoSCTP: "sctp"}
	return cmp.Or(names[proto], fmt.Sprint(proto))
}

// portalsComment is on the rules that lead to KUBE-SERVICES (pkg/proxy/iptables/proxier.go). That chain stands behind
// those of all endpoints, so that to read its name would take the whole table.
const portalsComment = `-m comment --comment "kubernetes service portals"`

// target parses how an entry ends. Verdicts are -NF_* - 1; XT_RETURN is -NF_REPEAT - 1; others are offsets to jump to.
func (t *legacyTable) target(e *entry, portals bool) (xtPart, *chain) {
	v, ok := e.verdict()
	if !ok {
		i, _, ok := e.xt(e.target, e.next)
		if !ok {
			return xtPart{step: unknownVerdict, text: "(a target that does not add up)"}, nil
		}
		return parseXT("-j", i), nil
	}
	kind, word := verdictJump, "-j "
	switch {
	case v == -1:
		return xtPart{step: dropped, text: "-j DROP"}, nil
	case v == -2:
		return xtPart{step: accepted, text: "-j ACCEPT"}, nil
	case v == -4:
		return xtPart{step: dropped, text: "-j QUEUE"}, nil
	case v == -5:
		return xtPart{step: always(ends(verdict{kind: verdictReturn})), text: "-j RETURN"}, nil
	case v < 0:
		return xtPart{step: unknownVerdict, text: fmt.Sprintf("-j (verdict %d)", v)}, nil
	case v == e.off+e.next: // no target at all
		return xtPart{step: always(ends(verdict{kind: verdictContinue}))}, nil
	case e.b[t.layout.flags]&t.layout.gotoFlag != 0:
		kind, word = verdictGoto, "-g "
	}
	if portals && t.name == "nat" && t.chains[v] == nil {
		t.chains[v] = t.newChain("KUBE-SERVICES", v, t.size)
	}
	to := t.user(v) // reads another entry: e is not valid any more
	return xtPart{step: always(ends(verdict{kind: kind, chain: to})), text: word + to.name}, to
}
