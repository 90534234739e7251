package natrules

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// exprs turns the expressions of one nf_tables rule into steps. Expressions work on 64 bytes of registers; what is loaded into
// them may be unknown in part, and comparisons then answer maybe.
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
	text  string
	kind  operandKind
	mask  []byte // of a bitwise operation on it
	xor   []byte
	raw   []byte // an immediate
	isRaw bool
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
)

func (t *nftables) rule(k chainKey, c *chain, index int, list []byte) *rule {
	r := &rule{chain: c, index: index}
	e := &exprs{tables: t, key: k, rule: r, regs: map[uint32]operand{}}
	for a := range attrs(list) {
		if len(r.steps) == maxExpressions {
			r.steps = append(r.steps, unclear, unknownVerdict)
			break
		}
		n := parseNested(a.data) // NFTA_EXPR_NAME 1, NFTA_EXPR_DATA 2
		r.steps = append(r.steps, e.expression(n.text(1), parseNested(n[2])))
	}
	line := strings.Join(e.words, " ")
	if e.compat || compatTable(c) && strings.ToUpper(c.name) == c.name {
		line = "-A " + c.name + e.xt.String()
	}
	r.text = func() string { return line }
	return r
}

func unknownVerdict(*machine) effect { return ends(verdict{kind: verdictUnknown}) }

func (e *exprs) say(nft, xt string) {
	e.words = append(e.words, nft)
	if xt != "" {
		e.xt.rest = append(e.xt.rest, xt)
	}
}

// reg is the byte offset of a register: NFT_REG_1 to 4 are 16 bytes each, NFT_REG32_00 (8) to 15 4 bytes, in the same place.
func reg(number uint32) (int, bool) {
	switch {
	case number >= 1 && number <= 4:
		return int(number-1) * 16, true
	case number >= 8 && number <= 23:
		return int(number-8) * 4, true
	}
	return 0, false
}

func (m *machine) load(register uint32, v value) {
	at, ok := reg(register)
	if !ok {
		return
	}
	n := copy(m.regs[at:], v)
	for ; n%4 != 0 && at+n < len(m.regs); n++ { // the rest of the last register is zeroed
		m.regs[at+n] = partial{0, 0xff}
	}
}

func (m *machine) read(register uint32, n int) value {
	at, ok := reg(register)
	if !ok || n < 0 || at+n > len(m.regs) {
		return unknownValue(max(0, min(n, 64)))
	}
	return value(m.regs[at : at+n])
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
		return func(*machine) effect { return goOn }
	case "reject":
		e.say(name, "-j REJECT")
		return dropped
	case "redir":
		e.say("redirect", "-j REDIRECT")
		return func(*machine) effect { return ends(verdict{kind: verdictAccept}) }
	case "byteorder", "numgen", "hash", "rt", "socket", "osf", "xfrm", "tunnel", "exthdr", "inner":
		return e.unknownLoad(name, n)
	case "limit", "quota", "connlimit":
		e.say(name, "-m "+name)
		return unclear
	}
	e.say("("+name+")", "("+name+")")
	switch name {
	case "queue", "dup", "fwd", "objref", "dynset", "flow_offload", "synproxy", "tproxy":
		// They change neither the mark nor the source; whether the packet goes on does not matter more than that it may.
		return unclear
	}
	return func(*machine) effect { return effect{match: maybe, verdict: &verdict{kind: verdictUnknown}} }
}

// unknownLoad is an expression that loads a register from something that is not known here. Their DREG numbers differ, so every
// register is taken for changed.
func (e *exprs) unknownLoad(name string, _ nested) step {
	for r := range uint32(24) {
		e.regs[r] = operand{text: name}
	}
	return func(m *machine) effect {
		clear(m.regs[:])
		return goOn
	}
}

// NFTA_META_DREG 1, KEY 2, SREG 3; keys from enum nft_meta_keys.
func (e *exprs) meta(n nested) step {
	const (
		metaProtocol, metaMark, metaIIF, metaOIF, metaIIFName, metaOIFName = 1, 3, 4, 5, 6, 7
		metaNFProto, metaL4Proto                                           = 15, 16
	)
	dreg, key, sreg := n.be32(1), n.be32(2), n.be32(3)
	if n.has(3) {
		return e.setMeta(key == metaMark, key, sreg)
	}
	known := map[uint32]operand{
		metaProtocol: {text: "meta protocol"}, metaMark: {text: "meta mark", kind: kindMark},
		metaIIF: {text: "iif", kind: kindMark}, metaOIF: {text: "oif", kind: kindMark},
		metaIIFName: {text: "iifname", kind: kindName}, metaOIFName: {text: "oifname", kind: kindName},
		metaNFProto: {text: "meta nfproto", kind: kindFamily}, metaL4Proto: {text: "meta l4proto", kind: kindProto},
	}
	o, ok := known[key]
	if !ok {
		o.text = fmt.Sprintf("meta (key %d)", key)
	}
	e.regs[dreg] = o
	return func(m *machine) effect {
		p := m.packet
		v := unknownValue(16)
		switch key {
		case metaMark:
			v = wordValue(m.state.mark)
		case metaOIF:
			v = p.oif
		case metaOIFName:
			v = p.oifname
		case metaIIF:
			v = p.iif
			if m.hook == hookOutput {
				v = knownValue(make([]byte, 4))
			}
		case metaIIFName:
			v = p.iifname
			if m.hook == hookOutput {
				v = knownValue(make([]byte, 16))
			}
		case metaNFProto:
			v = knownValue([]byte{nfIPv4})
			if p.ipv6 {
				v = knownValue([]byte{nfIPv6})
			}
		case metaL4Proto:
			v = p.proto
		case metaProtocol:
			v = knownValue([]byte{0x08, 0x00})
			if p.ipv6 {
				v = knownValue([]byte{0x86, 0xdd})
			}
		default:
			v = v[:4]
		}
		m.load(dreg, v)
		return goOn
	}
}

func (e *exprs) setMeta(mark bool, key, sreg uint32) step {
	o := e.regs[sreg]
	if !mark {
		e.say(fmt.Sprintf("meta (key %d) set %s", key, o.value(kindHex)), "")
		return func(*machine) effect { return goOn }
	}
	text := "meta mark set " + o.value(kindMark)
	e.say(text, text)
	return func(m *machine) effect {
		m.state.mark = wordOf(m.read(sreg, 4))
		return goOn
	}
}

// NFTA_PAYLOAD_DREG 1, BASE 2, OFFSET 3, LEN 4, SREG 5.
func (e *exprs) payload(n nested) step {
	const baseNetwork, baseTransport = 1, 2
	dreg, base, off, size := n.be32(1), n.be32(2), int(n.be32(3)), int(n.be32(4))
	if n.has(5) {
		e.say("(payload write)", "")
		return unknownVerdict
	}
	if size > 64 || off > 1<<16 {
		size, base = 0, 99
	}
	e.regs[dreg] = e.field(base, off, size)
	return func(m *machine) effect {
		switch base {
		case baseNetwork:
			m.load(dreg, m.packet.network(off, size))
		case baseTransport:
			m.load(dreg, m.packet.transport(off, size))
		default:
			m.load(dreg, unknownValue(size))
			return matched(maybe)
		}
		return goOn
	}
}

// field names a part of a header.
func (e *exprs) field(base uint32, off, size int) operand {
	type place struct {
		base      uint32
		off, size int
	}
	switch (place{base, off, size}) {
	case place{1, 12, 4}:
		return operand{text: "ip saddr", kind: kindAddr}
	case place{1, 16, 4}:
		return operand{text: "ip daddr", kind: kindAddr}
	case place{1, 8, 16}:
		return operand{text: "ip6 saddr", kind: kindAddr}
	case place{1, 24, 16}:
		return operand{text: "ip6 daddr", kind: kindAddr}
	case place{1, 9, 1}:
		return operand{text: "ip protocol", kind: kindProto}
	case place{1, 6, 1}:
		return operand{text: "ip6 nexthdr", kind: kindProto}
	case place{2, 0, 2}:
		return operand{text: "th sport", kind: kindPort}
	case place{2, 2, 2}:
		return operand{text: "th dport", kind: kindPort}
	}
	if base == 1 && size < 4 && off == 12 || base == 1 && size < 4 && off == 16 { // a prefix on a byte boundary
		name := map[int]string{12: "ip saddr", 16: "ip daddr"}[off]
		if e.key.family == nfIPv4 {
			return operand{text: name, kind: kindAddr}
		}
	}
	return operand{text: fmt.Sprintf("@%d,%d,%d", base, off*8, size*8)}
}

// NFTA_CT_DREG 1, KEY 2, DIRECTION 3, SREG 4; keys from enum nft_ct_keys.
func (e *exprs) ct(n nested) step {
	const ctState0, ctStatus, ctMark = 0, 2, 3
	dreg, key, sreg := n.be32(1), n.be32(2), n.be32(4)
	if n.has(4) {
		o := e.regs[sreg]
		if key != ctMark {
			e.say(fmt.Sprintf("ct (key %d) set", key), "")
			return func(*machine) effect { return goOn }
		}
		e.say("ct mark set "+o.value(kindMark), "")
		return func(m *machine) effect {
			m.state.ctmark = wordOf(m.read(sreg, 4))
			return goOn
		}
	}
	switch key {
	case ctState0:
		e.regs[dreg] = operand{text: "ct state", kind: kindState}
	case ctMark:
		e.regs[dreg] = operand{text: "ct mark", kind: kindMark}
	case ctStatus:
		e.regs[dreg] = operand{text: "ct status"}
	default:
		e.regs[dreg] = operand{text: fmt.Sprintf("ct (key %d)", key)}
	}
	return func(m *machine) effect {
		switch key {
		case ctState0:
			m.load(dreg, wordValue(nftState(m)))
			return goOn
		case ctMark:
			m.load(dreg, wordValue(m.state.ctmark))
		default:
			m.load(dreg, unknownValue(16))
		}
		return matched(tracked(m)) // without a flow the expression breaks off (nft_ct_get_eval)
	}
}

// nftState is the state as nft compares it: NF_CT_STATE_BIT, that is 1 invalid, 2 established, 4 related, 8 new, 64 untracked.
func nftState(m *machine) word {
	const newState, untracked, invalid = 8, 64, 1
	switch t := tracked(m); {
	case m.state.untracked != nil:
		return word{bits: untracked}
	case t == yes:
		return word{bits: newState}
	case t == no:
		return word{bits: invalid}
	default:
		return word{unknown: newState | untracked | invalid}
	}
}

// NFTA_FIB_DREG 1, RESULT 2, FLAGS 3; only the type of an address is known.
func (e *exprs) fib(n nested) step {
	const resultType, flagSrc, flagDst = 3, 1, 2 // NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_SADDR, NFTA_FIB_F_DADDR
	dreg, result, flags := n.be32(1), n.be32(2), n.be32(3)
	text := "fib"
	if flags&flagSrc != 0 {
		text += " saddr"
	}
	if flags&flagDst != 0 {
		text += " daddr"
	}
	e.regs[dreg] = operand{text: text + " type", kind: kindAddrType}
	return func(m *machine) effect {
		const unicast, local = 1, 2 // RTN_UNICAST, RTN_LOCAL
		v := word{unknown: ^uint32(0)}
		switch {
		case result != resultType:
		case flags == flagSrc && m.packet.srcLocal == yes:
			v = word{bits: local}
		case flags == flagDst && m.packet.dstUnicast == yes:
			v = word{bits: unicast}
		case flags == flagDst: // unicast 1, broadcast 3 or multicast 5: bit 0 is set, so it is not local
			v = word{bits: 1, unknown: 6}
		}
		m.load(dreg, wordValue(v))
		return goOn
	}
}

// NFTA_IMMEDIATE_DREG 1, DATA 2 {NFTA_DATA_VALUE 1, NFTA_DATA_VERDICT 2 {CODE 1, CHAIN 2}}.
func (e *exprs) immediate(n nested) step {
	dreg, data := n.be32(1), parseNested(n[2])
	if v, ok := data[2]; ok {
		return e.verdict(parseNested(v))
	}
	e.regs[dreg] = operand{raw: append([]byte(nil), data[1]...), isRaw: true}
	v := knownValue(data[1])
	return func(m *machine) effect {
		m.load(dreg, v)
		return goOn
	}
}

func (e *exprs) verdict(n nested) step {
	v, text, xt := e.verdictOf(n)
	e.say(text, xt)
	if v.kind == verdictJump || v.kind == verdictGoto {
		e.rule.to = v.chain
	}
	return func(*machine) effect { return ends(v) }
}

// verdictOf parses a verdict: NF_DROP 0, NF_ACCEPT 1, NF_QUEUE 3, NFT_CONTINUE -1, BREAK -2, JUMP -3, GOTO -4, RETURN -5.
func (e *exprs) verdictOf(n nested) (v verdict, text, xt string) {
	name := n.text(2)
	switch code := int32(n.be32(1)); code { //nolint:gosec // a signed field
	case 0, 3:
		return verdict{kind: verdictDrop}, "drop", "-j DROP"
	case 1:
		return verdict{kind: verdictAccept}, "accept", "-j ACCEPT"
	case -1, -2:
		return verdict{kind: verdictContinue}, "continue", ""
	case -3:
		return verdict{kind: verdictJump, chain: e.tables.chain(chainKey{e.key.tableKey, name})}, "jump " + name, "-j " + name
	case -4:
		return verdict{kind: verdictGoto, chain: e.tables.chain(chainKey{e.key.tableKey, name})}, "goto " + name, "-g " + name
	case -5:
		return verdict{kind: verdictReturn}, "return", "-j RETURN"
	default:
		return verdict{kind: verdictUnknown}, fmt.Sprintf("(verdict %d)", code), fmt.Sprintf("-j (verdict %d)", code)
	}
}

// NFTA_BITWISE_SREG 1, DREG 2, LEN 3, MASK 4, XOR 5, OP 6: (sreg & mask) ^ xor; other operations are not followed.
func (e *exprs) bitwise(n nested) step {
	sreg, dreg, size, op := n.be32(1), n.be32(2), int(n.be32(3)), n.be32(6)
	mask, xor := append([]byte(nil), n.value(4)...), append([]byte(nil), n.value(5)...)
	o := e.regs[sreg]
	o.mask, o.xor = mask, xor
	if o.kind == kindMark && o.text == "meta mark" && len(mask) == 4 {
		e.rule.asks |= wordOf(knownValue(mask)).bits
	}
	e.regs[dreg] = o
	known := op == 0 && len(mask) == size && len(xor) == size && size <= 64
	return func(m *machine) effect {
		if !known {
			m.load(dreg, unknownValue(max(0, min(size, 64))))
			return goOn
		}
		v := append(value(nil), m.read(sreg, size)...)
		for i := range v {
			v[i].known |= ^mask[i]
			v[i].bits = (v[i].bits&mask[i] ^ xor[i]) & v[i].known
		}
		m.load(dreg, v)
		return goOn
	}
}

var cmpNames = [...]string{"==", "!=", "<", "<=", ">", ">="}

// NFTA_CMP_SREG 1, OP 2, DATA 3; EQ 0, NEQ 1, LT 2, LTE 3, GT 4, GTE 5.
func (e *exprs) cmp(n nested) step {
	sreg, op, data := n.be32(1), n.be32(2), append([]byte(nil), n.value(3)...)
	if int(op) >= len(cmpNames) || len(data) == 0 {
		e.say("(cmp)", "")
		return unclear
	}
	e.compare(e.regs[sreg], op, data)
	return matchStep(func(m *machine) truth {
		v := m.read(sreg, len(data))
		switch op {
		case 0:
			return v.equal(data)
		case 1:
			return v.equal(data).not()
		case 2:
			return v.atLeast(data).not()
		case 3:
			return v.atMost(data)
		case 4:
			return v.atMost(data).not()
		default:
			return v.atLeast(data)
		}
	})
}

// NFTA_RANGE_SREG 1, OP 2, FROM_DATA 3, TO_DATA 4.
func (e *exprs) rangeOf(n nested) step {
	sreg, op := n.be32(1), n.be32(2)
	from, to := append([]byte(nil), n.value(3)...), append([]byte(nil), n.value(4)...)
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
	return matchStep(func(m *machine) truth { return invertIf(m.read(sreg, len(from)).between(from, to), op == 1) })
}

// NFTA_MASQ_FLAGS 1, REG_PROTO_MIN 2, REG_PROTO_MAX 3.
func (e *exprs) masquerade(n nested) step {
	r := natRange{masquerade: true, flags: n.be32(1)}
	low, high := e.regs[n.be32(2)], e.regs[n.be32(3)]
	text := "masquerade"
	if n.has(2) {
		r.flags |= rangeProtoSpec
		r.ports(low, high, n.has(3))
		text += fmt.Sprintf(" to :%d-%d", r.minPort, r.maxPort)
	}
	e.say(text+nftFlags(r), "-j MASQUERADE"+randomText(r))
	return natStep(r)
}

func (n *natRange) ports(low, high operand, both bool) {
	if !low.isRaw || len(low.raw) < 2 || both && (!high.isRaw || len(high.raw) < 2) {
		n.unsure = true
		return
	}
	n.minPort = uint16(low.raw[0])<<8 | uint16(low.raw[1])
	n.maxPort = n.minPort
	if both {
		n.maxPort = uint16(high.raw[0])<<8 | uint16(high.raw[1])
	}
}

func nftFlags(n natRange) string {
	var words []string
	if n.flags&rangeRandom != 0 {
		words = append(words, "random")
	}
	if n.flags&rangeFullyRandom != 0 {
		words = append(words, "fully-random")
	}
	if n.flags&rangePersistent != 0 {
		words = append(words, "persistent")
	}
	if len(words) == 0 {
		return ""
	}
	return " " + strings.Join(words, ",")
}

// NFTA_NAT_TYPE 1 (0 source), FAMILY 2, REG_ADDR_MIN 3, ADDR_MAX 4, PROTO_MIN 5, PROTO_MAX 6, FLAGS 7.
func (e *exprs) nat(n nested) step {
	if n.be32(1) != 0 {
		e.say("dnat", "-j DNAT")
		return func(*machine) effect { return ends(verdict{kind: verdictAccept}) }
	}
	r := natRange{flags: n.be32(7)}
	text := "snat to "
	if n.has(3) {
		r.flags |= rangeMapIPs
		low, high := e.regs[n.be32(3)], e.regs[n.be32(3)]
		if n.has(4) {
			high = e.regs[n.be32(4)]
		}
		r.min, r.max = low.addr(e.key.family), high.addr(e.key.family)
		r.unsure = !r.min.IsValid() || !r.max.IsValid()
		text += low.value(kindAddr)
		if r.max != r.min {
			text += "-" + high.value(kindAddr)
		}
	}
	if n.has(5) {
		r.flags |= rangeProtoSpec
		r.ports(e.regs[n.be32(5)], e.regs[n.be32(6)], n.has(6))
		text += fmt.Sprintf(":%d-%d", r.minPort, r.maxPort)
	}
	e.say(text+nftFlags(r), "-j SNAT --to-source "+strings.TrimPrefix(text, "snat to ")+randomText(r))
	return natStep(r)
}

func (o operand) addr(uint8) netip.Addr {
	if !o.isRaw {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(o.raw)
	return a
}

// xtables: NFTA_MATCH_NAME 1, REV 2, INFO 3; NFTA_TARGET_* alike. The info is as in a legacy table.
func (e *exprs) xtables(what string, n nested) step {
	e.compat = true
	name, revision, data := n.text(1), uint8(n.be32(2)), append([]byte(nil), n[3]...) //nolint:gosec // revisions fit a byte
	var part xtPart
	if what == "match" {
		part = parseMatch(name, revision, data, e.key.family == nfIPv6, e.tables.ipSets)
	} else {
		part = parseTarget(name, revision, data, e.key.family == nfIPv6)
	}
	e.rule.asks |= part.asks
	e.say(fmt.Sprintf("xt %s %q", what, name), part.text)
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

// value writes an operand that is assigned.
func (o operand) value(kind operandKind) string {
	switch {
	case o.isRaw:
		return constant(kind, o.raw)
	case o.mask != nil && o.kind == kindMark:
		mask, xor := wordOf(knownValue(o.mask)).bits, wordOf(knownValue(o.xor)).bits
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

// constant writes a value as nft does.
func constant(kind operandKind, b []byte) string {
	switch kind {
	case kindMark:
		if len(b) == 4 {
			return fmt.Sprintf("0x%08x", wordOf(knownValue(b)).bits)
		}
	case kindPort:
		if len(b) == 2 {
			return strconv.Itoa(int(b[0])<<8 | int(b[1]))
		}
	case kindAddr:
		if a, ok := netip.AddrFromSlice(b); ok {
			return a.String()
		}
	case kindName:
		s := cString(b)
		if len(s) == len(b) { // without its final zero it is compared as a prefix
			s += "*"
		}
		return strconv.Quote(s)
	case kindProto:
		if len(b) == 1 {
			return protoText(b[0])
		}
	case kindFamily:
		if len(b) == 1 {
			return map[byte]string{nfIPv4: "ipv4", nfIPv6: "ipv6"}[b[0]]
		}
	case kindAddrType:
		if len(b) == 4 {
			if n := wordOf(knownValue(b)).bits; int(n) < len(addrTypes) {
				return strings.ToLower(addrTypes[n])
			}
		}
	case kindState:
		if len(b) == 4 {
			return stateNames(wordOf(knownValue(b)).bits, "invalid", "established", "related", "new", "", "", "untracked")
		}
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
	n := 4
	if ipv6 {
		n = 16
	}
	if mask == nil {
		for range data {
			mask = append(mask, 0xff)
		}
	}
	addr := append(append([]byte(nil), data...), make([]byte, max(0, n-len(data)))...)
	full := append(append([]byte(nil), mask...), make([]byte, max(0, n-len(mask)))...)
	return addrText(addr, full)
}
