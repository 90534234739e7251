package diagnosis

import (
	"net/netip"
	"testing"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// asked adds a round of the probe through flannel.1 in which each sender has one of the states.
func asked(states ...node.PathState) change {
	return func(n *node.Node) {
		p := node.PathPeer{Device: "flannel.1", Family: node.IPv4, Peer: netip.MustParseAddr("10.244.1.0")}
		for i, s := range states {
			p.Senders = append(p.Senders, node.PathSender{
				Source: netip.AddrFrom4([4]byte{10, 244, 0, byte(i)}), State: s, Reason: "because",
				PathCounts: node.PathCounts{Plain: node.PathCount{Sent: 3, Answered: 3}, Marked: node.PathCount{Sent: 6}},
			})
		}
		n.Path = &node.Path{Mark: 0x4000, Peers: []node.PathPeer{p}}
	}
}

func noRulesOver6() change {
	return func(n *node.Node) {
		n.NATRules.Outer = append(n.NATRules.Outer, natrules.Outer{
			Family: node.IPv6, Port: 8472, Change: natrules.NoChange,
			Why: natrules.WhyNoRule,
		})
	}
}

func onlyPods() change {
	return func(n *node.Node) {
		n.NATRules.Outer[0].Senders = []natrules.SenderFate{
			{Sender: "the node itself", Change: natrules.NoChange}, {
				Sender: "pods or containers in 10.244.0.0/24 (cni0)",
				Change: natrules.PortChange,
			},
		}
	}
}

// pathCases: what the probe proves, refutes, contradicts and leaves open.
func pathCases() []testCase {
	const ok, nat = node.PathOK, node.PathNAT
	exposed := []Code{CodeNATCouldSpoil}
	return []testCase{
		{"probe: proves what is exposed", once(oldRules(), asked(ok, nat)), want{
			state: Failing, a: Clear, b: Active, codes: []Code{CodePathNAT}, not: []Code{CodePathContradicted, CodePathOK},
			types: []string{offCommand}, says: []string{"from 10.244.0.1: because", "0 of 6 marked"},
		}},
		{"probe: proves the model wrong", once(asked(nat)), want{
			state: Failing, b: Active, codes: []Code{CodePathNAT, CodePathContradicted}, types: []string{offCommand},
			says: []string{"The model is WRONG about flannel.1", "cleared before MASQUERADE"},
		}},
		{"probe: proves the model wrong that NATed flows contradict too", once(flows(9, 6), asked(nat)), want{
			state: Failing, b: Active, codes: []Code{CodePathContradicted, CodeRulesContradicted},
		}},
		{"probe: refutes where every mark stays on", once(oldRules(), asked(ok)), want{
			state: Healthy, b: Clear, codes: []Code{CodePathRefutes}, not: exposed, says: []string{"Refuted by the probe"},
		}},
		{"probe: does not clear senders that it does not stand for", once(bypassed(), asked(ok)), want{
			state: Exposed, b: Exposed, codes: append(exposed, CodePathRefutes), says: []string{"does not confirm", "FORWARD"},
		}},
		{
			"probe: does not clear where only others' marks stay on", once(oldRules(), onlyPods(), asked(ok)),
			want{state: Exposed, b: Exposed, codes: append(exposed, CodePathRefutes)},
		},
		{
			"probe: settles an external device", once(external(), oldRules(), noRulesOver6(), asked(ok)),
			want{state: Healthy, a: Clear, b: Clear, codes: []Code{CodePathRefutes}},
		},
		{
			"probe: does not settle an external device that may send over IPv6", once(external(), oldRules(), asked(ok)),
			want{state: Unknown},
		},
		{
			"probe: proves an external device", once(external(), oldRules(), asked(nat)),
			want{state: Failing, a: Active, b: Active, codes: []Code{CodePathNAT}},
		},
		{
			"probe: a sender that is not answered hides nothing", once(asked(ok, node.PathUnreachable)),
			want{state: Healthy, b: Clear, codes: []Code{CodePathOK}},
		},
		{"probe: variant C", once(asked(node.PathOffload)), want{
			state: Failing, b: Clear, codes: []Code{CodePathOffload}, types: []string{offCommand, "ethtool -i eth0"},
		}},
		{"probe: every packet NATed looks like variant C", once(bypassed(), flows(9, 9), asked(node.PathOffload)), want{
			state: Failing, b: Active, codes: []Code{CodePathNAT}, not: []Code{CodePathOffload}, says: []string{"marked or not"},
		}},
		{"probe: a small MTU", once(asked(node.PathMTU, ok)), want{
			state: Healthy, b: Clear, codes: []Code{CodePathMTU},
			says: []string{"ping -M do -s SIZE 10.244.1.0"},
		}},
		{
			"probe: nobody there", once(asked(node.PathUnreachable)),
			want{state: Healthy, b: Clear, codes: []Code{CodePathUnknown}},
		},
		{
			"probe: no verdict", once(oldRules(), asked(node.PathUnknown)),
			want{state: Exposed, b: Exposed, codes: append(exposed, CodePathUnknown)},
		},
	}
}

func TestPathVerdicts(t *testing.T) {
	t.Parallel()
	if p := Paths(ordinary(noudpcsum(), asked(node.PathNAT))); len(p) != 1 || p[0].State != node.PathNAT ||
		p[0].Variant != node.ZeroChecksum || len(p[0].Remedies) == 0 {
		t.Errorf("%+v", p)
	}
	if p := Paths(ordinary(external(), asked(node.PathNAT))); len(p) != 1 || p[0].Variant != "" {
		t.Errorf("an external device's checksum is known: %+v", p)
	}
	if p := Paths(ordinary()); len(p) != 0 || PathState(p) != node.PathUnknown {
		t.Errorf("%+v without a round", p)
	}
}
