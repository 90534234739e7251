package natrules

import (
	"slices"
)

// outcome is what NAT does to one packet, over all the ways it may go.
type outcome struct {
	change Change
	rule   *rule   // that decides it, or that leaves it open
	state  state   // of the deciding way
	nat    bool    // a rule rewrites the source, be it to what it was
	packet *packet // the kind it happens to
}

// changeRank orders changes by how bad they are.
func changeRank(c Change) int {
	return slices.Index([]Change{NoChange, UnsureChange, PortChange, AddrChange}, c)
}

// summarise joins fates. Ways on which the packet is dropped do not count: it is not on the wire. The worst that
// happens to some packets counts; what may happen to one and the same packet in two ways is not known.
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
	return worstOf(all, func() *rule { return firstDoubt(fates) })
}

// worstOf is the worst of what happens to packets. doubt names the rule that leaves open which of two things happens to
// one.
func worstOf(all []outcome, doubt func() *rule) outcome {
	worst := outcome{change: NoChange}
	for i, o := range all {
		for _, p := range all {
			if p.change != o.change && p.packet.overlaps(o.packet) {
				if o.change != UnsureChange || o.rule == nil {
					o.rule = doubt()
				}
				o.change, o.nat = UnsureChange, false
				break
			}
		}
		if i == 0 || changeRank(o.change) > changeRank(worst.change) {
			worst = o
		}
	}
	return worst
}

func firstDoubt(fates []exit) *rule {
	for _, f := range fates {
		if f.kind == verdictUnknown && f.rule != nil {
			return f.rule
		}
	}
	for _, f := range fates {
		if f.doubt != nil {
			return f.doubt
		}
	}
	return nil
}

// outer judges the outer packets of one port and family: what every sender's inner packets make of them, marked for
// masquerade and not. The worst counts.
func (j *judge) outer(port *Port, family string, treatments map[*ruleset]treatment) Outer {
	o := j.outerOrdered(port, family, treatments, false)
	if ambiguous(j.unordered(family)) {
		if p := j.outerOrdered(port, family, treatments, true); p.Change != o.Change {
			if changeRank(p.Change) > changeRank(o.Change) {
				o, p = p, o
			}
			if !j.old {
				o.Other = p.Rule
			}
			o.Change, o.Why = UnsureChange, WhyOrder
		}
	}
	o.Family, o.Port, o.Local = family, port.Port, port.Local
	if o.Change == NoChange && o.Why != WhyNotrack || o.Change == "" {
		for _, r := range j.rulesets {
			// Rules of the other family matter only where they are what takes the mark away.
			if !r.readable() && (r.family == family || o.Why == WhyCleared) {
				o.Change, o.Why, o.Rule, o.Senders = UnsureChange, WhyUnread, nil, nil
			}
		}
	}
	return o
}

// crossing judges the outer packets of a port: what happens to those with a mark is looked at once.
type crossing struct {
	*judge
	port   *Port
	family string
	bases  []*base
	known  map[uint32]outcome // by mark, of packets of which no rule asks whose they are
	masq   []*rule            // the rules that masquerade the mark
	clears bool               // one of them takes it away
}

func (j *judge) outerOrdered(port *Port, family string, treatments map[*ruleset]treatment, other bool) Outer {
	c := &crossing{judge: j, port: port, family: family, bases: j.bases(family, other), known: map[uint32]outcome{}}
	var knows []string // families whose rules masquerade the mark
	for _, r := range j.rulesets {
		if g := treatments[r]; g.masquerade != nil {
			c.masq, c.clears = append(c.masq, g.masquerade), c.clears || g.cleared != nil
			knows = append(knows, r.family)
		}
	}
	var worst Outer
	var fates []SenderFate
	classes := map[string]int{} // where the fate of a class of senders stands
	for _, f := range []string{familyIPv4, familyIPv6} {
		if f != family && port.Senders == nil && !slices.Contains(knows, f) {
			continue
		}
		marks := []uint32{j.mark, 0}
		if f != family && !slices.Contains(knows, f) {
			marks = marks[1:] // nothing marks packets of that family
		}
		for _, mark := range marks {
			for _, s := range j.senders(port, f == familyIPv6, mark) {
				o, name := c.of(&s, f, mark, other)
				if worst.Change == "" || changeRank(o.Change) > changeRank(worst.Change) {
					worst = o
				}
				class, fate := s.describe(f == familyIPv6), SenderFate{Sender: name, Change: o.Change, Rule: o.Rule}
				if i, ok := classes[class]; !ok {
					classes[class] = len(fates)
					fates = append(fates, fate)
				} else if changeRank(fate.Change) > changeRank(fates[i].Change) {
					fates[i] = fate
				}
			}
		}
	}
	if worst.Change == "" { // nobody sends: what else leaves by this port carries no mark
		worst, _ = c.of(&Sender{}, family, 0, other)
		fates = nil
	}
	worst.Senders = fates
	return worst
}

// of judges what one sender's packets make of the outer ones.
func (c *crossing) of(s *Sender, family string, mark uint32, other bool) (Outer, string) {
	six := family == familyIPv6
	fates := c.leaving(c.port, s, c.judge.bases(family, other), six, mark)
	var all []outcome
	var outers []Outer
	for _, f := range fates {
		o, e := c.outside(f, mark)
		o.packet = f.packet
		if after, l, worse := c.later(s, family, f, other, o); worse {
			o, e = after, l
		}
		all, outers = append(all, o), append(outers, e)
	}
	worst := worstOf(all, func() *rule { return firstDoubt(fates) })
	name := s.describe(six)
	for i, o := range all {
		if o.packet == worst.packet && o.change == worst.change {
			if changeRank(worst.change) >= changeRank(PortChange) {
				name = s.narrowed(c.innerPacket(c.port, s, six), o.packet)
			}
			return outers[i], name
		}
	}
	if len(all) == 0 { // all of its packets are dropped
		return Outer{Change: NoChange, Why: WhyNoRule}, name
	}
	return Outer{Change: UnsureChange, Why: WhyUnread, Rule: quoteOf(RoleNotUnderstood, worst.rule)}, name
}

// outside judges the outer packet of an inner one that has left.
func (c *crossing) outside(f exit, mark uint32) (outcome, Outer) {
	plain := c.crossed(f.packet, word{})
	if f.kind == verdictUnknown { // with the mark or without
		o := plain
		if marked := c.crossed(f.packet, word{bits: mark}); marked.change != plain.change {
			o = outcome{change: UnsureChange, rule: f.rule}
		}
		return o, c.explain(o, plain, f)
	}
	o := c.crossed(f.packet, f.state.mark)
	return o, c.explain(o, plain, f)
}

// crossed is what happens to the outer packet of an inner one that leaves with a mark, over all ways out.
func (c *crossing) crossed(in *packet, mark word) outcome {
	if o, ok := c.known[mark.bits]; ok && mark.unknown == 0 {
		return o
	}
	worst, asked := outcome{}, false
	for _, way := range c.ways(c.port, c.family == familyIPv6, mark.bits) {
		p := outerPacket(c.port, &way, c.family == familyIPv6)
		p.socket, p.fields[dimUID], p.fields[dimGID] = in.socket, in.fields[dimUID], in.fields[dimGID]
		w := c.newWalk(p)
		o := summarise(w.through(outgoing(c.bases), state{mark: mark}, 0))
		if worst.change == "" || changeRank(o.change) > changeRank(worst.change) {
			worst = o
		}
		asked = asked || w.asked
	}
	if !asked && mark.unknown == 0 {
		c.known[mark.bits] = worst
	}
	return worst
}

// explain says why an outer packet has its fate. plain is that of one without a mark, f what became of the inner
// packet.
func (c *crossing) explain(o, plain outcome, f exit) Outer {
	lost := f.kind != verdictUnknown && f.state.mark.masked(0, c.mark) == yes
	s, nated := o.state, o.change == PortChange || o.change == AddrChange
	because := func(why Why, role string, r *rule) Outer {
		return Outer{Change: o.change, Why: why, Rule: quoteOf(role, r)}
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
		return because(WhyMarkReset, RoleMarkReset, orRule(f.state.cleared, s.cleared))
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

func orRule(a, b *rule) *rule {
	if a != nil {
		return a
	}
	return b
}

func quoteOf(role string, r *rule) *Rule {
	if r == nil {
		return nil
	}
	return r.quote(role)
}
