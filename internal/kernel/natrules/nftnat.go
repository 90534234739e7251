package natrules

import (
	"fmt"
	"net/netip"
	"strings"
)

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
