package natrules

import "slices"

// later judges the packets that follow the first one of a connection, which left as f. They do not see the nat table
// again, so nothing clears the mark that they get on the way: from the connection, where it was saved (CONNMARK
// --restore-mark, meta mark set ct mark), or from a rule that marks every packet. While the outer flow of the first
// packet lives that changes nothing; after a pause longer than nf_conntrack_udp_timeout the next packet makes a new
// one. o is what happens to the outer packet of the first: what is worse is returned with worse.
func (c *crossing) later(s *Sender, family string, f exit, other bool, o outcome) (after outcome, e Outer, worse bool) {
	if f.kind != verdictNAT && f.kind != verdictAccept {
		return o, e, false
	}
	bases := slices.DeleteFunc(at(c.judge.bases(family, other), s.hooks()...), func(b *base) bool { return b.nat })
	w := c.newWalk(f.packet)
	w.later = true
	for _, g := range w.through(bases, state{ctmark: f.state.ctmark}, 0) {
		if g.kind == verdictDrop || g.kind == verdictUnknown || g.state.mark.masked(0, c.mark) == yes {
			continue
		}
		out := c.crossed(g.packet, g.state.mark)
		if changeRank(out.change) <= changeRank(o.change) {
			continue
		}
		o, worse = out, true
		o.packet = f.packet
		if g.doubt != nil {
			o.change = UnsureChange
		}
		e = Outer{Change: o.change, Why: WhyRestored, Rule: quoteOf(RoleRestores, g.state.restored)}
		if o.change == UnsureChange {
			e.Why, e.Rule = WhyUnread, quoteOf(RoleNotUnderstood, orRule(g.doubt, out.rule))
		}
	}
	return o, e, worse
}
