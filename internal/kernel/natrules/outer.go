package natrules

import (
	"cmp"
	"slices"
)

// outcome is what NAT does to one packet, over all the ways it may go.
type outcome struct {
	change Change
	rule   *rule   // that decides it, or that leaves it open
	state  state   // of the deciding way
	nat    bool    // a rule rewrites the source, be it to what it was
	packet *packet // the kind it happens to
	told   Outer   // why
}

// changeRank orders changes by how bad they are.
func changeRank(c Change) int {
	return slices.Index([]Change{NoChange, UnsureChange, PortChange, AddrChange}, c)
}

func worse(a, b Change) bool { return changeRank(a) > changeRank(b) }

// summarise joins fates. Ways on which the packet is dropped do not count: it is not on the wire.
func summarise(fates []exit) outcome {
	var all []outcome
	for _, f := range fates {
		o := outcome{change: NoChange, state: f.state, packet: f.packet}
		switch f.kind {
		case verdictDrop:
			continue
		case verdictNAT:
			o.change, o.rule, o.nat = f.nat.change(f.packet), f.rule, true
		case verdictUnknown:
			o.change, o.rule = UnsureChange, f.rule
		}
		all = append(all, o)
	}
	return worstOf(all, fates)
}

// worstOf is the worst of what happens to packets that meet fates. What may happen to one and the same packet in two
// ways is not known.
func worstOf(all []outcome, fates []exit) outcome {
	worst := outcome{change: NoChange}
	for i, o := range all {
		if slices.ContainsFunc(all, func(p outcome) bool { return p.change != o.change && p.packet.overlaps(o.packet) }) {
			if o.change != UnsureChange || o.rule == nil {
				o.rule = firstDoubt(fates)
			}
			o.change, o.nat = UnsureChange, false
		}
		if i == 0 || worse(o.change, worst.change) {
			worst = o
		}
	}
	return worst
}

// firstDoubt is the rule that leaves open what happens to a packet.
func firstDoubt(fates []exit) *rule {
	var unknown, doubt *rule
	for _, f := range fates {
		if f.kind == verdictUnknown {
			unknown = cmp.Or(unknown, f.rule)
		}
		doubt = cmp.Or(doubt, f.doubt)
	}
	return cmp.Or(unknown, doubt)
}

// outer judges the outer packets of one port and family: what every sender's inner packets make of them, marked for
// masquerade and not. The worst counts.
func (j *judge) outer(port *Port, ipv6 bool) Outer {
	o := j.newCrossing(port, ipv6).outer()
	j.inOtherOrder(ipv6, func() {
		p := j.newCrossing(port, ipv6).outer()
		if p.Change == o.Change {
			return
		}
		if worse(p.Change, o.Change) {
			o, p = p, o
		}
		if !j.old {
			o.Other = p.Rule
		}
		o.Change, o.Why = UnsureChange, WhyOrder
	})
	o.Family, o.Port, o.Local = family(ipv6), port.Port, port.Local
	if o.Change == NoChange && o.Why != WhyNotrack || o.Change == "" {
		for _, r := range j.rulesets {
			// Rules of the other family matter only where they are what takes the mark away.
			if r.err != nil && (r.ipv6 == ipv6 || o.Why == WhyCleared) {
				o.Change, o.Why, o.Rule, o.Senders = UnsureChange, WhyUnread, nil, nil
			}
		}
	}
	return o
}

// crossing judges the outer packets of a port: what happens to those with a mark is looked at once.
type crossing struct {
	*judge
	port     *Port
	ipv6     bool // of the outer packets
	outgoing []*base
	known    map[uint32]outcome // by mark, of packets of which no rule asks whose they are
	masq     []*rule            // the rules that masquerade the mark
	clears   bool               // one of them takes it away
	marks    map[bool]bool      // there is one for IPv4, and for IPv6
}

func (j *judge) newCrossing(port *Port, ipv6 bool) *crossing {
	c := &crossing{
		judge: j, port: port, ipv6: ipv6, outgoing: j.bases(ipv6, outgoing...),
		known: map[uint32]outcome{}, marks: map[bool]bool{},
	}
	for _, r := range j.rulesets {
		if g := j.treatments[r]; g.masquerade != nil {
			c.masq, c.clears = append(c.masq, g.masquerade), c.clears || g.cleared != nil
			c.marks[r.ipv6] = true
		}
	}
	return c
}

func (c *crossing) outer() Outer {
	var worst Outer
	var fates []SenderFate
	classes := map[string]int{} // where the fate of a class of senders stands
	for _, ipv6 := range []bool{false, true} {
		marked := c.marks[ipv6]
		if ipv6 != c.ipv6 && c.port.Senders == nil && !marked {
			continue
		}
		marks := []uint32{c.mark, 0}
		if ipv6 != c.ipv6 && !marked {
			marks = marks[1:] // nothing marks packets of that family
		}
		for _, mark := range marks {
			for _, s := range c.senders(c.port, ipv6, mark) {
				o, name := c.of(&s, ipv6, mark)
				if worst.Change == "" || worse(o.Change, worst.Change) {
					worst = o
				}
				class, fate := s.describe(ipv6), SenderFate{Sender: name, Change: o.Change, Rule: o.Rule}
				if i, ok := classes[class]; !ok {
					classes[class] = len(fates)
					fates = append(fates, fate)
				} else if worse(fate.Change, fates[i].Change) {
					fates[i] = fate
				}
			}
		}
	}
	if worst.Change == "" { // nobody sends: what else leaves by this port carries no mark
		worst, _ = c.of(&Sender{}, c.ipv6, 0)
		fates = nil
	}
	worst.Senders = fates
	return worst
}

// of judges what one sender's packets make of the outer ones.
func (c *crossing) of(s *Sender, ipv6 bool, mark uint32) (Outer, string) {
	name, all := s.describe(ipv6), c.innerPacket(c.port, s, ipv6)
	fates := c.leaving(s, all, mark)
	var outcomes []outcome
	for _, f := range fates {
		o := c.later(s, f, c.outside(f, mark))
		o.packet = f.packet
		outcomes = append(outcomes, o)
	}
	if len(outcomes) == 0 { // all of its packets are dropped
		return Outer{Change: NoChange, Why: WhyNoRule}, name
	}
	worst := worstOf(outcomes, fates)
	for _, o := range outcomes {
		if o.packet == worst.packet && o.change == worst.change {
			if !worse(PortChange, worst.change) {
				name = s.narrowed(all, o.packet)
			}
			return o.told, name
		}
	}
	return Outer{Change: UnsureChange, Why: WhyUnread, Rule: worst.rule.quote(RoleNotUnderstood)}, name
}

// outside judges the outer packet of an inner one that has left.
func (c *crossing) outside(f exit, mark uint32) outcome {
	plain, o := c.crossed(f.packet, word{}), outcome{}
	if f.kind != verdictUnknown {
		o = c.crossed(f.packet, f.state.mark)
	} else if o = c.crossed(f.packet, word{bits: mark}); o.change == plain.change { // with the mark or without
		o = plain
	} else {
		o = outcome{change: UnsureChange, rule: f.rule}
	}
	o.told = c.explain(o, plain, f)
	return o
}

// crossed is what happens to the outer packet of an inner one that leaves with a mark, over all ways out.
func (c *crossing) crossed(in *packet, mark word) outcome {
	if o, ok := c.known[mark.bits]; ok && mark.unknown == 0 {
		return o
	}
	worst, asked := outcome{}, false
	for _, way := range c.ways(c.port, c.ipv6, mark.bits) {
		p := outerPacket(c.port, &way, c.ipv6)
		p.socket, p.fields[dimUID], p.fields[dimGID] = in.socket, in.fields[dimUID], in.fields[dimGID]
		w := c.newWalk(p)
		o := summarise(w.through(c.outgoing, state{mark: mark}, 0))
		if worst.change == "" || worse(o.change, worst.change) {
			worst = o
		}
		asked = asked || w.asked
	}
	if !asked && mark.unknown == 0 {
		c.known[mark.bits] = worst
	}
	return worst
}

// later judges the packets that follow the first one of a connection, which left as f. They do not see the nat table
// again, so nothing clears the mark that they get on the way: from the connection, where it was saved (CONNMARK
// --restore-mark, meta mark set ct mark), or from a rule that marks every packet. While the outer flow of the first
// packet lives that changes nothing; after a pause longer than nf_conntrack_udp_timeout the next packet makes a new
// one. o is what happens to the outer packet of the first: it is returned unless that of a later one is worse.
func (c *crossing) later(s *Sender, f exit, o outcome) outcome {
	if f.kind != verdictNAT && f.kind != verdictAccept {
		return o
	}
	w := c.newWalk(f.packet)
	w.later = true
	bases := slices.DeleteFunc(c.bases(f.packet.ipv6, s.hooks()...), func(b *base) bool { return b.nat })
	for _, g := range w.through(bases, state{ctmark: f.state.ctmark}, 0) {
		if g.kind == verdictDrop || g.kind == verdictUnknown || g.state.mark.masked(0, c.mark) == yes {
			continue
		}
		out := c.crossed(g.packet, g.state.mark)
		if !worse(out.change, o.change) {
			continue
		}
		o = out
		if g.doubt != nil {
			o.change = UnsureChange
		}
		o.told = Outer{Change: o.change, Why: WhyRestored, Rule: g.state.restored.quote(RoleRestores)}
		if o.change == UnsureChange {
			o.told.Why, o.told.Rule = WhyUnread, cmp.Or(g.doubt, out.rule).quote(RoleNotUnderstood)
		}
	}
	return o
}

// explain says why an outer packet has its fate. plain is that of one without a mark, f what became of the inner
// packet.
func (c *crossing) explain(o, plain outcome, f exit) Outer {
	lost := f.kind != verdictUnknown && f.state.mark.masked(0, c.mark) == yes
	s, nated := o.state, o.change == PortChange || o.change == AddrChange
	because := func(why Why, role string, r *rule) Outer {
		return Outer{Change: o.change, Why: why, Rule: r.quote(role)}
	}
	switch {
	case o.change == UnsureChange:
		return because(WhyUnread, RoleNotUnderstood, o.rule)
	case nated && o.rule == plain.rule:
		return because(WhyBypassed, RoleBypass, o.rule)
	case nated && f.kind == verdictNAT && !slices.Contains(c.masq, f.rule):
		return because(WhyBypassed, RoleBypass, f.rule)
	case nated && f.kind == verdictAccept && f.left != nil && c.clears:
		return because(WhyBypassed, RoleBypass, f.left)
	case nated:
		return because(WhyKept, RoleMasquerade, o.rule)
	case s.untracked != nil:
		return because(WhyNotrack, RoleNotrack, s.untracked)
	case lost && f.state.resetEarly, !lost && s.cleared != nil && s.resetEarly:
		return because(WhyMarkReset, RoleMarkReset, cmp.Or(f.state.cleared, s.cleared))
	case lost && f.state.cleared != nil:
		return because(WhyCleared, RoleClears, f.state.cleared)
	case o.nat:
		return because(WhyNotRandom, RoleMasquerade, o.rule)
	case s.cleared != nil:
		return because(WhyCleared, RoleClears, s.cleared)
	default:
		return because(WhyNoRule, "", nil)
	}
}
