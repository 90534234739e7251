package natrules

import (
	"slices"

	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/kernel/label"
)

// defaultMasqueradeBit is kube-proxy's default iptables.masqueradeBit (0x4000).
const defaultMasqueradeBit = 14

// ruleset is what was read of one family's rules in one backend.
type ruleset struct {
	family, backend string
	status          label.Status
	err             error
	bases           []*base
	postrouting     *chain // KUBE-POSTROUTING, or kube-proxy's own chain in its nftables mode; nil when there is none
}

func (r *ruleset) readable() bool { return r.status == statusOK || r.status == statusNone }

// Words of Ruleset.
const (
	statusOK           = label.OK
	statusNone         = label.None
	statusNotPermitted = label.NotPermitted
	statusUnsupported  = label.Unsupported
	statusFailed       = label.Failed
	familyIPv4         = label.IPv4
	familyIPv6         = label.IPv6
)

// judgeRules says what the rules do to the packets of in.
func judgeRules(in Input, rulesets []*ruleset) State {
	j := &judge{
		in: in, rulesets: rulesets, mark: masqueradeMark(in, rulesets),
		old: kernelversion.Before(in.Release, 4, 18), noFully: !kernelversion.HasFullyRandom(in.Release),
	}
	for _, r := range rulesets {
		for _, b := range r.bases {
			b.alone = j.old
		}
	}
	var s State
	treatments := map[*ruleset]treatment{}
	for _, r := range rulesets {
		g := j.treatment(r)
		treatments[r] = g
		s.Rulesets = append(s.Rulesets, j.publish(r, g))
	}
	for i := range in.Ports {
		port := &in.Ports[i]
		if port.IPv4 {
			s.Outer = append(s.Outer, j.outer(port, familyIPv4, treatments))
		}
		if port.IPv6 {
			s.Outer = append(s.Outer, j.outer(port, familyIPv6, treatments))
		}
	}
	return s
}

type judge struct {
	in       Input
	rulesets []*ruleset
	mark     uint32
	old      bool // each nat chain has a hook of its own
	noFully  bool // NAT does not know fully random ports, and ignores the flag
	steps    int  // rules run by all walks
}

// masqueradeMark is the mark that stands for "masquerade me": as given, as kube-proxy's own chain asks for it, or its
// default.
func masqueradeMark(in Input, rulesets []*ruleset) uint32 {
	if in.MasqueradeBit != nil && *in.MasqueradeBit >= 0 && *in.MasqueradeBit < 32 {
		return 1 << *in.MasqueradeBit
	}
	for _, r := range rulesets {
		if r.postrouting == nil || r.postrouting.read() != nil {
			continue
		}
		for _, rule := range r.postrouting.rules {
			if bits := rule.asks; bits != 0 && bits&(bits-1) == 0 {
				return bits
			}
		}
	}
	return 1 << defaultMasqueradeBit
}

// bases are the base chains of one family over all backends, in a packet's order.
func (j *judge) bases(family string, other bool) []*base {
	return firstNAT(inOrder(j.unordered(family), other))
}

func (j *judge) unordered(family string) []*base {
	var all []*base
	for _, r := range j.rulesets {
		if r.family == family {
			all = append(all, r.bases...)
		}
	}
	return all
}

func postrouting(bases []*base) []*base { return at(bases, hookPostrouting) }

// outgoing are the base chains of what this node sends itself.
func outgoing(bases []*base) []*base { return at(bases, hookOutput, hookPostrouting) }

func at(bases []*base, hooks ...int) []*base {
	return slices.DeleteFunc(slices.Clone(bases), func(b *base) bool { return !slices.Contains(hooks, b.hook) })
}

// ports are the VXLAN ports of family. Without any, the others serve: their devices carry inner packets of both
// families. And without those, one of which nothing is known, so that the mark can be judged all the same.
func (j *judge) ports(family string) []*Port {
	var ports []*Port
	for i := range j.in.Ports {
		if p := &j.in.Ports[i]; family == familyIPv4 && p.IPv4 || family == familyIPv6 && p.IPv6 {
			ports = append(ports, p)
		}
	}
	if len(ports) > 0 {
		return ports
	}
	for i := range j.in.Ports {
		ports = append(ports, &j.in.Ports[i])
	}
	if len(ports) == 0 {
		ports = append(ports, &Port{})
	}
	return ports
}

// treatment is how one ruleset treats the masquerade mark.
type treatment struct {
	mark        MarkState
	masquerade  *rule // masquerades packets because of the mark
	randomFully bool
	cleared     *rule // takes the mark away before
	bypassing   *rule
	unclear     *rule
	order       bool // unclear is so only because the order of base chains is not known
	randomKnown bool
}

// treatment judges one ruleset: every rule that would rewrite a marked packet's source is listed in the packet's order,
// and the first of them that an unmarked packet never meets is the one that masquerades the mark. The worst sender
// counts.
func (j *judge) treatment(r *ruleset) treatment {
	if !r.readable() {
		return treatment{mark: MarkUnknown}
	}
	worst := treatment{mark: MarkAbsent}
	for _, port := range j.ports(r.family) {
		g := j.treatmentFor(r, port, false)
		if ambiguous(j.unordered(r.family)) {
			if h := j.treatmentFor(r, port, true); h.mark != g.mark {
				g.mark, g.unclear, g.order = MarkUnknown, orRule(g.bypassing, h.bypassing), true
			}
		}
		if worst.mark == MarkAbsent || markRank(g.mark) > markRank(worst.mark) {
			worst = g
		}
	}
	return worst
}

func markRank(g MarkState) int {
	return slices.Index([]MarkState{MarkAbsent, MarkCleared, MarkUnknown, MarkBypassed, MarkKept}, g)
}

func (j *judge) treatmentFor(r *ruleset, port *Port, other bool) treatment {
	six := r.family == familyIPv6
	all := j.bases(r.family, other)
	senders := j.senders(port, six, j.mark)
	if len(senders) == 0 { // nothing of this family enters the tunnel; the form of the rules is judged all the same
		senders = []Sender{{}}
	}
	worst := treatment{mark: MarkAbsent}
	for i := range senders {
		g := j.masquerading(r, j.innerPacket(port, &senders[i], six), all)
		if g.mark == MarkCleared {
			j.bypasses(&g, port, &senders[i], all, six)
		}
		if i == 0 || markRank(g.mark) > markRank(worst.mark) {
			worst = g
		}
	}
	if worst.mark != MarkCleared && (worst.mark != MarkUnknown || worst.cleared == nil) {
		return worst
	}
	for _, way := range j.ways(port, six, j.mark) {
		if b := j.bypassesOuter(port, &way, all, six, worst.masquerade); b != nil {
			worst.mark, worst.bypassing = MarkBypassed, b
		}
	}
	return worst
}

// masquerading finds the rule that masquerades the mark. The form of the rules is the backend's own affair; what runs
// before them may be the other's.
func (j *judge) masquerading(r *ruleset, p *packet, all []*base) treatment {
	own := slices.DeleteFunc(postrouting(all), func(b *base) bool { return !slices.Contains(r.bases, b) })
	marked, unmarked := j.passing(p, own, j.mark), j.passing(p, own, 0)
	at := slices.IndexFunc(marked, func(p passed) bool { return !p.nat.unsure && !meets(unmarked, p.rule) })
	if at < 0 {
		if i := slices.IndexFunc(marked, func(p passed) bool { return p.nat.unsure }); i >= 0 { // it may be the one
			return treatment{mark: MarkUnknown, unclear: marked[i].rule}
		}
		return treatment{mark: MarkAbsent}
	}
	first := marked[at]
	g := treatment{mark: MarkKept, masquerade: first.rule, randomFully: first.nat.randomFully(), randomKnown: true}
	if first.state.mark.masked(0, j.mark) == yes {
		g.mark, g.cleared = MarkCleared, first.state.cleared
	}
	return g
}

// bypasses looks for a rule that takes marked packets of a sender past the rule that clears the mark.
func (j *judge) bypasses(g *treatment, port *Port, s *Sender, all []*base, six bool) {
	unmarked := j.passing(j.innerPacket(port, s, six), postrouting(all), 0)
	fates := j.leaving(port, s, all, six, j.mark)
	for i, f := range fates {
		switch kept := f.state.mark.masked(0, j.mark); {
		case f.kind == verdictUnknown:
			g.unclear = orRule(g.unclear, orRule(f.rule, firstDoubt(fates)))
		case kept == yes || f.rule == g.masquerade:
		case slices.ContainsFunc(fates, func(o exit) bool {
			return o.state.mark.masked(0, j.mark) != kept && o.packet.overlaps(fates[i].packet)
		}):
			g.unclear = orRule(g.unclear, firstDoubt(fates))
		case f.kind == verdictNAT && meets(unmarked, f.rule):
			g.bypassing = orRule(g.bypassing, f.rule)
		case f.kind == verdictAccept:
			g.bypassing = orRule(g.bypassing, f.left)
		}
	}
	switch {
	case g.bypassing != nil:
		g.mark = MarkBypassed
	case g.unclear != nil:
		g.mark = MarkUnknown
	}
}

// bypassesOuter finds a rule that changes the source of an outer packet, marked or not, before masquerade would.
func (j *judge) bypassesOuter(port *Port, way *Way, bases []*base, six bool, masquerade *rule) *rule {
	outer := outerPacket(port, way, six)
	unmarked := j.passing(outer, bases, 0)
	for _, p := range j.passing(outer, bases, j.mark) {
		if p.rule == masquerade {
			break
		}
		if p.doubt == nil && !p.nat.unsure && p.nat.change(p.packet) != NoChange && meets(unmarked, p.rule) {
			return p.rule
		}
	}
	return nil
}

func meets(all []passed, r *rule) bool {
	return slices.ContainsFunc(all, func(p passed) bool { return p.rule == r })
}

// passing lists the rules that would rewrite p's source if no earlier one did.
func (j *judge) passing(p *packet, bases []*base, mark uint32) []passed {
	w := j.newWalk(p)
	w.skipNAT = true
	w.through(outgoing(bases), state{mark: word{bits: mark}}, 0)
	return w.passed
}

func (j *judge) publish(r *ruleset, g treatment) Ruleset {
	p := Ruleset{Family: r.family, Backend: r.backend, Status: r.status, MarkState: g.mark}
	if r.err != nil {
		p.Error = r.err.Error()
	}
	if r.status != statusOK {
		return p
	}
	if g.masquerade != nil {
		p.Mark = j.mark
	}
	if g.randomKnown {
		p.RandomFully = &g.randomFully
	}
	quote := func(role string, r *rule) {
		if r != nil {
			p.Quotes = append(p.Quotes, *r.quote(role))
		}
	}
	quote(RoleClears, g.cleared)
	quote(RoleMasquerade, g.masquerade)
	if g.mark == MarkBypassed {
		quote(RoleBypass, g.bypassing)
	}
	if g.mark == MarkUnknown {
		role := RoleNotUnderstood
		if g.order {
			role = RoleOrder
		}
		quote(role, g.unclear)
	}
	return p
}

// Roles of a quoted rule.
const (
	RoleClears        = "clears"
	RoleMasquerade    = "masquerade"
	RoleBypass        = "bypass"
	RoleMarkReset     = "mark_reset"
	RoleNotrack       = "notrack"
	RoleRestores      = "restores"
	RoleOrder         = "order_unknown"
	RoleNotUnderstood = "not_understood"
)

func (r *rule) quote(role string) *Rule {
	return &Rule{Role: role, Table: r.chain.tableName(), Chain: r.chain.name, Text: r.text}
}

// tableName is the table as a person writes it: "nat", or "ip kube-proxy" in nftables.
func (c *chain) tableName() string {
	if c.backend == NFT && !compatTable(c) {
		return c.family + " " + c.table
	}
	return c.table
}
