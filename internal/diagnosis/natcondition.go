package diagnosis

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// natCondition: would NAT change the outer packet's source?
type natCondition struct {
	condition
	rules   natrules.Outer // what it is concluded from
	unread  bool           // nobody knows, so it is taken to hold
	flows   bool           // NATed flows decide, whatever the rules say
	against bool           // and the rules say otherwise
	left    bool           // NATed flows are there that no packet can meet
}

// doubtFor is how long rules that NATed flows contradicted are not believed.
const doubtFor = time.Hour

func (j *judge) natCondition(v verdict) natCondition {
	c, flows := j.ruleCondition(v), v.natted
	// NATed flows contradict the rules if one was made since these hold; where the port is not tracked, if a packet has
	// met one.
	contradicted := c.holds == no && !flows.born.Before(c.rules.Since)
	if c.rules.Why == natrules.WhyNotrack {
		contradicted = c.holds == no && !flows.used.IsZero() && !flows.used.Before(c.rules.Since)
	}
	switch {
	case flows.flows > 0 && c.rules.Why == natrules.WhyNotrack && !contradicted:
		c.left = true
	case flows.flows > 0:
		if c.against = c.holds == no; c.against && c.rules.Rule != nil {
			c.evidence.Name = "rule that should prevent it"
		}
		c.holds, c.flows, c.unread = yes, true, false
	case contradicted && j.now.Time.Sub(flows.seen) < doubtFor:
		c.holds = unsure
		c.why = fmt.Sprintf("the rules say that NAT does not touch its packets (%s), but %s ago some were NATed, and the "+
			"rules were the same before: what NATed them is not known", c.why, j.now.Time.Sub(flows.seen).Round(time.Second))
	}
	return c
}

// ruleCondition is what the rules alone say.
func (j *judge) ruleCondition(v verdict) natCondition {
	o, ok := j.ports.at(v.key).outer(v.device.Local)
	conclude := func(holds truth, why string, e Evidence) natCondition {
		return natCondition{condition: condition{holds, why, e}, rules: o}
	}
	unread := j.unread[v.key.family]
	switch {
	case !ok && j.now.Results[readRules].Status == node.None:
		o.Why = natrules.WhyNoRule
		return conclude(no, "there are no NAT rules", Evidence{"NAT rules", "none"})
	case !ok && j.noConntrack():
		o.Why = natrules.WhyNoRule
		return conclude(no, "connection tracking is not loaded, so nothing can be NATed", Evidence{"conntrack", "none"})
	case o.Change == natrules.NoChange && (unread == "" || o.Why == natrules.WhyNotrack):
		return conclude(no, keepsClear(o.Why), ruleEvidence(o))
	case changesSource(o.Change):
		return conclude(yes, natWhy(o)+whose(o.Senders), ruleEvidence(o))
	case o.Why == natrules.WhyOrder && o.Other != nil:
		return conclude(unsure, chainOrder(o), ruleEvidence(o))
	case o.Why == natrules.WhyOrder:
		return conclude(unsure, orderUnknown, Evidence{"NAT rules", orderUnknown})
	case ok && unread == "" && o.Rule != nil:
		unread = "a rule could not be understood: " + o.Rule.Text
	case !ok || unread == "":
		unread = j.because(readRules)
	}
	o.Why, o.Change = natrules.WhyUnread, natrules.UnsureChange
	c := conclude(yes, "the NAT rules could not be judged ("+unread+")", Evidence{"NAT rules", "not judged: " + unread})
	c.unread = true
	return c
}

func changesSource(c natrules.Change) bool {
	return c == natrules.PortChange || c == natrules.AddrChange
}

// chainOrder says what depends on the order of two chains.
func chainOrder(o natrules.Outer) string {
	return fmt.Sprintf("two chains have one hook and priority, so that they run in the order of their registration, the "+
		"later one first, and that order is not known: %s decides if its chain runs first, %s if not",
		quoteChain(o.Rule), quoteChain(o.Other))
}

// quoteChain quotes a rule with its chain.
func quoteChain(r *natrules.Rule) string {
	if r == nil {
		return "no rule"
	}
	return r.Table + " " + r.Chain + ": " + r.Text
}

const orderUnknown = "before Linux 4.18 the first NAT chain decides for all, and nothing tells which of two chains " +
	"of one priority that is"

// unreadRulesets says by family which backend's rules were refused or failed.
func unreadRulesets(all []natrules.Ruleset) map[string]string {
	unread := map[string]string{}
	for _, r := range all {
		if unread[r.Family] == "" && (r.Status == node.NotPermitted || r.Status == node.Failed) {
			unread[r.Family] = r.Backend + " rules: " + cmp.Or(r.Error, string(r.Status))
		}
	}
	return unread
}

// noConntrack reports whether the node is known to have no connection tracking. A /proc with parts hidden looks alike,
// so the counters must have been read and must not know it either.
func (j *judge) noConntrack() bool {
	h := j.now.Host
	return j.now.Results[readConntrack].Status == node.None && h.UDP4.InDatagrams != nil && h.ConntrackInvalid == nil
}

var clearBy = map[natrules.Why]string{
	natrules.WhyCleared:   "the masquerade mark is cleared before MASQUERADE",
	natrules.WhyMarkReset: "the mark is cleared for the VXLAN port on the way out",
	natrules.WhyNotrack:   "the VXLAN port is not tracked, so NAT cannot touch it",
	natrules.WhyNotRandom: "MASQUERADE keeps the source port",
	natrules.WhyNoRule:    "no NAT rule matches the outer packets",
}

func keepsClear(why natrules.Why) string {
	return cmp.Or(clearBy[why], "the NAT rules leave the outer packets alone")
}

func natWhy(o natrules.Outer) string {
	what := "(source port)"
	if o.Change == natrules.AddrChange {
		what = "(source address)"
	}
	switch o.Why {
	case natrules.WhyBypassed:
		return "a rule that runs before the mark is cleared, or that needs no mark, has the outer packets NATed " + what
	case natrules.WhyRestored:
		return "a rule gives the mark to later packets of a connection, which do not see the nat table again: after a " +
			"pause longer than nf_conntrack_udp_timeout (30 s unless set) the next packet makes a new outer flow, which is " +
			"NATed " + what + " and stalls the connection; new connections work"
	case natrules.WhyKept:
		return "the mark set for the inner packet makes the outer one be masqueraded " + what
	default:
		return "the rules NAT the outer packets " + what
	}
}

// whose names the senders whose connections stall, where others' do not.
func whose(senders []natrules.SenderFate) string {
	var stall, work []string
	for _, s := range senders {
		if s.Change == natrules.NoChange {
			work = append(work, s.Sender)
		} else {
			stall = append(stall, s.Sender)
		}
	}
	switch {
	case len(stall) == 0:
		return ""
	case len(senders) == 1 && strings.HasPrefix(stall[0], "the node"): // nobody else sends
		return ""
	case len(work) == 0:
		return ": connections of " + list(stall) + " stall"
	default:
		return ": connections of " + list(stall) + " stall, those of " + list(work) + " do not"
	}
}

func ruleEvidence(o natrules.Outer) Evidence {
	if o.Rule == nil {
		return Evidence{"NAT rules", fmt.Sprintf("%s (%s)", o.Change, o.Why)}
	}
	return Evidence{"rule", quote(o.Rule)}
}

// quote shows a rule with its table, in the words of iptables-save or nft.
func quote(r *natrules.Rule) string {
	if r.Table == "" {
		return r.Text
	}
	return r.Table + ": " + r.Text
}
