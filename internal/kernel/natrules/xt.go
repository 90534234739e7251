package natrules

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
)

// xt matches and targets come as the kernel's own structures, in host byte order unless a field is a network one: in legacy tables
// behind struct xt_entry_match, in nf_tables as the attributes of a "match" or "target" expression. Both are parsed here.

// xtPart is one match or target that was parsed: what it does and how iptables-save writes it.
type xtPart struct {
	step step
	text string
	asks uint32
}

var errShort = errors.New("structure cut short")

// info reads fields of a structure; reading past its end sets bad and gives zeros.
type info struct {
	b    []byte
	bad  bool
	sets *ipSets // nil: no set can be asked
}

func (i *info) bytes(off, n int) []byte {
	if off < 0 || n < 0 || off+n > len(i.b) {
		i.bad = true
		return make([]byte, max(n, 0))
	}
	return i.b[off : off+n]
}

func (i *info) u8(off int) uint8   { return i.bytes(off, 1)[0] }
func (i *info) u16(off int) uint16 { return binary.NativeEndian.Uint16(i.bytes(off, 2)) }
func (i *info) u32(off int) uint32 { return binary.NativeEndian.Uint32(i.bytes(off, 4)) }
func (i *info) be16(off int) uint16 {
	return binary.BigEndian.Uint16(i.bytes(off, 2))
}

func (i *info) addr(off, n int) netip.Addr {
	a, _ := netip.AddrFromSlice(i.bytes(off, n))
	return a
}

func cString(b []byte) string {
	if n := bytes.IndexByte(b, 0); n >= 0 {
		b = b[:n]
	}
	return string(b)
}

func matchStep(f func(m *machine) truth) step {
	return func(m *machine) effect { return matched(f(m)) }
}

func invertIf(t truth, invert bool) truth {
	if invert {
		return t.not()
	}
	return t
}

func unclear(*machine) effect { return matched(maybe) }

// xtParser is the parser of one match or target of one revision.
type xtParser func(i *info, ipv6 bool) xtPart

// parseXT parses a match or target; one that is unknown or cut short may match, or, as a target, do anything.
func parseXT(parsers func(name string, revision uint8) xtParser, name string, revision uint8, i *info, ipv6 bool, otherwise step) xtPart {
	if p := parsers(name, revision); p != nil {
		if part := p(i, ipv6); !i.bad && part.step != nil {
			return part
		}
	}
	return xtPart{step: otherwise}
}

func parseMatch(name string, revision uint8, b []byte, ipv6 bool, sets *ipSets) xtPart {
	p := parseXT(matchParser, name, revision, &info{b: b, sets: sets}, ipv6, unclear)
	if p.text == "" {
		p.text = "-m " + name
	}
	return p
}

func parseTarget(name string, revision uint8, b []byte, ipv6 bool) xtPart {
	p := parseXT(targetParser, name, revision, &info{b: b}, ipv6, func(*machine) effect { return ends(verdict{kind: verdictUnknown}) })
	if p.text == "" {
		p.text = "-j " + name
	}
	return p
}
