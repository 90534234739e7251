package natrules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vxlan_exporter/internal/kernel/nl"
)

// value writes an operand that is assigned.
func (o operand) value(kind operandKind) string {
	switch {
	case o.raw != nil:
		return constant(kind, o.raw)
	case o.mask != nil && o.kind == kindMark:
		mask, xor := native(o.mask), native(o.xor)
		switch {
		case mask == ^uint32(0):
			return fmt.Sprintf("%s ^ 0x%08x", o.text, xor)
		case xor == 0:
			return fmt.Sprintf("%s & 0x%08x", o.text, mask)
		case mask == ^xor:
			return fmt.Sprintf("%s | 0x%08x", o.text, xor)
		default:
			return fmt.Sprintf("%s & 0x%08x ^ 0x%08x", o.text, mask, xor)
		}
	case o.text == "":
		return "(register)"
	default:
		return o.text
	}
}

// markMask are the bits of a mark that o holds.
func (o operand) markMask() uint32 {
	if o.mask == nil {
		return ^uint32(0)
	}
	return native(o.mask)
}

// asks are the bits of the packet's mark that are compared with data. What a rule sets is no question.
func (o operand) asks(data []byte) uint32 {
	if o.text != "meta mark" || len(data) != 4 || !allZero(o.xor) {
		return 0
	}
	return asked(native(data), o.markMask())
}

// constant writes a value as nft does.
func constant(kind operandKind, b []byte) string {
	switch size := len(b); {
	case kind == kindMark && size == 4:
		return fmt.Sprintf("0x%08x", native(b))
	case kind == kindPort && size == 2:
		return strconv.FormatUint(numberOf(b).low, 10)
	case kind == kindAddr && (size == 4 || size == 16):
		return numberOf(b).addr(size == 16).String()
	case kind == kindName:
		s := nl.Text(b)
		if len(s) == len(b) { // without its final zero it is compared as a prefix
			s += "*"
		}
		return strconv.Quote(s)
	case kind == kindProto && size == 1:
		return protoText(b[0])
	case kind == kindUser && size == 4:
		return strconv.FormatUint(uint64(native(b)), 10)
	case kind == kindFamily && size == 1:
		return map[byte]string{nfIPv4: "ipv4", nfIPv6: "ipv6"}[b[0]]
	case kind == kindAddrType && size == 4 && int(native(b)) < len(addrTypes()):
		return strings.ToLower(addrTypes()[native(b)])
	case kind == kindState && size == 4:
		return stateNames(native(b), "invalid", "established", "related", "new", "", "", "untracked")
	}
	return fmt.Sprintf("0x%x", b)
}

// compare writes a comparison of o with value, which is data unless that is nil, in both syntaxes.
func (e *exprs) compare(o operand, op uint32, data []byte, value string) {
	text, sign := o.text, [...]string{"", "!= ", "< ", "<= ", "> ", ">= "}[op]
	switch {
	case data == nil:
	case o.kind == kindAddr && (o.mask != nil || len(data) < 4):
		value = prefixText(data, o.mask, addrLen(e.key.family == nfIPv6))
	case o.kind == kindState && o.mask != nil: // ct state & (new) != 0
		value, sign = constant(kindState, o.mask), map[bool]string{true: "!= "}[op == 0]
	case o.mask != nil:
		text = fmt.Sprintf("%s & %s", o.text, constant(o.kind, o.mask))
		if sign == "" {
			sign = "== "
		}
	}
	e.words = append(e.words, text+" "+sign+value)
	if op > 1 || !e.xt.comparison(o, bang(op == 1), data, value) {
		e.xt.rest = append(e.xt.rest, "("+text+" "+sign+value+")")
	}
}

// prefixText writes the first bytes of an address as a prefix, or what of an address is compared.
func prefixText(data, mask []byte, n int) string {
	if mask == nil {
		mask = slices.Repeat([]byte{0xff}, len(data))
	}
	whole := func(b []byte) []byte { return append(slices.Clone(b), make([]byte, max(0, n-len(b)))...) }
	return addrText(whole(data), whole(mask))
}

// saved puts a rule that iptables-nft wrote back into the form and order of iptables-save: it turns addresses,
// interfaces, protocol, ports and marks into native expressions.
type saved struct {
	src, dst, in, out, proto string
	protoMatch               string // "-m udp", in front of ports
	ports                    []string
	rest                     []string
}

func (s *saved) String() string {
	ports := s.ports
	if len(ports) > 0 {
		ports = append([]string{s.protoMatch}, ports...)
	}
	var words strings.Builder
	for _, w := range slices.Concat([]string{s.src, s.dst, s.in, s.out, s.proto}, ports, s.rest) {
		if w != "" {
			words.WriteString(" " + w)
		}
	}
	return words.String()
}

// comparison takes a comparison that iptables-nft made from an option; false when it is none of these. A range has no
// data.
func (s *saved) comparison(o operand, not string, data []byte, value string) bool {
	switch {
	case o.text == "th sport", o.text == "th dport":
		s.ports = append(s.ports, not+"--"+o.text[len("th "):]+" "+strings.ReplaceAll(value, "-", ":"))
	case data == nil:
		return false
	case o.text == "ip saddr", o.text == "ip6 saddr":
		s.src = not + "-s " + withLength(value)
	case o.text == "ip daddr", o.text == "ip6 daddr":
		s.dst = not + "-d " + withLength(value)
	case o.text == "iifname":
		s.in = not + "-i " + ifaceOption(value)
	case o.text == "oifname":
		s.out = not + "-o " + ifaceOption(value)
	case o.text == "meta l4proto", o.text == "ip protocol":
		s.proto, s.protoMatch = not+"-p "+value, "-m "+value
	case o.text == "meta mark":
		s.rest = append(s.rest, "-m mark "+not+"--mark "+markText(native(data), o.markMask()))
	default:
		return false
	}
	return true
}

func ifaceOption(value string) string { return strings.ReplaceAll(strings.Trim(value, `"`), "*", "+") }

// withLength writes a single address as iptables-save does, with its full prefix length.
func withLength(value string) string {
	switch {
	case strings.Contains(value, "/"):
		return value
	case strings.Contains(value, ":"):
		return value + "/128"
	default:
		return value + "/32"
	}
}
