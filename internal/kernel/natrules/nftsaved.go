package natrules

import (
	"strings"
)

// saved puts a rule that iptables-nft wrote back into the form and order of iptables-save: it turns addresses,
// interfaces, protocol, ports and marks into native expressions.
type saved struct {
	src, dst, in, out, proto string
	protoName                string
	ports                    []string
	rest                     []string
}

func (s *saved) String() string {
	var words []string
	for _, w := range []string{s.src, s.dst, s.in, s.out, s.proto} {
		if w != "" {
			words = append(words, w)
		}
	}
	if len(s.ports) > 0 {
		if s.protoName != "" {
			words = append(words, "-m "+s.protoName)
		}
		words = append(words, s.ports...)
	}
	words = append(words, s.rest...)
	if len(words) == 0 {
		return ""
	}
	return " " + strings.Join(words, " ")
}

// comparison takes a comparison that iptables-nft made from an option; false when it is none of these.
func (s *saved) comparison(o operand, op uint32, data []byte, value string) bool {
	if op > 1 { // EQ 0, NEQ 1
		return false
	}
	not := bang(op == 1)
	switch o.text {
	case "ip saddr", "ip6 saddr":
		s.src = not + "-s " + withLength(value)
	case "ip daddr", "ip6 daddr":
		s.dst = not + "-d " + withLength(value)
	case "iifname":
		s.in = not + "-i " + ifaceOption(value)
	case "oifname":
		s.out = not + "-o " + ifaceOption(value)
	case "meta l4proto", "ip protocol":
		s.proto, s.protoName = not+"-p "+value, value
	case "th sport", "th dport":
		return s.port(o, op, value)
	case "meta mark":
		mask := ^uint32(0)
		if o.mask != nil {
			mask = native(o.mask)
		}
		s.rest = append(s.rest, "-m mark "+not+"--mark "+markText(native(data), mask))
	default:
		return false
	}
	return true
}

func (s *saved) port(o operand, op uint32, value string) bool {
	option, ok := map[string]string{"th sport": "--sport ", "th dport": "--dport "}[o.text]
	if !ok || op > 1 {
		return false
	}
	s.ports = append(s.ports, bang(op == 1)+option+value)
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
