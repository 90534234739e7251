package natrules

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
)

// xt matches and targets come as the kernel's own structures, in host byte order unless a field is a network one: in
// legacy tables behind struct xt_entry_match, in nf_tables as the attributes of a "match" or "target" expression. Both
// are parsed here.

// xtPart is one match or target that was parsed: what it does and how iptables-save writes it.
type xtPart struct {
	step step
	text string
	asks uint32 // bits of the mark that it compares
}

var errShort = errors.New("structure cut short")

// lookups are what rules ask for besides the packet.
type lookups struct {
	sets     *ipSets
	policies *ipsecPolicies
}

// info is the structure of a match or target; reading past its end sets bad and gives zeros.
type info struct {
	b        []byte
	bad      bool
	name     string
	revision uint8
	ipv6     bool
	lookups
}

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

func cString(b []byte) string {
	if n := bytes.IndexByte(b, 0); n >= 0 {
		b = b[:n]
	}
	return string(b)
}

// question asks a packet something.
type question func(m *machine) truth

func matchStep(q question) step {
	return func(m *machine) effect { return matched(q(m)) }
}

// in asks whether a field is one of a set.
func in(d dim, r ranges) question {
	return func(m *machine) truth { return m.is(d, r) }
}

func unsure(*machine) truth { return maybe }

func unclear(*machine) effect { return matched(maybe) }

func invertIf(t truth, invert bool) truth {
	if invert {
		return t.not()
	}
	return t
}

// options are those that a match was given: all must hold.
type options struct {
	xtPart
	questions []question
}

// add takes an option, with its text as iptables-save writes it.
func (o *options) add(invert bool, text string, q question) {
	o.text += " " + bang(invert) + text
	o.questions = append(o.questions, func(m *machine) truth { return invertIf(q(m), invert) })
}

func (o *options) part() xtPart {
	o.step = matchStep(func(m *machine) truth {
		t := yes
		for _, q := range o.questions {
			if t = t.and(q(m)); t == no {
				break
			}
		}
		return t
	})
	return o.xtPart
}

// bang is iptables' negation in front of an option.
func bang(invert bool) string {
	if invert {
		return "! "
	}
	return ""
}

// xtParser is the parser of a match or target.
type xtParser func(i *info) xtPart

// parseXT parses a match ("-m") or target ("-j"); one that is unknown or cut short may match, or, as a target, do
// anything.
func parseXT(option string, i info) xtPart {
	parser, otherwise := matchParser, step(unclear)
	if option == "-j" {
		parser, otherwise = targetParser, unknownVerdict
	}
	i.b = bytes.Clone(i.b)
	part := xtPart{}
	if parse, from := parser(i.name); parse != nil && i.revision >= from {
		part = parse(&i)
	}
	if i.bad || part.step == nil {
		part = xtPart{step: otherwise}
	}
	if part.text == "" {
		part.text = option + " " + i.name
	}
	return part
}
