package natrules

import "cmp"

// Bounds of one walk. The kernel's own are 16 jumps (NFT_JUMP_STACK_SIZE) and, for legacy tables, one per user chain.
const (
	maxDepth  = 64
	maxSteps  = 300_000 // of all walks of one reading: rules run and ways out followed
	maxStates = 64
)

// path is one way a kind of packet can go, and the first rule that it may or may not have matched on it.
type path struct {
	state  state
	packet *packet
	doubt  *rule
	left   *rule // the rule by which it left a nat chain without being rewritten
}

// exit is one way out of a chain.
type exit struct {
	kind verdictKind // Return at the end of the chain, Accept, Drop, NAT or Unknown
	path
	rule *rule // that decided; nil at the end of the chain
	nat  natRange
}

type visit struct {
	chain *chain
	path  // without doubt, and what was left
}

// walk takes one kind of packet through chains. A rule that matches some of them splits it; one that may match is
// followed both ways.
type walk struct {
	packets  []*packet // the first, and the kinds that it was split into
	asked    bool      // a rule asked for the socket
	markBit  uint32
	hook     int
	priority int32
	nat      bool // in a nat chain
	later    bool // the packets are not the first of their connections
	skipNAT  bool // go on after a rule that rewrites the source, and keep it in passed
	passed   []exit
	memo     map[visit][]exit
	open     map[visit]bool
	steps    *int
	noFully  bool // the kernel ignores NF_NAT_RANGE_PROTO_RANDOM_FULLY
}

func (j *judge) newWalk(p *packet) *walk {
	return &walk{packets: []*packet{p}, markBit: j.mark, steps: &j.steps, noFully: j.noFully}
}

// intern gives the one packet of those that are alike, so that ways that meet can be told.
func (w *walk) intern(p *packet) *packet {
	for _, q := range w.packets {
		if p.equal(q) {
			return q
		}
	}
	w.packets = append(w.packets, p)
	return p
}

// enter starts a base chain.
func (w *walk) enter(b *base, from path) []exit {
	w.hook, w.priority, w.nat = b.hook, b.priority, b.nat
	w.memo, w.open = map[visit][]exit{}, map[visit]bool{}
	exits := w.run(b.chain, from, 0)
	for i, e := range exits {
		if e.kind != verdictReturn {
			continue
		}
		exits[i].kind = verdictAccept
		if b.drop {
			exits[i].kind = verdictDrop
		}
	}
	return exits
}

// run takes one path through a chain. Ways that meet in one state become one, so its cost is bounded by rules times
// states.
func (w *walk) run(c *chain, from path, depth int) []exit {
	at := visit{c, path{state: from.state, packet: from.packet}}
	exits, known := w.memo[at]
	if !known {
		if depth > maxDepth || w.open[at] || *w.steps > maxSteps || c.read() != nil {
			return []exit{{kind: verdictUnknown, path: from}}
		}
		w.open[at] = true
		exits = w.rules(c, at.path, depth)
		delete(w.open, at)
		w.memo[at] = exits
	}
	if from.doubt == nil {
		return exits
	}
	doubted := make([]exit, len(exits))
	for i, e := range exits {
		e.doubt = from.doubt
		doubted[i] = e
	}
	return doubted
}

func (c *chain) read() error {
	if !c.loaded {
		c.rules, c.err = c.load()
		c.loaded = true
	}
	return c.err
}

func (w *walk) rules(c *chain, from path, depth int) []exit {
	var exits exitSet
	live := []path{from}
	for _, r := range c.rules {
		var next pathSet
		for _, p := range live {
			if *w.steps++; *w.steps > maxSteps {
				return append(exits, exit{kind: verdictUnknown, path: p, rule: r})
			}
			w.rule(r, p, depth, &next, &exits)
		}
		next = w.joined(next)
		if len(next) > maxStates || len(exits) > 4*maxStates {
			return append(exits, exit{kind: verdictUnknown, path: live[0], rule: r})
		}
		if live = next; len(live) == 0 {
			return exits
		}
	}
	for _, p := range live {
		exits.add(exit{kind: verdictReturn, path: p})
	}
	return exits
}

// rule runs one rule on one path: ways that go on with the next rule into next, ways that leave the chain into exits.
func (w *walk) rule(r *rule, p path, depth int, next *pathSet, exits *exitSet) {
	m := machine{packet: p.packet, state: p.state, hook: w.hook, priority: w.priority, later: w.later}
	certain := yes
	ends := []verdict{{}}
	for _, s := range r.steps {
		e := s(&m)
		w.asked = w.asked || m.asked
		if certain = certain.and(e.match); certain == no {
			next.add(p)
			return
		}
		if e.ends != nil {
			ends = e.ends
			break
		}
	}
	if m.split != nil && w.hook != hookForward {
		w.divided(r, p, m.split, depth, next, exits)
		return
	}
	if certain == maybe && w.hook == hookForward && (ends[0].kind == verdictJump || ends[0].kind == verdictGoto) {
		next.add(p) // what some packets are refused by is not looked for
		return
	}
	if m.notrack {
		m.state.untracked = r
	}
	if certain == maybe && (ends[0].kind != verdictContinue || len(ends) > 1 || m.state != p.state) {
		next.add(p)
	}
	taken := path{state: m.state, packet: p.packet, doubt: p.doubt}
	if (certain == maybe || len(ends) > 1) && taken.doubt == nil {
		taken.doubt = r
	}
	if p.state.mark.masked(w.markBit, w.markBit) != no && m.state.mark.masked(0, w.markBit) == yes {
		taken.state.cleared, taken.state.resetEarly = r, !w.nat
	}
	if p.state.mark.masked(0, w.markBit) == yes && m.state.mark.masked(0, w.markBit) != yes {
		taken.state.restored = r
	}
	for _, v := range ends {
		w.conclude(r, v, taken, depth, next, exits)
	}
}

// divided runs the rule on those packets that a set holds, and on the others.
func (w *walk) divided(r *rule, p path, s *split, depth int, next *pathSet, exits *exitSet) {
	all := p.packet.fields[s.dim].set
	for _, part := range []ranges{all.and(s.in), all.without(s.in)} {
		if *w.steps++; *w.steps > maxSteps || len(*next) > 4*maxStates {
			exits.add(exit{kind: verdictUnknown, path: p, rule: r})
			return
		}
		w.rule(r, path{state: p.state, packet: w.intern(p.packet.with(s.dim, part)), doubt: p.doubt}, depth, next, exits)
	}
}

func (w *walk) conclude(r *rule, v verdict, p path, depth int, next *pathSet, exits *exitSet) {
	if w.noFully {
		v.nat.flags &^= rangeFullyRandom
	}
	jumps := v.kind == verdictJump || v.kind == verdictGoto
	switch {
	case v.kind == verdictContinue, jumps && v.chain != nil && serviceChain(v.chain):
		next.add(p)
	case jumps && v.chain != nil:
		for _, e := range w.run(v.chain, p, depth+1) {
			*w.steps++
			if e.rule == nil && e.kind == verdictUnknown {
				e.rule = r
			}
			if e.kind == verdictReturn && v.kind == verdictJump {
				next.add(e.path)
				continue
			}
			exits.add(e)
		}
	case jumps: // to a chain that is not there
		exits.add(exit{kind: verdictUnknown, path: p, rule: r})
	case w.skipNAT && (v.kind == verdictUnknown || v.kind == verdictNAT):
		v.nat.unsure = v.nat.unsure || v.kind == verdictUnknown
		w.passed = append(w.passed, exit{v.kind, p, r, v.nat})
		next.add(p)
	default:
		exits.add(exit{kind: v.kind, path: p, rule: r, nat: v.nat})
	}
}

type pathSet []path

func (s *pathSet) add(p path) {
	for _, q := range *s {
		if q.state == p.state && q.packet == p.packet {
			return
		}
	}
	*s = append(*s, p)
}

// joined makes one of ways in one state whose packets are parts of one kind.
func (w *walk) joined(s pathSet) pathSet {
	for i := 0; i < len(s); i++ {
		for k := i + 1; k < len(s); k++ {
			if s[i].state != s[k].state {
				continue
			}
			j := s[i].packet.join(s[k].packet)
			if j == nil {
				continue
			}
			s[i].packet, s[i].doubt = w.intern(j), cmp.Or(s[i].doubt, s[k].doubt)
			s = append(s[:k], s[k+1:]...)
			k = i // what did not fit before may fit now
		}
	}
	return s
}

type exitSet []exit

func (s *exitSet) add(e exit) {
	for _, f := range *s {
		if f.kind == e.kind && f.state == e.state && f.rule == e.rule && f.packet == e.packet {
			return
		}
	}
	*s = append(*s, e)
}
