package diagnosis

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// natCondition: would NAT change the outer packet's source?
type natCondition struct {
	condition
	rule    *natrules.Rule
	other   *natrules.Rule // of natrules.WhyOrder
	reason  natrules.Why
	change  natrules.Change
	unread  bool      // nobody knows, so it is taken to hold
	flows   bool      // NATed flows decide, whatever the rules say
	against bool      // and the rules say otherwise
	left    bool      // NATed flows are there that no packet can meet
	since   time.Time // see natrules.Outer
}

func (j *judge) natCondition(key portKey, local netip.Addr, flows natted) natCondition {
	c := j.ruleCondition(key, local)
	// NATed flows contradict the rules if one was made since these hold; where the port is not tracked, if a packet has
	// met one.
	contradicted := c.holds == no && !flows.born.Before(c.since)
	if c.reason == natrules.WhyNotrack {
		contradicted = c.holds == no && !flows.used.IsZero() && !flows.used.Before(c.since)
	}
	switch {
	case flows.flows > 0 && c.reason == natrules.WhyNotrack && !contradicted:
		c.left = true
	case flows.flows > 0:
		if c.against = c.holds == no; c.against && c.rule != nil {
			c.evidence.Name = "rule that should prevent it"
		}
		c.holds, c.flows, c.unread = yes, true, false
	case contradicted && j.now.Time.Sub(flows.seen) < doubtFor:
		c.holds = unsure
		c.why = fmt.Sprintf("the rules say that NAT does not touch its packets (%s), but %s ago some were NATed, and the "+
			"rules were the same before: "+
			"what NATed them is not known", c.why, j.now.Time.Sub(flows.seen).Round(time.Second))
	}
	return c
}

// doubtFor is how long rules that NATed flows contradicted are not believed.
const doubtFor = time.Hour

// outerOf is what the rules do to the outer packets that devices with a local address send to a port.
func (j *judge) outerOf(key portKey, local netip.Addr) (natrules.Outer, bool) {
	if o, ok := j.outer[sourceKey{key, local.Unmap()}]; ok {
		return o, true
	}
	o, ok := j.outer[sourceKey{portKey: key}]
	return o, ok
}

func (j *judge) ruleCondition(key portKey, local netip.Addr) natCondition {
	o, ok := j.outerOf(key, local)
	if !ok {
		if r, read := j.result(readRules); read && r.Status == node.None {
			return natCondition{
				condition: condition{no, "there are no NAT rules", Evidence{"NAT rules", "none"}},
				reason:    natrules.WhyNoRule, change: natrules.NoChange,
			}
		}
		if j.noConntrack() {
			why := "connection tracking is not loaded, so nothing can be NATed"
			return natCondition{
				condition: condition{no, why, Evidence{"conntrack", "none"}}, reason: natrules.WhyNoRule,
				change: natrules.NoChange,
			}
		}
		return unreadRules(j.because(readRules), nil)
	}
	switch o.Change {
	case natrules.NoChange:
		if why := j.unread[key.family]; why != "" && o.Why != natrules.WhyNotrack {
			return unreadRules(why, o.Rule)
		}
		return natCondition{
			condition: condition{no, keepsClear(o.Why), ruleEvidence(o)}, rule: o.Rule, reason: o.Why, change: o.Change,
			since: o.Since,
		}
	case natrules.PortChange, natrules.AddrChange:
		return natCondition{
			condition: condition{yes, natWhy(o) + whose(o.Senders), ruleEvidence(o)}, rule: o.Rule, reason: o.Why,
			change: o.Change,
		}
	default:
		if o.Why == natrules.WhyOrder && o.Other != nil {
			return natCondition{
				condition: condition{unsure, chainOrder(o), ruleEvidence(o)}, rule: o.Rule, other: o.Other,
				reason: o.Why, change: o.Change,
			}
		}
		if o.Why == natrules.WhyOrder {
			return natCondition{
				condition: condition{unsure, orderUnknown, Evidence{"NAT rules", orderUnknown}}, rule: o.Rule,
				reason: o.Why, change: o.Change,
			}
		}
		why := j.unread[key.family]
		switch {
		case why != "":
		case o.Rule != nil:
			why = "a rule could not be understood: " + o.Rule.Text
		default:
			why = j.because(readRules)
		}
		return unreadRules(why, o.Rule)
	}
}

// chainOrder says what depends on the order of two chains.
func chainOrder(o natrules.Outer) string {
	return fmt.Sprintf("two chains have one hook and priority, so that they run in the order of their registration, the "+
		"later one first, and that order is "+
		"not known: %s decides if its chain runs first, %s if not", quoteChain(o.Rule), quoteChain(o.Other))
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

func unreadRules(why string, rule *natrules.Rule) natCondition {
	return natCondition{
		condition: condition{
			yes, "the NAT rules could not be judged (" + why + ")",
			Evidence{"NAT rules", "not judged: " + why},
		},
		rule: rule, reason: natrules.WhyUnread, change: natrules.UnsureChange, unread: true,
	}
}

// unreadRulesets says by family which backend's rules were refused or failed.
func unreadRulesets(all []natrules.Ruleset) map[string]string {
	unread := map[string]string{}
	for _, r := range all {
		if s := r.Status; unread[r.Family] != "" || (s != node.NotPermitted && s != node.Failed) {
			continue
		}
		why := r.Error
		if why == "" {
			why = string(r.Status)
		}
		unread[r.Family] = r.Backend + " rules: " + why
	}
	return unread
}

// noConntrack reports whether the node is known to have no connection tracking. A /proc with parts hidden looks alike,
// so the counters must have been read and must not know it either.
func (j *judge) noConntrack() bool {
	r, ok := j.result(readConntrack)
	return ok && r.Status == node.None && j.now.Host.UDP4.InDatagrams != nil && j.now.Host.ConntrackInvalid == nil
}

func keepsClear(why natrules.Why) string {
	switch why {
	case natrules.WhyCleared:
		return "the masquerade mark is cleared before MASQUERADE"
	case natrules.WhyMarkReset:
		return "the mark is cleared for the VXLAN port on the way out"
	case natrules.WhyNotrack:
		return "the VXLAN port is not tracked, so NAT cannot touch it"
	case natrules.WhyNotRandom:
		return "MASQUERADE keeps the source port"
	case natrules.WhyNoRule:
		return "no NAT rule matches the outer packets"
	default:
		return "the NAT rules leave the outer packets alone"
	}
}

func natWhy(o natrules.Outer) string {
	what := "source port"
	if o.Change == natrules.AddrChange {
		what = "source address"
	}
	switch o.Why {
	case natrules.WhyBypassed:
		return "a rule that runs before the mark is cleared, or that needs no mark, has the outer packets NATed (" + what +
			")"
	case natrules.WhyRestored:
		return "a rule gives the mark to later packets of a connection, which do not see the nat table again: after a " +
			"pause longer than nf_conntrack_udp_timeout (30 s unless set) the next packet makes a new outer flow, which is " +
			"NATed (" + what + ") and stalls the connection; " +
			"new connections work"
	case natrules.WhyKept:
		return "the mark set for the inner packet makes the outer one be masqueraded (" + what + ")"
	default:
		return "the rules NAT the outer packets (" + what + ")"
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
	case len(work) == 0 && len(senders) == 1 && strings.HasPrefix(stall[0], "the node"): // nobody else sends
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
