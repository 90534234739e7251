package natrules

import (
	"fmt"
	"strconv"
	"strings"
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

// asks are the bits of the packet's mark that are compared with data. What a rule sets is no question.
func (o operand) asks(data []byte) uint32 {
	if o.kind != kindMark || o.text != "meta mark" || len(data) != 4 || !allZero(o.xor) {
		return 0
	}
	mask := ^uint32(0)
	if o.mask != nil {
		mask = native(o.mask)
	}
	return asked(native(data), mask)
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
		s := cString(b)
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

// compare writes a comparison, in both syntaxes.
func (e *exprs) compare(o operand, op uint32, data []byte) {
	sign := cmpNames[op] + " "
	if op == 0 {
		sign = ""
	}
	value := constant(o.kind, data)
	text := o.text
	switch {
	case o.kind == kindAddr && (o.mask != nil || len(data) == 1 || len(data) == 2 || len(data) == 3):
		value = prefixText(data, o.mask, e.key.family == nfIPv6)
	case o.kind == kindState && o.mask != nil: // ct state & (new) != 0
		value, sign = constant(kindState, o.mask), ""
		if op == 0 {
			sign = "!= "
		}
	case o.mask != nil:
		text = fmt.Sprintf("%s & %s", o.text, constant(o.kind, o.mask))
		if sign == "" {
			sign = "== "
		}
	}
	nft := text + " " + sign + value
	e.words = append(e.words, nft)
	if !e.xt.comparison(o, op, data, value) {
		e.xt.rest = append(e.xt.rest, "("+nft+")")
	}
}

func prefixText(data, mask []byte, ipv6 bool) string {
	n := addrLen(ipv6)
	if mask == nil {
		for range data {
			mask = append(mask, 0xff)
		}
	}
	addr := append(append([]byte(nil), data...), make([]byte, max(0, n-len(data)))...)
	full := append(append([]byte(nil), mask...), make([]byte, max(0, n-len(mask)))...)
	return addrText(addr, full)
}
