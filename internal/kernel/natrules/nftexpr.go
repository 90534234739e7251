package natrules

import (
	"bytes"
	"fmt"
	"strings"

	"vxlan_exporter/internal/kernel/nl"
)

// exprs turns the expressions of one nf_tables rule into steps. Expressions work on 64 bytes of registers; what is
// loaded into them may be unknown in part, and comparisons then answer maybe.
type exprs struct {
	tables *nftables
	key    chainKey
	rule   *rule
	regs   map[uint32]operand // what a register holds, as text
	words  []string           // nft syntax
	xt     saved              // iptables-save syntax, for rules of iptables-nft
	compat bool
}

// operand is what a person calls the content of a register.
type operand struct {
	text string
	kind operandKind
	mask []byte // of a bitwise operation on it
	xor  []byte
	raw  []byte // an immediate
}

type operandKind uint8

const (
	kindHex operandKind = iota
	kindMark
	kindPort
	kindAddr
	kindName
	kindProto
	kindState
	kindFamily
	kindAddrType
	kindUser
)

func (t *nftables) rule(k chainKey, c *chain, index int, list []byte) *rule {
	r := &rule{chain: c, index: index}
	e := &exprs{tables: t, key: k, rule: r, regs: map[uint32]operand{}}
	if !nl.WellFormed(list) {
		r.steps = append(r.steps, unclear, unknownVerdict)
	}
	for _, expression := range nl.Attrs(list) {
		if len(r.steps) >= maxExpressions || !nl.WellFormed(expression) {
			r.steps = append(r.steps, unclear, unknownVerdict)
			break
		}
		n := parseNested(expression) // NFTA_EXPR_NAME 1, NFTA_EXPR_DATA 2
		r.steps = append(r.steps, e.expression(n.text(1), parseNested(n[2])))
	}
	line := strings.Join(e.words, " ")
	if e.compat || compatTable(c) && strings.ToUpper(c.name) == c.name {
		line = "-A " + c.name + e.xt.String()
	}
	r.text = func() string { return line }
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
	case "notrack":
		e.say("notrack", "")
		return notrack
	case "match", "target":
		return e.xtables(name, n)
	case "counter", "log", "last":
		if name == "counter" {
			e.say(name, "")
		} else {
			e.say(name, "-j "+strings.ToUpper(name))
		}
		return proceed
	case "reject":
		e.say(name, "-j REJECT")
		return dropped
	case "redir":
		e.say("redirect", "-j REDIRECT")
		return accepted
	case "rt":
		return e.route(n)
	case "byteorder", "numgen", "hash", "socket", "osf", "xfrm", "tunnel", "exthdr", "inner":
		return e.unknownLoad(name)
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
	return func(*machine) effect { return effect{match: maybe, verdict: &verdict{kind: verdictUnknown}} }
}

// unknownLoad is an expression that loads a register from something that is not known here. Their DREG numbers differ,
// so every register is taken for changed.
func (e *exprs) unknownLoad(name string) step {
	for r := range uint32(24) {
		e.regs[r] = operand{text: name}
	}
	return func(m *machine) effect {
		m.registers = nil
		return goOn
	}
}

// NFTA_IMMEDIATE_DREG 1, DATA 2 {NFTA_DATA_VALUE 1, NFTA_DATA_VERDICT 2 {CODE 1, CHAIN 2}}.
func (e *exprs) immediate(n nested) step {
	dreg, data := n.be32(1), parseNested(n[2])
	if v, ok := data[2]; ok {
		return e.verdict(parseNested(v))
	}
	raw := bytes.Clone(data[1])
	e.regs[dreg] = operand{raw: raw}
	return loads(dreg, func(*machine) content { return content{size: len(raw), values: [][]byte{raw}} })
}

func (e *exprs) verdict(n nested) step {
	v, text, xt := e.verdictOf(n)
	e.say(text, xt)
	if v.kind == verdictJump || v.kind == verdictGoto {
		e.rule.to = v.chain
	}
	return func(*machine) effect { return ends(v) }
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
		return verdict{kind: verdictUnknown}, fmt.Sprintf("(verdict %d)", code), fmt.Sprintf("-j (verdict %d)", code)
	}
}

// NFTA_BITWISE_SREG 1, DREG 2, LEN 3, MASK 4, XOR 5, OP 6: (sreg & mask) ^ xor; other operations are not followed.
func (e *exprs) bitwise(n nested) step {
	sreg, dreg, size, op := n.be32(1), n.be32(2), int(n.be32(3)), n.be32(6)
	mask, xor := bytes.Clone(n.value(4)), bytes.Clone(n.value(5))
	o := e.regs[sreg]
	o.mask, o.xor = mask, xor
	e.regs[dreg] = o
	known := op == 0 && len(mask) == size && len(xor) == size && size <= 64
	return loads(dreg, func(m *machine) content {
		c := m.read(sreg)
		if !known || c.size != size {
			return content{size: max(0, min(size, 64))}
		}
		return c.bitwise(mask, xor)
	})
}

var cmpNames = [...]string{"==", "!=", "<", "<=", ">", ">="}

// NFTA_CMP_SREG 1, OP 2, DATA 3; EQ 0, NEQ 1, LT 2, LTE 3, GT 4, GTE 5.
func (e *exprs) cmp(n nested) step {
	sreg, op, data := n.be32(1), n.be32(2), bytes.Clone(n.value(3))
	if int(op) >= len(cmpNames) || len(data) == 0 {
		e.say("(cmp)", "")
		return unclear
	}
	e.compare(e.regs[sreg], op, data)
	e.rule.asks |= e.regs[sreg].asks(data)
	return matchStep(func(m *machine) truth {
		c := m.read(sreg)
		switch op {
		case 0:
			return m.equal(c, data)
		case 1:
			return m.equal(c, data).not()
		case 2:
			return m.atLeast(c, data).not()
		case 3:
			return m.atMost(c, data)
		case 4:
			return m.atMost(c, data).not()
		default:
			return m.atLeast(c, data)
		}
	})
}

// NFTA_RANGE_SREG 1, OP 2, FROM_DATA 3, TO_DATA 4.
func (e *exprs) rangeOf(n nested) step {
	sreg, op := n.be32(1), n.be32(2)
	from, to := bytes.Clone(n.value(3)), bytes.Clone(n.value(4))
	if len(from) == 0 || len(from) != len(to) {
		return unclear
	}
	o := e.regs[sreg]
	sign := ""
	if op == 1 {
		sign = "!= "
	}
	text := fmt.Sprintf("%s %s%s-%s", o.text, sign, constant(o.kind, from), constant(o.kind, to))
	e.words = append(e.words, text)
	if o.kind == kindPort && e.xt.port(o, op, constant(kindPort, from)+":"+constant(kindPort, to)) {
		text = ""
	}
	if text != "" {
		e.xt.rest = append(e.xt.rest, "("+text+")")
	}
	return matchStep(func(m *machine) truth { return invertIf(m.inRange(m.read(sreg), from, to), op == 1) })
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

func compatTable(c *chain) bool {
	if c.family == "inet" {
		return false
	}
	switch c.table {
	case "raw", "mangle", "nat", "filter", "security":
		return true
	}
	return false
}
