package diagnosis

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"vxlan_exporter/internal/node"
)

func scanned(d time.Duration) change {
	return func(n *node.Node) { n.Conntrack.Scan.Time = n.Time.Add(d) }
}

func rarely(d time.Duration) change { return func(n *node.Node) { n.Conntrack.ScanInterval = d } }

// What is told of NATed flows, by device, port and variant; "-" where none were.
func TestSenders(t *testing.T) {
	t.Parallel()
	const active, unknown, none = "flannel.1/8472 offloaded_checksum", "flannel.1/8472 unknown", "flannel.1/8472 -"
	for name, c := range map[string]struct {
		node *node.Node
		want []string
	}{
		"no NATed flow":                   {ordinary(oldRules()), []string{none}},
		"NATed flows, all conditions":     {ordinary(oldRules(), nattedFrom("10.0.0.1", 2)), []string{active}},
		"the same, not listed by address": {ordinary(oldRules(), flows(12, 2)), []string{active}},
		"the last one was seen a while ago": {
			ordinary(oldRules(), nattedFrom("10.0.0.1", 0), seen(-Recent+time.Second)),
			[]string{active},
		},
		"a while ago, as scans are rare": {ordinary(oldRules(), nattedFrom("10.0.0.1", 0), seen(-2*Recent),
			rarely(2*Recent)), []string{active}},
		"too long ago": {
			ordinary(oldRules(), nattedFrom("10.0.0.1", 0), seen(-Recent)),
			[]string{none},
		},
		"variant A": {
			ordinary(oldKernel(), noudpcsum(), oldRules(), flows(2, 1)),
			[]string{"flannel.1/8472 zero_checksum"},
		},
		"a kernel judged fixed": {
			ordinary(newKernel(), noudpcsum(), oldRules(), flows(2, 1)),
			[]string{unknown},
		},
		"offload off":       {ordinary(txOff(), oldRules(), flows(2, 1)), []string{unknown}},
		"features not read": {ordinary(txUnread(), oldRules(), flows(2, 1)), []string{unknown}},
		"rules not read": {
			ordinary(rulesRefused(), nattedFrom("10.0.0.1", 0), seen(-time.Minute)),
			[]string{active},
		},
		"rules that say otherwise": {ordinary(flows(2, 1)), []string{active}},
		"over IPv6":                {ordinary(over6(), oldRules(), flows(2, 1)), []string{active}},
		"an external device":       {ordinary(external(), flows(2, 1)), []string{unknown, "flannel.1/8472 -"}},
		"another device's address": {ordinary(oldRules(), second("vx2", from("10.0.0.9")),
			nattedFrom("10.0.0.9", 1)), []string{none, "vx2/8472 offloaded_checksum"}},
		"forwarded":                              {ordinary(nattedFrom("10.9.9.9", 1)), []string{none, "/8472 unknown"}},
		"no device is known":                     {ordinary(noDevices(), flows(2, 1)), []string{"/8472 unknown"}},
		"a device that was moved away":           {ordinary(movedAway(), flows(2, 1)), []string{"/4789 unknown"}},
		"a device that was moved here":           {ordinary(movedHere()), nil},
		"flows of an old scan, which later fail": {ordinary(oldRules(), flows(2, 1), scanned(-Recent)), []string{none}},
		"never scanned":                          {ordinary(flowsRefused()), nil},
		"nothing observed":                       {nil, nil},
	} {
		var got []string
		for _, s := range Senders(c.node) {
			if s.Variant == "" {
				s.Variant = "-"
			}
			got = append(got, fmt.Sprintf("%s/%d %s", s.Device, s.Port, s.Variant))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q; want %q", name, got, c.want)
		}
	}
}

// minutes is an observation and what it is compared with, two minutes apart.
func minutes(setting change, rises ...change) *node.Node {
	l := twice(setting, rises...)
	l.Time = l.Earlier.Time.Add(Recent)
	return l
}

// usually gives connection tracking a usual number of invalid packets in two minutes.
func usually(packets float64) change {
	return func(n *node.Node) { n.Host.ConntrackInvalidUsual = new(packets / Recent.Seconds()) }
}

func TestReceivers(t *testing.T) {
	t.Parallel()
	notTracked := all(noConntrack(), func(n *node.Node) { n.Conntrack.Ports = nil })
	for name, c := range map[string]struct {
		node *node.Node
		want []string // family, state, packets; "-" where nothing counts them
	}{
		"nothing":                     {minutes(nothing), []string{"ipv4 quiet 0", "ipv6 quiet 0"}},
		"the first observation":       {ordinary(csum4(9), invalid(9)), []string{"ipv4 quiet 0", "ipv6 quiet 0"}},
		"one packet of a stalled SYN": {minutes(nothing, csum4(1), invalid(1)), []string{"ipv4 vxlan 1", "ipv6 quiet 0"}},
		"over IPv6": {
			minutes(all(over6(), flows(3, 0)), csum6(2), invalid(2)),
			[]string{"ipv4 quiet 0", "ipv6 vxlan 2"},
		},
		"the socket counts them": {minutes(notTracked, csum4(4), drops(4)), []string{"ipv4 vxlan 4", "ipv6 quiet 0"}},
		"only some are known": {
			minutes(nothing, csum4(9), invalid(2)),
			[]string{"ipv4 unclear 9", "ipv6 quiet 0"},
		},
		"garbage where VXLAN is tracked": {minutes(nothing, csum4(4)), []string{"ipv4 other 0", "ipv6 quiet 0"}},
		// The socket does not count small packets, so this may be VXLAN's.
		"garbage, or small packets": {minutes(notTracked, csum4(4)), []string{"ipv4 unclear 4", "ipv6 quiet 0"}},
		"no VXLAN here": {
			minutes(noDevices(), csum4(4), invalid(9)),
			[]string{"ipv4 other 0", "ipv6 quiet 0"},
		},
		"devices could not be read": {
			minutes(all(noDevices(), reading("device", node.Failed, "")), csum4(4)),
			[]string{"ipv4 unclear 4", "ipv6 quiet 0"},
		},
		"counters could not be read": {minutes(func(n *node.Node) {
			n.Host.UDP4.InCsumErrors,
				n.Host.UDP6.InCsumErrors = nil, nil
		}), []string{"ipv4 unclear -"}},
		"a firewall drops them": {minutes(nothing, invalid(2)), []string{"ipv4 unclear 2", "ipv6 quiet 0"}},
		"one invalid packet":    {minutes(nothing, invalid(1)), []string{"ipv4 quiet 0", "ipv6 quiet 0"}},
		"as many as usual":      {minutes(usually(16), invalid(28)), []string{"ipv4 quiet 0", "ipv6 quiet 0"}},
		"far more than usual":   {minutes(usually(16), invalid(80)), []string{"ipv4 unclear 52", "ipv6 quiet 0"}},
		"the counter of an old kernel": {
			minutes(all(kernel("3.10.0", ""), usually(200)), invalid(230)),
			[]string{"ipv4 quiet 0", "ipv6 quiet 0"},
		},
		"and a failure beside": {
			minutes(all(kernel("3.10.0", ""), usually(1)), invalid(9)),
			[]string{"ipv4 unclear 5", "ipv6 quiet 0"},
		},
		"the node was rebooted": {
			minutes(nothing, csum4(9), func(n *node.Node) { n.Kernel.BootID = "b2" }),
			[]string{"ipv4 quiet 0", "ipv6 quiet 0"},
		},
		"the counters fell": {minutes(all(csum4(90), invalid(90)), func(n *node.Node) {
			*n.Host.UDP4.InCsumErrors,
				*n.Host.ConntrackInvalid = 3, 3
		}), []string{"ipv4 quiet 0", "ipv6 quiet 0"}},
		"nothing observed": {nil, nil},
	} {
		var got []string
		for _, r := range Receivers(c.node) {
			bad := "-"
			if r.Bad != nil {
				bad = fmt.Sprintf("%.0f", *r.Bad)
			}
			got = append(got, fmt.Sprintf("%s %s %s", r.Family, r.State, bad))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q; want %q", name, got, c.want)
		}
	}
}
