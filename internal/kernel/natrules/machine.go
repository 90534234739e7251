package natrules

// machine runs the steps of one rule.
type machine struct {
	packet   *packet
	state    state
	hook     int
	priority int32
	notrack  bool   // the rule takes the packet out of connection tracking
	split    *split // the first question whose answer depends on the packet
	asked    bool   // a match asked for the socket
	later    bool   // the packet is not the first of its connection
}

// split is a set that holds a field of some packets of a kind, and not of the others.
type split struct {
	dim dim
	in  ranges
}

// state is what rules change on the packet's way. It is comparable: walks that meet in one state become one.
type state struct {
	mark, ctmark word
	untracked    *rule // the rule that took the packet out of connection tracking
	cleared      *rule // the last rule that took the masquerade mark away
	resetEarly   bool  // it did so outside a nat chain
	restored     *rule // the last rule that gave the packet the masquerade mark
}

// is says whether a field is one of a set. Where that depends on the packet, the walk splits the packet and asks again.
func (m *machine) is(d dim, in ranges) truth {
	d = m.seen(d)
	f := &m.packet.fields[d]
	if !f.known {
		return maybe
	}
	t := f.set.within(in)
	if t == maybe && m.split == nil {
		m.split = &split{d, in}
	}
	return t
}

// seen is the field that a packet has at this place: an inner one has the destination that it was sent to until nat
// rewrites it.
func (m *machine) seen(d dim) dim {
	if m.packet.outer || m.hook != hookPrerouting && m.hook != hookOutput || m.priority > prioNATDst {
		return d
	}
	return d.beforeNAT()
}

// beforeNAT is the field of what an inner packet was sent to.
func (d dim) beforeNAT() dim {
	switch d {
	case dimDst:
		return dimService
	case dimDport:
		return dimServicePort
	}
	return d
}

// masked asks whether a field has the bits of want where mask has ones.
func masked(d dim, want, mask []byte) question {
	if !isPrefix(mask) {
		return unsure
	}
	return in(d, ranges{maskSpan(want, mask)})
}

// srcLocal says whether the source is an address of this node, or, onOut, of the interface that the packet leaves by.
func (m *machine) srcLocal(onOut bool) truth {
	p := m.packet
	switch {
	case onOut && p.ownOut.known:
		return m.is(dimSrc, p.ownOut.set)
	case onOut:
		return maybe
	case p.outer || p.socket == yes: // what a node sends, it sends from an own address
		return yes
	case p.own.known:
		return m.is(dimSrc, p.own.set)
	default:
		return maybe
	}
}

// early reports whether the packet has no way out yet, or not the final one.
func (m *machine) early() bool { return m.seen(dimDst) != dimDst || m.hook == hookPrerouting }

// out is the interface that the packet leaves by: one of these; nil: not known.
func (m *machine) out() []Interface {
	if m.early() {
		return nil
	}
	return m.packet.out
}

// in is the interface that it came in by: the zero Interface where there is none.
func (m *machine) in() []Interface {
	p := m.packet
	switch {
	case m.hook == hookOutput:
		return []Interface{{}}
	case m.hook == hookPostrouting && !p.outer && p.socket != yes && p.in != nil:
		return append([]Interface{{}}, p.in...) // before 5.7 there is none at POSTROUTING
	default:
		return p.in
	}
}
