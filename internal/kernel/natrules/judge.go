package natrules

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"

	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/kernel/label"
)

// defaultMasqueradeBit is kube-proxy's default iptables.masqueradeBit (0x4000).
const defaultMasqueradeBit = 14

// ruleset is what was read of one family's rules in one backend.
type ruleset struct {
	ipv6        bool
	backend     string
	err         error
	bases       []*base
	postrouting *chain // KUBE-POSTROUTING, or kube-proxy's own chain in its nftables mode; nil when there is none
}

func (r *ruleset) status() label.Status {
	switch {
	case errors.Is(r.err, fs.ErrPermission):
		return label.NotPermitted
	case errors.Is(r.err, errors.ErrUnsupported):
		return label.Unsupported
	case r.err != nil:
		return label.Failed
	case len(r.bases) == 0:
		return label.None
	default:
		return label.OK
	}
}

func family(ipv6 bool) string {
	if ipv6 {
		return label.IPv6
	}
	return label.IPv4
}

// judgeRules says what the rules do to the packets of in.
func judgeRules(in Input, rulesets []*ruleset) State {
	j := &judge{
		in: in, rulesets: rulesets, mark: masqueradeMark(in, rulesets), treatments: map[*ruleset]treatment{},
		old: kernelversion.Before(in.Release, 4, 18), noFully: !kernelversion.HasFullyRandom(in.Release),
	}
	for _, r := range rulesets {
		for _, b := range r.bases {
			b.alone = j.old
		}
	}
	var s State
	for _, r := range rulesets {
		j.treatments[r] = j.treatment(r)
		s.Rulesets = append(s.Rulesets, j.publish(r))
	}
	for i := range in.Ports {
		port := &in.Ports[i]
		for _, ipv6 := range []bool{false, true} {
			if port.has(ipv6) {
				s.Outer = append(s.Outer, j.outer(port, ipv6))
			}
		}
	}
	return s
}

// has reports whether the port's outer packets are of a family.
func (p *Port) has(ipv6 bool) bool { return ipv6 && p.IPv6 || !ipv6 && p.IPv4 }

type judge struct {
	in         Input
	rulesets   []*ruleset
	treatments map[*ruleset]treatment
	mark       uint32
	old        bool // each nat chain has a hook of its own
	noFully    bool // NAT does not know fully random ports, and ignores the flag
	other      bool // of base chains whose order is not known, the other one is looked at
	steps      int  // rules run by all walks
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

// bases are the base chains of one family over all backends, in a packet's order, at some hooks.
func (j *judge) bases(ipv6 bool, hooks ...int) []*base {
	return at(firstNAT(inOrder(j.unordered(ipv6), j.other)), hooks...)
}

func (j *judge) unordered(ipv6 bool) []*base {
	var all []*base
	for _, r := range j.rulesets {
		if r.ipv6 == ipv6 {
			all = append(all, r.bases...)
		}
	}
	return all
}

// outgoing are the hooks of what this node sends itself, forwarded those of what it forwards.
var (
	outgoing  = []int{hookOutput, hookPostrouting}
	forwarded = []int{hookPrerouting, hookForward, hookPostrouting}
)

func at(bases []*base, hooks ...int) []*base {
	return slices.DeleteFunc(slices.Clone(bases), func(b *base) bool { return !slices.Contains(hooks, b.hook) })
}

// inOtherOrder calls f where the order of base chains is not known, to look at the other one.
func (j *judge) inOtherOrder(ipv6 bool, f func()) {
	if ambiguous(j.unordered(ipv6)) {
		j.other = true
		f()
		j.other = false
	}
}

// ports are the VXLAN ports of family. Without any, the others serve: their devices carry inner packets of both
// families. And without those, one of which nothing is known, so that the mark can be judged all the same.
func (j *judge) ports(ipv6 bool) []Port {
	own := slices.DeleteFunc(slices.Clone(j.in.Ports), func(p Port) bool { return !p.has(ipv6) })
	switch {
	case len(own) > 0:
		return own
	case len(j.in.Ports) > 0:
		return j.in.Ports
	default:
		return []Port{{}}
	}
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
}

// treatment judges one ruleset: every rule that would rewrite a marked packet's source is listed in the packet's order,
// and the first of them that an unmarked packet never meets is the one that masquerades the mark. The worst sender
// counts.
func (j *judge) treatment(r *ruleset) treatment {
	if r.err != nil {
		return treatment{mark: MarkUnknown}
	}
	worst := treatment{mark: MarkAbsent}
	for _, port := range j.ports(r.ipv6) {
		g := j.treatmentFor(r, &port)
		j.inOtherOrder(r.ipv6, func() {
			if h := j.treatmentFor(r, &port); h.mark != g.mark {
				g.mark, g.unclear, g.order = MarkUnknown, cmp.Or(g.bypassing, h.bypassing), true
			}
		})
		if worst.mark == MarkAbsent || markRank(g.mark) > markRank(worst.mark) {
			worst = g
		}
	}
	return worst
}

func markRank(g MarkState) int {
	return slices.Index([]MarkState{MarkAbsent, MarkCleared, MarkUnknown, MarkBypassed, MarkKept}, g)
}

func (j *judge) treatmentFor(r *ruleset, port *Port) treatment {
	senders := j.senders(port, r.ipv6, j.mark)
	if len(senders) == 0 { // nothing of this family enters the tunnel; the form of the rules is judged all the same
		senders = []Sender{{}}
	}
	worst := treatment{mark: MarkAbsent}
	for i := range senders {
		p := j.innerPacket(port, &senders[i], r.ipv6)
		g := j.masquerading(r, p)
		if g.mark == MarkCleared {
			j.bypasses(&g, &senders[i], p)
		}
		if i == 0 || markRank(g.mark) > markRank(worst.mark) {
			worst = g
		}
	}
	if worst.mark != MarkCleared && (worst.mark != MarkUnknown || worst.cleared == nil) {
		return worst
	}
	for _, way := range j.ways(port, r.ipv6, j.mark) {
		if b := j.bypassesOuter(outerPacket(port, &way, r.ipv6), worst.masquerade); b != nil {
			worst.mark, worst.bypassing = MarkBypassed, b
		}
	}
	return worst
}

// masquerading finds the rule that masquerades the mark. The form of the rules is the backend's own affair; what runs
// before them may be the other's.
func (j *judge) masquerading(r *ruleset, p *packet) treatment {
	own := slices.DeleteFunc(j.bases(p.ipv6, hookPostrouting), func(b *base) bool { return !slices.Contains(r.bases, b) })
	marked, unmarked := j.passing(p, own, j.mark), j.passing(p, own, 0)
	at := slices.IndexFunc(marked, func(e exit) bool { return !e.nat.unsure && !meets(unmarked, e.rule) })
	if at < 0 {
		if i := slices.IndexFunc(marked, func(e exit) bool { return e.nat.unsure }); i >= 0 { // it may be the one
			return treatment{mark: MarkUnknown, unclear: marked[i].rule}
		}
		return treatment{mark: MarkAbsent}
	}
	first := marked[at]
	g := treatment{mark: MarkKept, masquerade: first.rule, randomFully: first.nat.flags&rangeFullyRandom != 0}
	if first.state.mark.masked(0, j.mark) == yes {
		g.mark, g.cleared = MarkCleared, first.state.cleared
	}
	return g
}

// bypasses looks for a rule that takes marked packets of a sender past the rule that clears the mark.
func (j *judge) bypasses(g *treatment, s *Sender, p *packet) {
	unmarked := j.passing(p, j.bases(p.ipv6, hookPostrouting), 0)
	fates := j.leaving(s, p, j.mark)
	for _, f := range fates {
		kept := f.state.mark.masked(0, j.mark)
		otherwise := func(o exit) bool { return o.state.mark.masked(0, j.mark) != kept && o.packet.overlaps(f.packet) }
		switch {
		case f.kind == verdictUnknown:
			g.unclear = cmp.Or(g.unclear, f.rule, firstDoubt(fates))
		case kept == yes || f.rule == g.masquerade:
		case slices.ContainsFunc(fates, otherwise):
			g.unclear = cmp.Or(g.unclear, firstDoubt(fates))
		case f.kind == verdictNAT && meets(unmarked, f.rule):
			g.bypassing = cmp.Or(g.bypassing, f.rule)
		case f.kind == verdictAccept:
			g.bypassing = cmp.Or(g.bypassing, f.left)
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
func (j *judge) bypassesOuter(outer *packet, masquerade *rule) *rule {
	bases := j.bases(outer.ipv6, outgoing...)
	unmarked := j.passing(outer, bases, 0)
	for _, e := range j.passing(outer, bases, j.mark) {
		if e.rule == masquerade {
			break
		}
		if e.doubt == nil && !e.nat.unsure && e.nat.change(e.packet) != NoChange && meets(unmarked, e.rule) {
			return e.rule
		}
	}
	return nil
}

func meets(all []exit, r *rule) bool {
	return slices.ContainsFunc(all, func(e exit) bool { return e.rule == r })
}

// passing lists the rules that would rewrite p's source if no earlier one did.
func (j *judge) passing(p *packet, bases []*base, mark uint32) []exit {
	w := j.newWalk(p)
	w.skipNAT = true
	w.through(bases, state{mark: word{bits: mark}}, 0)
	return w.passed
}

func (j *judge) publish(r *ruleset) Ruleset {
	g := j.treatments[r]
	p := Ruleset{Family: family(r.ipv6), Backend: r.backend, Status: r.status(), MarkState: g.mark}
	if r.err != nil {
		p.Error = r.err.Error()
	}
	if p.Status != label.OK {
		return p
	}
	quotes := []*Rule{g.cleared.quote(RoleClears), g.masquerade.quote(RoleMasquerade)}
	if g.masquerade != nil {
		p.Mark, p.RandomFully = j.mark, &g.randomFully
	}
	switch {
	case g.mark == MarkBypassed:
		quotes = append(quotes, g.bypassing.quote(RoleBypass))
	case g.mark == MarkUnknown && g.order:
		quotes = append(quotes, g.unclear.quote(RoleOrder))
	case g.mark == MarkUnknown:
		quotes = append(quotes, g.unclear.quote(RoleNotUnderstood))
	}
	for _, q := range quotes {
		if q != nil {
			p.Quotes = append(p.Quotes, *q)
		}
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

// quote is nil where there is no rule.
func (r *rule) quote(role string) *Rule {
	if r == nil {
		return nil
	}
	return &Rule{Role: role, Table: r.chain.tableName(), Chain: r.chain.name, Text: r.text}
}

// tableName is the table as a person writes it: "nat", or "ip kube-proxy" in nftables.
func (c *chain) tableName() string {
	if c.backend == NFT && !compatTable(c) {
		return c.family + " " + c.table
	}
	return c.table
}
