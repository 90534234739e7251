package natrules

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
)

// xt matches and targets come as the kernel's own structures, in host byte order unless a field is a network one: in
// legacy tables behind struct xt_entry_match, in nf_tables as the attributes of a "match" or "target" expression. Both
// are parsed here.

// xtParsers know the matches ("-m") whose outcome can be told and the targets ("-j"), from a revision on.
var xtParsers = [...]struct {
	option string
	names  []string
	from   uint8
	parse  func(i *info)
}{
	{"-m", []string{"comment"}, 0, xtComment},
	{"-m", []string{"udp", "tcp"}, 0, xtPorts},
	{"-m", []string{"multiport"}, 0, xtMultiport},
	{"-m", []string{"mark"}, 1, xtMark},
	{"-m", []string{"connmark"}, 1, xtConnmark},
	{"-m", []string{"conntrack"}, 1, xtConntrack},
	{"-m", []string{"state"}, 0, xtState},
	{"-m", []string{"addrtype"}, 0, xtAddrtype},
	{"-m", []string{"physdev"}, 0, xtPhysdev},
	{"-m", []string{"iprange"}, 1, xtIPRange},
	{"-m", []string{"set"}, 1, xtSet},
	{"-m", []string{"owner"}, 1, xtOwner},
	{"-m", []string{"policy"}, 0, xtPolicy},

	{"-j", []string{"MASQUERADE", "SNAT", "NETMAP"}, 0, xtSNAT},
	{"-j", []string{"MARK"}, 2, xtSetMark},
	{"-j", []string{"CONNMARK"}, 1, xtSetConnmark},
	{"-j", []string{"CT", "NOTRACK"}, 0, xtNotrack},
	{"-j", []string{"REJECT", "TPROXY"}, 0, func(i *info) { i.step = dropped }},
	// In nat OUTPUT and PREROUTING only: the destination changes, the source does not.
	{"-j", []string{"DNAT", "REDIRECT"}, 0, func(i *info) { i.step = accepted }},
	{"-j", []string{
		"LOG", "NFLOG", "ULOG", "TRACE", "AUDIT", "TCPMSS", "TCPOPTSTRIP", "CLASSIFY", "CHECKSUM", "DSCP", "TOS", "ECN",
		"TTL", "HL", "SET", "IDLETIMER", "LED", "RATEEST", "TEE", "SECMARK", "CONNSECMARK",
	}, 0, func(i *info) { i.step = proceed }},
}

// parseXT parses the match or target in i; one that is unknown or cut short may match, or, as a target, do anything.
func parseXT(option string, i info) xtPart {
	i.b = bytes.Clone(i.b)
	i.text = option + " " + i.name
	for _, p := range xtParsers {
		if p.option != option || i.revision < p.from || !slices.Contains(p.names, i.name) {
			continue
		}
		if p.parse(&i); i.bad {
			break
		}
		return i.part()
	}
	otherwise := unclear
	if option == "-j" {
		otherwise = unknownVerdict
	}
	return xtPart{step: otherwise, text: option + " " + i.name}
}

// xtPart is one match or target that was parsed: what it does and how iptables-save writes it.
type xtPart struct {
	step step
	text string
	asks uint32 // bits of the mark that it compares
}

// lookups are what rules ask for besides the packet.
type lookups struct {
	sets     *ipSets
	policies *ipsecPolicies
}

// info is the structure of a match or target, and what was parsed of it; reading past its end sets bad and gives zeros.
type info struct {
	b        []byte
	bad      bool
	name     string
	revision uint8
	ipv6     bool
	lookups

	xtPart
	questions []question // all must hold; where there is a step, that asks them
}

var errShort = errors.New("structure cut short")

func (i *info) bytes(off, n int) []byte {
	if off < 0 || n < 0 || off+n > len(i.b) {
		i.bad = true
		return make([]byte, max(n, 0))
	}
	return i.b[off : off+n]
}

func (i *info) u8(off int) uint8    { return i.bytes(off, 1)[0] }
func (i *info) u16(off int) uint16  { return binary.NativeEndian.Uint16(i.bytes(off, 2)) }
func (i *info) u32(off int) uint32  { return binary.NativeEndian.Uint32(i.bytes(off, 4)) }
func (i *info) be16(off int) uint16 { return binary.BigEndian.Uint16(i.bytes(off, 2)) }

func (i *info) addr(off int) netip.Addr {
	a, _ := netip.AddrFromSlice(i.bytes(off, addrLen(i.ipv6)))
	return a
}

// add takes an option of a match, with its text as iptables-save writes it.
func (i *info) add(invert bool, text string, q question) {
	i.text += " " + bang(invert) + text
	i.questions = append(i.questions, func(m *machine) truth { return invertIf(q(m), invert) })
}

func (i *info) part() xtPart {
	if i.step == nil {
		i.step = matchStep(allOf(i.questions))
	}
	return i.xtPart
}

// bang is iptables' negation in front of an option.
func bang(invert bool) string {
	if invert {
		return "! "
	}
	return ""
}

// question asks a packet something.
type question func(m *machine) truth

func matchStep(q question) step { return func(m *machine) effect { return matched(q(m)) } }

func allOf(questions []question) question {
	return func(m *machine) truth {
		t := yes
		for _, q := range questions {
			if t = t.and(q(m)); t == no {
				break
			}
		}
		return t
	}
}

// in asks whether a field is one of a set.
func in(d dim, r ranges) question { return func(m *machine) truth { return m.is(d, r) } }

func unsure(*machine) truth { return maybe }

func invertIf(t truth, invert bool) truth {
	if invert {
		return t.not()
	}
	return t
}
