package collectors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/internal/probe"
)

// DefaultNATRulesMinInterval suits NATRulesConfig.MinInterval.
const DefaultNATRulesMinInterval = time.Minute

// generationShare is the part of MinInterval that must have passed before a change of the nf_tables generation makes
// the rules be read anew. kube-proxy changes it with every service that comes or goes, at worst once a second: with the
// default interval the rules are then read every 10 s, and a change that stands alone is seen by the first observation
// 10 s after the last reading.
const generationShare = 6

// NATRulesReader reads and judges the NAT rules of a network namespace.
type NATRulesReader interface {
	// Read judges the rules for the packets of in. State holds what could be read even when there is an error.
	Read(ctx context.Context, in natrules.Input) (natrules.State, error)
	// Generation changes with every change of nf_tables rules; ok is false when it cannot be had.
	Generation(ctx context.Context) (id uint32, ok bool)
}

// NATRulesConfig says where and how often the NAT rules are read. The zero value reads this network namespace with the
// defaults.
type NATRulesConfig struct {
	Proc          string           // where procfs is mounted; empty: /proc
	ProcNet       string           // the namespace's /proc/net; empty: Proc/net
	MinInterval   time.Duration    // 0: every Observe reads
	MasqueradeBit *int             // kube-proxy's masquerade bit; nil: find it from the rules
	Reader        NATRulesReader   // nil: natrules.NewReader
	OpenRoute     nl.Opener        // for addresses, routes and forwarding databases; nil: nl.Route
	Now           func() time.Time // nil: time.Now
}

// NATRules judges what the NAT rules do to outer VXLAN packets. The rules are read at most once in MinInterval, or,
// when the nf_tables generation has changed, once in a sixth of it; in between the last judgment is served.
type NATRules struct {
	Metrics
	conf NATRulesConfig

	mark atomic.Uint32

	// Observe is never called twice at the same time, so these need no lock.
	read       time.Time
	generation uint32
	ports      []node.Port // what was known then
	devices    []node.Device
	state      natrules.State
	err        error
}

// NewNATRules makes the collector. Nothing is opened before the first Observe.
func NewNATRules(c NATRulesConfig) *NATRules {
	if c.Reader == nil {
		c.Reader = natrules.NewReader(natrules.Config{Proc: c.Proc, ProcNet: c.ProcNet})
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &NATRules{Metrics: natRulesMetrics(), conf: c}
}

// Observe implements Collector. An error of one backend leaves the judgment of the other in place. Without the
// addresses, routes or forwarding databases the rules are judged all the same; those that ask for them cannot be.
func (c *NATRules) Observe(ctx context.Context, known *node.Node) (Fill, error) {
	if generation, ok := c.conf.Reader.Generation(ctx); c.due(known, generation, ok) {
		in, around, inErr := c.inputOf(ctx, known)
		var state natrules.State
		state, c.err = c.conf.Reader.Read(ctx, in)
		around.Close()
		state.Outer = sinceWhen(state.Outer, c.state.Outer, c.conf.Now())
		c.state = state
		c.mark.Store(probe.Mark(&node.Node{NATRules: state}))
		if c.err = errors.Join(inErr, c.err); c.err != nil {
			c.err = fmt.Errorf("natrules: %w", c.err)
		}
		c.read, c.generation, c.ports, c.devices = c.conf.Now(), generation, known.Ports, slices.Clone(known.Devices)
		if ctx.Err() != nil {
			c.read = time.Time{} // cut short: the next one tries again
		}
	}
	state := c.state
	return func(n *node.Node) { n.NATRules = state }, c.err
}

// Mark is the masquerade mark that the rules had when they were read last; 0 when none tells. It may be called at any
// time.
func (c *NATRules) Mark() uint32 { return c.mark.Load() }

// sinceWhen gives the judgments of a reading the time since when they hold, by those of the reading before.
func sinceWhen(now, before []natrules.Outer, at time.Time) []natrules.Outer {
	for i := range now {
		o := &now[i]
		for _, b := range before {
			if b.Family != o.Family || b.Port != o.Port || b.Local != o.Local {
				continue
			}
			if o.Since = b.Since; o.Change != b.Change || o.Why != b.Why {
				o.Since = at
			}
		}
	}
	return now
}

// due reports whether the rules are to be read again: after MinInterval, at once for other devices, sooner for other
// rules.
func (c *NATRules) due(known *node.Node, generation uint32, ok bool) bool {
	age := c.conf.Now().Sub(c.read)
	return c.read.IsZero() || age < 0 || age >= c.conf.MinInterval ||
		ok && generation != c.generation && age >= c.conf.MinInterval/generationShare ||
		!slices.Equal(known.Ports, c.ports) || !slices.EqualFunc(known.Devices, c.devices, sameForRules)
}

// sameForRules compares what the judgment of a port's rules depends on.
func sameForRules(a, b node.Device) bool {
	return a.Port == b.Port && a.Index == b.Index && a.Local == b.Local && a.Underlay == b.Underlay
}

// inputOf says what is known of the packets of every VXLAN port. What cannot be read stays unknown, and the error says
// why. The ways of packets can be asked for until around is closed.
func (c *NATRules) inputOf(
	ctx context.Context, known *node.Node,
) (in natrules.Input, around *natrules.Surroundings, err error) {
	around, err = c.surroundings(ctx, known)
	in = natrules.Input{MasqueradeBit: c.conf.MasqueradeBit}
	for _, p := range known.Ports {
		for _, tunnels := range tunnelsOn(p.Port, known.Devices) {
			if len(tunnels) == 0 && known.Devices != nil {
				in.Ports = append(in.Ports, around.PortElsewhere(p.Port, p.IPv4, p.IPv6))
				continue
			}
			ipv4, ipv6, local := p.IPv4, p.IPv6, netip.Addr{}
			if len(tunnels) > 0 && tunnels[0].Local.IsValid() {
				local = tunnels[0].Local.Unmap()
				ipv4, ipv6 = local.Is4(), local.Is6()
			}
			port := around.PortOf(p.Port, ipv4, ipv6, tunnels)
			port.Local = local
			in.Ports = append(in.Ports, port)
		}
	}
	return in, around, err
}

// tunnelsOn are the devices on a port, those that send from one address together: by it their packets are told apart.
// One that was moved here sends from another namespace. Without any there is one group, of none.
func tunnelsOn(port uint16, devices []node.Device) [][]natrules.Tunnel {
	var groups [][]natrules.Tunnel
	for i := range devices {
		d := &devices[i]
		if d.Port != port || d.LinkNetns != nil {
			continue
		}
		at := slices.IndexFunc(groups, func(g []natrules.Tunnel) bool { return g[0].Local == d.Local })
		if at < 0 {
			at, groups = len(groups), append(groups, nil)
		}
		groups[at] = append(groups[at], natrules.Tunnel{
			Name: d.Name, Index: d.Index, Local: d.Local, Link: d.UnderlayIndex, Underlay: d.Underlay, External: d.IsExternal(),
		})
	}
	if groups == nil {
		return [][]natrules.Tunnel{nil}
	}
	return groups
}

// surroundings are those of the devices; nothing is read where it is not known which there are. Half of the time is
// left for the rules.
func (c *NATRules) surroundings(ctx context.Context, known *node.Node) (*natrules.Surroundings, error) {
	if known.Devices == nil {
		return &natrules.Surroundings{}, nil
	}
	half := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		half, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	around, err := natrules.ReadSurroundings(half, c.conf.OpenRoute)
	if err == nil {
		around.ReadSysctls(cmp.Or(c.conf.Proc, "/proc"))
		err = around.Ask(ctx, c.conf.OpenRoute)
	}
	if err != nil {
		return &natrules.Surroundings{}, fmt.Errorf("what rules may ask for is not known: %w", err)
	}
	return around, nil
}

// natRulesMetrics cover both families, whatever the underlay's: the rules act on the inner packet, and an IPv6 underlay
// carries IPv4 too.
func natRulesMetrics() Metrics {
	each := func(samples func(r *natrules.Ruleset, emit Emit)) func(*node.Node, Emit) {
		return func(n *node.Node, emit Emit) {
			for i := range n.NATRules.Rulesets {
				if r := &n.NATRules.Rulesets[i]; r.Status == node.OK {
					samples(r, emit)
				}
			}
		}
	}
	return NewMetrics("natrules", Metric{
		Name: "nat_masquerade_mark_state", Labels: []string{
			"family", "backend=legacy,nft",
			"state=cleared,kept,bypassed,absent",
		},
		Help: "Whether the rules clear kube-proxy's masquerade mark (KUBE-POSTROUTING: nf_tables, or ip_tables " +
			"IPT_SO_GET_ENTRIES) before a packet that carries it is masqueraded. 1 for the state that holds; all 0 when it " +
			"cannot be told.",
		Notes: "`cleared`: cleared before MASQUERADE. `kept`: the old form. `bypassed`: cleared, but a MASQUERADE or SNAT " +
			"runs ahead. `absent`: no rule masquerades a mark. All 0: a rule could not be understood. Both families, whatever " +
			"the underlay's: the rules act on the *inner* packet. A backend without NAT rules has no series.",
		Samples: each(func(r *natrules.Ruleset, emit Emit) {
			for _, s := range []natrules.MarkState{
				natrules.MarkCleared, natrules.MarkKept, natrules.MarkBypassed,
				natrules.MarkAbsent,
			} {
				emit.Bool(r.MarkState == s, r.Family, r.Backend, string(s))
			}
		}),
	}, Metric{
		Name: "nat_random_fully", Labels: []string{"family", "backend=legacy,nft"},
		Help: "Whether the rule that masquerades the mark has NF_NAT_RANGE_PROTO_RANDOM_FULLY, which changes the source " +
			"port of every flow.",
		Notes:   "From the kernel's own rule: an old iptables-save does not print the flag.",
		Samples: each(func(r *natrules.Ruleset, emit Emit) { emit.Setting(r.RandomFully, r.Family, r.Backend) }),
	})
}
