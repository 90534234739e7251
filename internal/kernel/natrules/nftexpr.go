package natrules

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"vxlan_exporter/internal/kernel/nl"
)

// exprs turns the expressions of one nf_tables rule into steps. What they load into registers is followed here, so that
// steps only compare and act.
type exprs struct {
	tables *nftables
	key    chainKey
	rule   *rule
	regs   map[int]operand // by the first of the registers of 4 bytes that it takes
	words  []string        // nft syntax
	xt     saved           // iptables-save syntax, for rules of iptables-nft
	compat bool
}

func (t *nftables) rule(k chainKey, c *chain, list []byte) *rule {
	r := &rule{chain: c}
	e := &exprs{tables: t, key: k, rule: r, regs: map[int]operand{}}
	whole := nl.WellFormed(list)
	for _, expression := range nl.Attrs(list) {
		if whole = whole && nl.WellFormed(expression) && len(r.steps) < maxExpressions; !whole {
			break
		}
		n := parseNested(expression) // NFTA_EXPR_NAME 1, NFTA_EXPR_DATA 2
		r.steps = append(r.steps, e.expression(n.text(1), parseNested(n[2])))
	}
	if !whole {
		r.steps = append(r.steps, doubtful)
	}
	r.text = strings.Join(e.words, " ")
	if e.compat || compatTable(c) && strings.ToUpper(c.name) == c.name {
		r.text = "-A " + c.name + e.xt.String()
	}
	return r
}

func (e *exprs) say(nft, xt string) {
	e.words = append(e.words, nft)
	if xt != "" {
		e.xt.rest = append(e.xt.rest, xt)
	}
}

// expression parses one expression. One that is not known may match or not, and may do anything.
func (e *exprs) expression(name string, n nested) step {
	switch name {
	case "meta":
		return e.meta(n)
	case "payload":
		return e.payload(n)
	case "ct":
		return e.ct(n)
	case "fib":
		return e.fib(n)
	case "immediate":
		return e.immediate(n)
	case "bitwise":
		return e.bitwise(n)
	case "cmp":
		return e.cmp(n)
	case "range":
		return e.rangeOf(n)
	case "lookup":
		return e.lookup(n)
	case "masq":
		return e.masquerade(n)
	case "nat":
		return e.nat(n)
	case "match", "target":
		return e.xtables(name, n)
	case "rt":
		return e.route(n)
	case "byteorder", "numgen", "hash", "socket", "osf", "xfrm", "tunnel", "exthdr", "inner":
		return e.unknownLoad(name)
	case "notrack":
		e.say(name, "")
		return notrack
	case "counter":
		e.say(name, "")
		return proceed
	case "log", "last":
		e.say(name, "-j "+strings.ToUpper(name))
		return proceed
	case "reject":
		e.say(name, "-j REJECT")
		return dropped
	case "redir":
		e.say("redirect", "-j REDIRECT")
		return accepted
	case "limit", "quota", "connlimit":
		e.say(name, "-m "+name)
		return unclear
	}
	e.say("("+name+")", "("+name+")")
	switch name {
	case "queue", "dup", "fwd", "objref", "dynset", "flow_offload", "synproxy", "tproxy":
		// They change neither the mark nor the source; whether the packet goes on does not matter more than that it
		// may.
		return unclear
	}
	return doubtful
}

// registerAt finds a register: NFT_REG_1 to 4 are 16 bytes each, NFT_REG32_00 (8) to 15 are 4 bytes, in the same place.
// It is negative, and stays so, where there is none.
func registerAt(number uint32) int {
	switch {
	case number >= 1 && number <= 4:
		return int(number-1) * 4
	case number >= 8 && number <= 23:
		return int(number - 8)
	}
	return -1 << 16
}

// load puts o into a register, and forgets what it overlaps.
func (e *exprs) load(register uint32, o operand) step {
	at := registerAt(register)
	words := func(size int) int { return (size + 3) / 4 }
	for other, p := range e.regs {
		if other < at+words(o.size) && at < other+words(p.size) {
			delete(e.regs, other)
		}
	}
	if at >= 0 {
		e.regs[at] = o
	}
	return proceed
}

// reg is what is in a register.
func (e *exprs) reg(register uint32) operand { return e.regs[registerAt(register)] }

// from gives the registers from one on, as they are now, by the 4 bytes of a concatenation.
func (e *exprs) from(register uint32) func(words int) operand {
	at, regs := registerAt(register), maps.Clone(e.regs)
	return func(words int) operand { return regs[at+words] }
}

// unknownLoad is an expression that loads a register from something that is not known here. Their DREG numbers differ,
// so every register is taken for changed.
func (e *exprs) unknownLoad(name string) step {
	for at := range 16 {
		e.regs[at] = operand{text: name}
	}
	return proceed
}

// NFTA_IMMEDIATE_DREG 1, DATA 2 {NFTA_DATA_VALUE 1, NFTA_DATA_VERDICT 2 {CODE 1, CHAIN 2}}.
func (e *exprs) immediate(n nested) step {
	data := parseNested(n[2])
	if v, ok := data[2]; ok {
		verdict, text, xt := e.verdictOf(parseNested(v))
		e.say(text, xt)
		e.rule.to = verdict.chain
		return always(ends(verdict))
	}
	raw := bytes.Clone(data[1])
	return e.load(n.be32(1), operand{raw: raw, size: len(raw), load: constantly(constantContent(raw))})
}

// verdictOf parses a verdict: NF_DROP 0, NF_ACCEPT 1, NF_QUEUE 3, NFT_CONTINUE -1, BREAK -2, JUMP -3, GOTO -4, RETURN
// -5.
func (e *exprs) verdictOf(n nested) (v verdict, text, xt string) {
	name := n.text(2)
	chain := func(kind verdictKind) verdict {
		return verdict{kind: kind, chain: e.tables.chain(chainKey{e.key.tableKey, name})}
	}
	switch code := int32(n.be32(1)); code { //nolint:gosec // a signed field
	case 0, 3:
		return verdict{kind: verdictDrop}, "drop", "-j DROP"
	case 1:
		return verdict{kind: verdictAccept}, "accept", "-j ACCEPT"
	case -1, -2:
		return verdict{kind: verdictContinue}, "continue", ""
	case -3:
		return chain(verdictJump), "jump " + name, "-j " + name
	case -4:
		return chain(verdictGoto), "goto " + name, "-g " + name
	case -5:
		return verdict{kind: verdictReturn}, "return", "-j RETURN"
	default:
		text = fmt.Sprintf("(verdict %d)", code)
		return verdict{kind: verdictUnknown}, text, "-j " + text
	}
}

// NFTA_BITWISE_SREG 1, DREG 2, LEN 3, MASK 4, XOR 5, OP 6: (sreg & mask) ^ xor; other operations are not followed.
func (e *exprs) bitwise(n nested) step {
	o, size := e.reg(n.be32(1)), int(n.be32(3))
	from := o
	o.mask, o.xor = bytes.Clone(n.value(4)), bytes.Clone(n.value(5))
	o.size, o.raw, o.load = min(size, 64), nil, nil
	if n.be32(6) == 0 && len(o.mask) == size && len(o.xor) == size && from.load != nil {
		o.load = func(m *machine) content { return from.content(m).bitwise(o.mask, o.xor) }
	}
	return e.load(n.be32(2), o)
}

// NFTA_CMP_SREG 1, OP 2, DATA 3; EQ 0, NEQ 1, LT 2, LTE 3, GT 4, GTE 5.
func (e *exprs) cmp(n nested) step {
	o, op, data := e.reg(n.be32(1)), n.be32(2), bytes.Clone(n.value(3))
	if op > 5 || len(data) == 0 {
		e.say("(cmp)", "")
		return unclear
	}
	e.compare(o, op, data, constant(o.kind, data))
	e.rule.asks |= o.asks(data)
	least, most := make([]byte, len(data)), bytes.Repeat([]byte{0xff}, len(data))
	switch op {
	case 2, 5:
		return o.inRange(data, most, op == 2)
	case 3, 4:
		return o.inRange(least, data, op == 4)
	default:
		return o.inRange(data, data, op == 1)
	}
}

// NFTA_RANGE_SREG 1, OP 2, FROM_DATA 3, TO_DATA 4.
func (e *exprs) rangeOf(n nested) step {
	o, op, from, to := e.reg(n.be32(1)), n.be32(2), bytes.Clone(n.value(3)), bytes.Clone(n.value(4))
	if len(from) == 0 || len(from) != len(to) {
		return unclear
	}
	e.compare(o, min(op, 1), nil, constant(o.kind, from)+"-"+constant(o.kind, to))
	return o.inRange(from, to, op == 1)
}

func (o operand) inRange(from, to []byte, invert bool) step {
	return matchStep(func(m *machine) truth { return invertIf(m.inRange(o.content(m), from, to), invert) })
}

// NFTA_MASQ_FLAGS 1, REG_PROTO_MIN 2, REG_PROTO_MAX 3.
func (e *exprs) masquerade(n nested) step {
	r := natRange{masquerade: true, flags: n.be32(1)}
	e.ports(&r, n, 2)
	return e.source(r)
}

// NFTA_NAT_TYPE 1 (0 source), FAMILY 2, REG_ADDR_MIN 3, ADDR_MAX 4, PROTO_MIN 5, PROTO_MAX 6, FLAGS 7.
func (e *exprs) nat(n nested) step {
	if n.be32(1) != 0 {
		e.say("dnat", "-j DNAT")
		return accepted
	}
	r := natRange{flags: n.be32(7)}
	if first, last, ok := e.ends(n, 3); ok {
		r.flags |= rangeMapIPs
		r.min, _ = netip.AddrFromSlice(first)
		r.max, _ = netip.AddrFromSlice(last)
		r.unsure = !r.min.IsValid() || !r.max.IsValid()
	}
	e.ports(&r, n, 5)
	return e.source(r)
}

func (e *exprs) source(r natRange) step {
	e.say(r.native(), r.saved())
	return natStep(r)
}

// ends are the constants in the registers that the attribute low and the one behind it name; ok is false without them.
func (e *exprs) ends(n nested, low uint16) (first, last []byte, ok bool) {
	first = e.reg(n.be32(low)).raw
	if last = first; n.has(low + 1) {
		last = e.reg(n.be32(low + 1)).raw
	}
	return first, last, n.has(low)
}

func (e *exprs) ports(r *natRange, n nested, low uint16) {
	first, last, ok := e.ends(n, low)
	switch {
	case !ok:
		return
	case len(first) < 2 || len(last) < 2:
		r.unsure = true
	default:
		r.minPort, r.maxPort = binary.BigEndian.Uint16(first), binary.BigEndian.Uint16(last)
	}
	r.flags |= rangeProtoSpec
}

// xtables: NFTA_MATCH_NAME 1, REV 2, INFO 3; NFTA_TARGET_* alike. The info is as in a legacy table.
func (e *exprs) xtables(what string, n nested) step {
	e.compat = true
	i := info{b: n[3], name: n.text(1), ipv6: e.key.family == nfIPv6, lookups: e.tables.lookups}
	i.revision = uint8(n.be32(2)) //nolint:gosec // revisions fit a byte
	part := parseXT(map[string]string{"match": "-m", "target": "-j"}[what], i)
	e.rule.asks |= part.asks
	e.say(fmt.Sprintf("xt %s %q", what, i.name), part.text)
	return part.step
}

// compatTable reports whether a table is one of those that iptables-nft keeps.
func compatTable(c *chain) bool {
	return c.family != "inet" && slices.Contains([]string{"raw", "mangle", "nat", "filter", "security"}, c.table)
}
