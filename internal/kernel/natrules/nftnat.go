package natrules

import "net/netip"

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
	if n.has(3) {
		r.flags |= rangeMapIPs
		r.min, _ = netip.AddrFromSlice(e.regs[n.be32(3)].raw)
		if r.max = r.min; n.has(4) {
			r.max, _ = netip.AddrFromSlice(e.regs[n.be32(4)].raw)
		}
		r.unsure = !r.min.IsValid() || !r.max.IsValid()
	}
	e.ports(&r, n, 5)
	return e.source(r)
}

func (e *exprs) source(r natRange) step {
	e.say(r.native(), r.saved())
	return natStep(r)
}

// ports reads the registers that the attribute low and the one behind it name.
func (e *exprs) ports(r *natRange, n nested, low uint16) {
	if !n.has(low) {
		return
	}
	r.flags |= rangeProtoSpec
	first, last := e.regs[n.be32(low)].raw, e.regs[n.be32(low+1)].raw
	if !n.has(low + 1) {
		last = first
	}
	if len(first) < 2 || len(last) < 2 {
		r.unsure = true
		return
	}
	r.minPort, r.maxPort = uint16(numberOf(first[:2]).low), uint16(numberOf(last[:2]).low) //nolint:gosec // two bytes
}
