package diagnosis

import (
	"net/netip"
	"time"

	"vxlan_exporter/internal/node"
)

// probed is a node whose packet capture captured a bad packet, so long before the look.
func probed(direction string, ago time.Duration) change {
	return func(n *node.Node) {
		p := node.BadPacket{
			Time: n.Time.Add(-ago), Interface: "eth0", Direction: direction,
			Source: netip.MustParseAddrPort("10.0.0.2:38876"), Destination: netip.MustParseAddrPort("10.0.0.1:8472"),
			Variant: node.OffloadedChecksum, Sums: node.Sums{
				Field: 0x7295, Correct: 0x9a08, SourcePort: 38876,
				SourcePortPreNAT: 59513,
			},
		}
		if direction == node.Out {
			p.Source, p.Destination = netip.MustParseAddrPort("10.0.0.1:38876"), netip.MustParseAddrPort("10.0.0.3:8472")
		}
		n.Results["wire"] = node.Result{Status: node.OK}
		n.Wire = &node.Wire{Interfaces: []string{"eth0"}, SampleRatio: 1, Samples: []node.BadPacket{p}}
	}
}

func wireCases() []testCase {
	return []testCase{
		{"the probe sees a bad packet arrive: the sender is named", once(probed(node.In, 5*time.Second)), want{
			state: Failing, a: Clear, b: Clear, codes: []Code{CodeWireBad}, not: []Code{CodeWireEarlier},
			types: []string{lookThere},
			says:  []string{"arrive from 10.0.0.2", "source port 59513 before NAT", "checksum 0x7295 instead of 0x9a08"},
		}},
		{"the probe sees a bad packet leave", once(oldRules(), flows(1, 1), probed(node.Out, time.Second)), want{
			state: Failing, b: Active, codes: []Code{CodeWireBad, CodeNATSpoils}, types: []string{offCommand},
			says: []string{"leave this node for 10.0.0.3"},
		}},
		{"the probe saw a bad packet long ago", once(probed(node.In, 10*time.Minute)), want{
			state: Healthy, codes: []Code{CodeWireEarlier}, not: []Code{CodeWireBad}, says: []string{"the last one 10m0s ago"},
		}},
		{"a firewall hides what the probe sees", twice(nothing, invalid(3), probed(node.In, time.Second)), want{
			state: Failing, codes: []Code{CodeWireBad, CodeInvalidOnly},
		}},
		{
			"the probe saw nothing bad",
			once(func(n *node.Node) { n.Wire = &node.Wire{Interfaces: []string{"eth0"}, SampleRatio: 1} }),
			want{
				state: Healthy, not: []Code{CodeWireBad, CodeWireEarlier},
			},
		},
	}
}
