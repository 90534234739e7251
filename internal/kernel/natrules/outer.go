package natrules

import (
	"net/netip"
	"slices"
)

// outcome is what NAT does to one packet, over all the ways it may go.
type outcome struct {
	change Change
	rule   *rule // that decides it, or that leaves it open
	state  state // of the first way
	nat    bool  // a rule rewrites the source, be it to what it was
}

// changeRank orders changes by how bad they are.
func changeRank(c Change) int {
	return slices.Index([]Change{NoChange, UnsureChange, PortChange, AddrChange}, c)
}

// summarise joins fates. Ways on which the packet is dropped do not count: it is not on the wire.
func summarise(fates []exit, p *packet, port *Port) outcome {
	var o outcome
	for _, f := range fates {
		var g outcome
		switch f.kind {
		case exitDrop:
			continue
		case exitNAT:
			g = outcome{f.nat.change(p, port), f.rule, f.state, true}
		case exitUnknown:
			g = outcome{UnsureChange, f.rule, f.state, false}
		default:
			g = outcome{NoChange, nil, f.state, false}
		}
		switch {
		case o.change == "":
			o = g
		case o.change != g.change:
			o = outcome{UnsureChange, firstDoubt(fates), o.state, false}
		}
	}
	if o.change == "" {
		o.change = NoChange
	}
	return o
}

func firstDoubt(fates []exit) *rule {
	for _, f := range fates {
		if f.kind == exitUnknown && f.rule != nil {
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

// inner is what is left of the mark on the packets that enter the VXLAN devices.
type inner struct {
	kept      truth
	cleared   *rule // the rule that takes it away
	early     bool  // outside a nat chain
	bypassing *rule // the rule that ended the packet's way through nat before the guard
	doubt     *rule
}

// enclosed judges the mark of marked inner packets of one family once they are through POSTROUTING.
func (j *judgement) enclosed(port *Port, family string, masquerade []*rule, other bool) inner {
	p := innerPacket(port, family == familyIPv6)
	fates := j.newWalk(p, port).travel(postrouting(j.bases(family, other)), state{mark: word{bits: j.mark}})
	var in inner
	keep, lost := false, false
	for _, f := range fates {
		if f.kind == exitDrop {
			continue
		}
		if f.kind == exitUnknown {
			keep, lost = true, true
			in.doubt = f.rule
			continue
		}
		if f.state.mark.masked(0, j.mark) == yes {
			lost = true
			in.cleared, in.early = f.state.cleared, f.state.resetEarly
			continue
		}
		keep = true
		if f.kind == exitNAT && !slices.Contains(masquerade, f.rule) {
			in.bypassing = f.rule
		}
	}
	switch {
	case keep && lost:
		in.kept = maybe
		if in.doubt == nil {
			in.doubt = firstDoubt(fates)
		}
	case keep:
		in.kept = yes
	}
	return in
}

// outer judges the outer packets of one port and family: those that carry the mark, if an inner packet can leave with it, and
// those that do not. The worse of the two counts.
func (j *judgement) outer(port *Port, family string, guards map[*ruleset]guarding) Outer {
	o := j.outerOrdered(port, family, guards, false)
	if ambiguous(j.unordered(family)) {
		if p := j.outerOrdered(port, family, guards, true); p.Change != o.Change {
			if changeRank(p.Change) > changeRank(o.Change) {
				o.Rule = p.Rule
			}
			o.Change, o.Why = UnsureChange, WhyUnread
			if j.old {
				o.Why = WhyOrder
			}
		}
	}
	o.Family, o.Port = family, port.Port
	if o.Change == NoChange && o.Why != WhyNotrack || o.Change == "" {
		for _, r := range j.rulesets {
			// Rules of the other family matter only where it is their guard that keeps the mark away.
			if !r.readable() && (r.family == family || o.Why == WhyCleared) {
				o.Change, o.Why, o.Rule = UnsureChange, WhyUnread, nil
			}
		}
	}
	return o
}

func (j *judgement) outerOrdered(port *Port, family string, guards map[*ruleset]guarding, other bool) Outer {
	kept := j.marks(port, family, guards, other)
	p := outerPacket(port, family == familyIPv6)
	bases := j.bases(family, other)
	judge := func(mark uint32) outcome {
		return summarise(j.newWalk(p, port).travel(bases, state{mark: word{bits: mark}}), p, port)
	}
	plain := judge(0)
	if kept.kept == no {
		return explain(plain, plain, kept)
	}
	marked := judge(j.mark)
	if kept.kept == maybe && changeRank(marked.change) > changeRank(plain.change) {
		return Outer{Change: UnsureChange, Why: WhyUnread, Rule: quoteOf(RoleNotUnderstood, kept.doubt)}
	}
	return explain(marked, plain, kept)
}

// marks joins what is left of the mark over the families of inner packets: the underlay's own, and the other where that one's rules
// know the mark too.
func (j *judgement) marks(port *Port, family string, guards map[*ruleset]guarding, other bool) inner {
	var masquerade []*rule
	families := []string{family}
	for _, r := range j.rulesets {
		g := guards[r]
		if g.masquerade == nil {
			continue
		}
		masquerade = append(masquerade, g.masquerade)
		if !slices.Contains(families, r.family) && port.carries(r.family) {
			families = append(families, r.family)
		}
	}
	var worst inner
	for i, f := range families {
		if in := j.enclosed(port, f, masquerade, other); i == 0 || in.kept > worst.kept {
			worst = in
		}
	}
	return worst
}

// carries reports whether packets of family can be inside the tunnel: some are routed into it, or it is not known what is.
func (p *Port) carries(family string) bool {
	return len(p.Overlay) == 0 || slices.ContainsFunc(p.Overlay, func(o netip.Prefix) bool { return o.Addr().Is6() == (family == familyIPv6) })
}

// explain turns the outcomes of a marked and an unmarked outer packet into the worse of them, and says why.
func explain(marked, plain outcome, in inner) Outer {
	worse := marked
	if changeRank(plain.change) > changeRank(marked.change) {
		worse = plain
	}
	switch worse.change {
	case UnsureChange:
		return Outer{Change: UnsureChange, Why: WhyUnread, Rule: quoteOf(RoleNotUnderstood, worse.rule)}
	case PortChange, AddrChange:
		switch {
		case worse.rule == plain.rule:
			return Outer{Change: worse.change, Why: WhyBypassed, Rule: quoteOf(RoleBypass, worse.rule)}
		case in.bypassing != nil:
			return Outer{Change: worse.change, Why: WhyBypassed, Rule: quoteOf(RoleBypass, in.bypassing)}
		default:
			return Outer{Change: worse.change, Why: WhyKept, Rule: quoteOf(RoleMasquerade, worse.rule)}
		}
	}
	o := Outer{Change: NoChange}
	switch s := worse.state; {
	case s.untracked != nil:
		o.Why, o.Rule = WhyNotrack, quoteOf(RoleNotrack, s.untracked)
	case in.kept == no && in.early, in.kept != no && s.cleared != nil && s.resetEarly:
		o.Why, o.Rule = WhyMarkReset, quoteOf(RoleMarkReset, orRule(in.cleared, s.cleared))
	case in.kept == no:
		o.Why, o.Rule = WhyCleared, quoteOf(RoleClears, in.cleared)
	case worse.nat:
		o.Why, o.Rule = WhyNotRandom, quoteOf(RoleMasquerade, worse.rule)
	case s.cleared != nil:
		o.Why, o.Rule = WhyCleared, quoteOf(RoleClears, s.cleared)
	default:
		o.Why = WhyNoRule
	}
	return o
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
