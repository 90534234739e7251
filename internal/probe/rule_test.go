package probe

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"vxlan_exporter/internal/node"
)

// path says which packets a peer answers; everything else is lost.
type path func(a ask) bool

func talk(c conversation, p path, loss float64, r *rand.Rand) conversation {
	for wave := range maxWaves + 1 {
		asks := c.next(wave)
		if wave == maxWaves && len(asks) > 0 {
			panic("a wave too many")
		}
		for _, a := range asks {
			c.record(a, p(a) && r.Float64() >= loss)
		}
	}
	return c
}

func unfinished(a ask) bool { return a.kind == syn || a.kind == udp }

// faults are what a path can do to packets.
var faults = map[string]path{
	"healthy":      func(ask) bool { return true },
	"nat":          func(a ask) bool { return !a.marked || !unfinished(a) },
	"offload":      func(a ask) bool { return !unfinished(a) },
	"mtu":          func(a ask) bool { return !a.full },
	"dead":         func(ask) bool { return false },
	"mark dropped": func(a ask) bool { return !a.marked },
}

// filters are what a peer's firewall can drop.
var filters = map[string]path{
	"open":      func(ask) bool { return true },
	"no echo":   func(a ask) bool { return a.kind != echo },
	"no ICMP":   func(a ask) bool { return a.kind == syn },
	"no TCP":    func(a ask) bool { return a.kind != syn },
	"UDP only":  func(a ask) bool { return a.kind == udp || a.kind == soft },
	"echo only": func(a ask) bool { return a.kind == echo },
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	unknown, ok := node.PathUnknown, node.PathOK
	// In the order: open, no echo, no ICMP, no TCP, UDP only, echo only.
	order := []string{"open", "no echo", "no ICMP", "no TCP", "UDP only", "echo only"}
	for fault, want := range map[string][]node.PathState{
		"healthy": {ok, ok, ok, ok, ok, unknown},
		"nat":     {node.PathNAT, node.PathNAT, unknown, node.PathNAT, node.PathNAT, unknown},
		"offload": {
			node.PathOffload, node.PathOffload, node.PathUnreachable, node.PathOffload,
			node.PathOffload, unknown,
		},
		"mtu": {node.PathMTU, node.PathMTU, ok, node.PathMTU, node.PathMTU, node.PathMTU},
		"dead": {
			node.PathUnreachable, node.PathUnreachable, node.PathUnreachable, node.PathUnreachable,
			node.PathUnreachable, node.PathUnreachable,
		},
		"mark dropped": {unknown, unknown, unknown, unknown, unknown, unknown},
	} {
		for i, filter := range order {
			for _, can := range []bool{true, false} {
				c := conversation{count: DefaultCount, canMark: true, canEcho: can, udpOffload: true, askFull: true}
				c = talk(c, func(a ask) bool { return faults[fault](a) && filters[filter](a) }, 0, rand.New(rand.NewPCG(1, 1)))
				expect := want[i]
				if filter == "echo only" && !can {
					expect = node.PathUnreachable
				}
				got, reason := c.state()
				if got != expect {
					t.Errorf("%s, %s, echo permitted %t: %s (%s), want %s: %+v", fault, filter, can, got, reason, expect, c.small)
				}
				if full := plus(c.full[soft][0], c.full[echo][0]).Sent; full > 7 {
					t.Errorf("%s, %s: %d packets that fill the MTU", fault, filter, full)
				}
				if n := c.total().Sent; n > 12 || n < 4 {
					t.Errorf("%s, %s: %d small packets", fault, filter, n)
				}
				if fault == "healthy" && filter == "open" && c.total().Sent != 4 {
					t.Errorf("%d packets on a healthy path", c.total().Sent)
				}
			}
		}
	}
}

// Without CAP_NET_ADMIN nothing is marked, and neither ok nor nat is said.
func TestUnmarked(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]node.PathState{
		"healthy": node.PathUnknown, "nat": node.PathUnknown, "offload": node.PathOffload, "mtu": node.PathMTU,
		"dead": node.PathUnreachable,
	} {
		for _, canEcho := range []bool{true, false} {
			c := talk(conversation{count: DefaultCount, canEcho: canEcho, askFull: true}, faults[fault], 0,
				rand.New(rand.NewPCG(1, 1)))
			if got, reason := c.state(); got != want {
				t.Errorf("%s: %s (%s), want %s: %+v", fault, got, reason, want, c.small)
			}
			if c.sum(true, syn, udp, soft, echo).Sent != 0 {
				t.Errorf("%s: marked packets were sent", fault)
			}
		}
	}
}

// UDP alone clears nothing where the device may not leave its checksums to offload.
func TestUDPThatMayBeFinished(t *testing.T) {
	t.Parallel()
	c := talk(conversation{count: DefaultCount, canMark: true, canEcho: true}, filters["no TCP"], 0,
		rand.New(rand.NewPCG(1, 1)))
	if got, reason := c.state(); got != node.PathUnknown {
		t.Errorf("%s (%s)", got, reason)
	}
}

// Losses by chance make no fault, and hide one seldom. 9.75 % is 5 % both ways.
func TestLossIsNoFault(t *testing.T) {
	t.Parallel()
	const rounds = 20_000
	for _, loss := range []float64{0.01, 0.05, 0.0975} {
		for _, filter := range []string{"open", "no echo", "no TCP", "UDP only"} {
			t.Run(fmt.Sprintf("%s/%g", filter, loss), func(t *testing.T) {
				t.Parallel()
				r := rand.New(rand.NewPCG(7, uint64(loss*1e4)))
				seen := map[node.PathState]int{}
				for range rounds {
					c := conversation{count: DefaultCount, canMark: true, canEcho: true, udpOffload: true, askFull: true}
					c = talk(c, filters[filter], loss, r)
					s, _ := c.state()
					seen[s]++
					if n := c.total().Sent; n > 12 {
						t.Fatalf("%d small packets", n)
					}
				}
				// Of UDP only five losses in a row make "nat": 8.8e-6 at the worst, 0.2 in 20,000.
				bound := 0
				if loss > 0.09 {
					bound = map[string]int{"no TCP": 3, "UDP only": 3}[filter]
				}
				if seen[node.PathNAT]+seen[node.PathOffload] > bound || seen[node.PathOK] < rounds*95/100 {
					t.Errorf("%v", seen)
				}
				t.Log(seen)
			})
		}
	}
}

// A fault is found in spite of losses; what is not certain is unknown and never ok.
func TestFaultInSpiteOfLoss(t *testing.T) {
	t.Parallel()
	const rounds = 20_000
	for _, fault := range []string{"nat", "offload"} {
		for _, filter := range []string{"open", "no TCP"} {
			r := rand.New(rand.NewPCG(3, 3))
			seen := map[node.PathState]int{}
			for range rounds {
				c := conversation{count: DefaultCount, canMark: true, canEcho: true, udpOffload: true, askFull: true}
				c = talk(c, func(a ask) bool { return faults[fault](a) && filters[filter](a) }, 0.05, r)
				s, _ := c.state()
				seen[s]++
			}
			if seen[node.PathState(fault)] < rounds*75/100 || seen[node.PathOK] > 0 {
				t.Errorf("%s, %s: %v", fault, filter, seen)
			}
		}
	}
}
