package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"testing"

	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// On every combination of switches, over both families of underlay and overlay, with and without a bridge, the probe says of the node's own
// address what a real NodePort request from the node meets: lost checksums exactly when the request stalls.
func TestProbeAndReality(t *testing.T) {
	t.Parallel()
	for _, backend := range []lab.Backend{lab.Legacy, lab.NFT} {
		for _, underlay := range []lab.Family{lab.IPv4, lab.IPv6} {
			for _, overlay := range []lab.Family{lab.IPv4, lab.IPv6} {
				t.Run(fmt.Sprintf("%s/%s under %s", backend, underlay, overlay), func(t *testing.T) {
					t.Parallel()
					o := lab.LiveFailure()
					o.Backend, o.Family = backend, underlay
					p := &probed{Rig: labtest.NewRig(t, o), overlay: overlay}
					var err error
					if p.wire, err = p.WatchWire(); err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = p.wire.Close() })
					if overlay == lab.IPv6 {
						p.serve(t)
					}
					stalls := 0
					for name, c := range combinations() {
						if p.compare(t, name, c) {
							stalls++
						}
					}
					if n := len(combinations()); n < 20 || stalls < 4 || stalls > n-8 {
						t.Errorf("%d of %d combinations stall: the rig does not tell them apart", stalls, n)
					}
				})
			}
		}
	}
}

type bridged struct {
	combination
	bridge bool
}

func combinations() map[string]bridged {
	live := combination{rules: lab.RulesOld, random: true, udp: true, tx: true}
	with := func(change func(*combination)) bridged {
		c := live
		change(&c)
		return bridged{combination: c}
	}
	all := map[string]bridged{
		"old":                   {combination: live},
		"old, not random":       with(func(c *combination) { c.random = false }),
		"old, tx off":           with(func(c *combination) { c.tx = false }),
		"old, noudpcsum":        with(func(c *combination) { c.udp = false }),
		"old, notrack":          with(func(c *combination) { c.notrack = true }),
		"old, mark reset":       with(func(c *combination) { c.reset = lab.MarkResetFilter }),
		"none":                  with(func(c *combination) { c.rules = lab.RulesNone }),
		"fixed":                 with(func(c *combination) { c.rules = lab.RulesFixed }),
		"fixed, noudpcsum":      with(func(c *combination) { c.rules, c.udp = lab.RulesFixed, false }),
		"bypassed":              with(func(c *combination) { c.rules = lab.RulesBypassed }),
		"bypassed, not random":  with(func(c *combination) { c.rules, c.random = lab.RulesBypassed, false }),
		"bypassed, notrack":     with(func(c *combination) { c.rules, c.notrack = lab.RulesBypassed, true }),
		"bypassed, tx off":      with(func(c *combination) { c.rules, c.tx = lab.RulesBypassed, false }),
		"flannel":               with(func(c *combination) { c.rules = lab.RulesFlannel }),
		"flannel with its mark": with(func(c *combination) { c.rules = lab.RulesFlannelKube }),
		"docker":                with(func(c *combination) { c.rules = lab.RulesDocker }),
	}
	for _, name := range []string{"old", "old, not random", "old, tx off", "old, notrack", "fixed", "bypassed"} {
		c := all[name]
		c.bridge = true
		all["bridge: "+name] = c
	}
	return all
}

type probed struct {
	*lab.Rig
	overlay lab.Family
	wire    *lab.Wire
}

// Addresses of the IPv6 overlay, whose pod is node B itself.
var (
	podIPv6      = netip.MustParseAddr("fd00:10:244:1::b")
	nodePortIPv6 = netip.AddrPortFrom(netip.MustParseAddr("fd77::1"), lab.NodePort)
)

// serve answers at the IPv6 overlay address of node B, wherever that is borne. The nodes get the link-local addresses without which
// neighbors on the underlay are not found (RFC 4861).
func (p *probed) serve(t *testing.T) {
	t.Helper()
	if err := errors.Join(p.A.IP("addr add fe80::a/64 dev "+lab.Underlay+" nodad"), p.B.IP("addr add fe80::b/64 dev "+lab.Underlay+" nodad")); err != nil {
		t.Fatal(err)
	}
	l := labtest.Listen(t, p.B, netip.AddrPortFrom(netip.IPv6Unspecified(), lab.PodPort))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
}

// set makes the rig what the combination says.
func (p *probed) set(ctx context.Context, c bridged) error {
	if c.reset == "" {
		c.reset = lab.MarkResetNone
	}
	_ = p.A.IP("link del br-vx") // of the combination before
	err := errors.Join(p.SetUDPChecksum(c.udp), p.SetTxChecksum(c.tx), p.SetRules(c.rules, c.random), p.SetNotrack(c.notrack), p.SetMarkReset(c.reset))
	device := lab.Device
	if c.bridge {
		device = "br-vx"
		_, bridged := p.A.RunInput(behindBridge, "sh", "-e")
		err = errors.Join(err, bridged)
	}
	if p.overlay == lab.IPv6 {
		service := fmt.Sprintf("-A OUTPUT -d %s -p tcp --dport %d -j MARK --set-xmark 0x4000/0x4000\n-A OUTPUT -d %[1]s -p tcp --dport %[2]d -j DNAT --to-destination [%s]:%d\n",
			nodePortIPv6.Addr(), lab.NodePort, podIPv6, lab.PodPort)
		_, restored := p.A.RunInput("*nat\n"+service+"COMMIT\n", "ip6tables-"+string(p.Options().Backend)+"-restore", "-n", "-w")
		err = errors.Join(err, restored,
			p.A.IP("addr add fd00:10:244::a/128 dev "+device+" nodad", "neigh add "+podIPv6.String()+" lladdr 02:76:78:00:00:0b dev "+device+" nud permanent",
				"route add fd00:10:244:1::/64 via "+podIPv6.String()+" dev "+device+" onlink"),
			p.B.IP("addr add "+podIPv6.String()+"/128 dev "+lab.Device+" nodad", "neigh add fd00:10:244::a lladdr 02:76:78:00:00:0a dev "+lab.Device+" nud permanent",
				"route add fd00:10:244::/64 via fd00:10:244::a dev "+lab.Device+" onlink"))
	}
	return errors.Join(err, p.FlushOuterFlows())
}

// compare holds the probe's verdict on the node's own address against a real request, and reports whether that stalled.
func (p *probed) compare(t *testing.T, name string, c bridged) (stalled bool) {
	t.Run(name, func(t *testing.T) {
		if err := p.set(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		state, status := p.ask(t)
		if err := p.FlushOuterFlows(); err != nil {
			t.Fatal(err)
		}
		stalled = p.stalls(t)
		lost := state == node.PathNAT || state == node.PathOffload // of every packet, marked or not, where all are NATed
		if lost != stalled || (!stalled && state != node.PathOK) || (stalled && status != 2) {
			t.Errorf("the request stalled %t; the probe says %s, exit status %d", stalled, state, status)
		}
	})
	return stalled
}

// TestProbeAndRemedies: the probe proves each variant that this kernel has, is content after each remedy, and proves the variant again
// once the remedy is undone.
func TestProbeAndRemedies(t *testing.T) {
	t.Parallel()
	for _, f := range failures() {
		if f.backend == lab.NFT {
			continue // TestProbeAndReality has both
		}
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			p := &probed{Rig: labtest.NewRig(t, f.options()), overlay: lab.IPv4}
			says := func(when string, stalls bool) {
				if err := p.FlushOuterFlows(); err != nil {
					t.Fatal(err)
				}
				want := map[bool]node.PathState{true: node.PathNAT, false: node.PathOK}[stalls]
				if state, _ := p.ask(t); state != want {
					t.Errorf("%s: the probe says %s, want %s", when, state, want)
				}
			}
			for _, remedy := range f.remedies(p.Rig) {
				says(remedy.name+", before", f.happens())
				if err := remedy.take(); err != nil {
					t.Fatal(err)
				}
				says(remedy.name, remedy.stalls)
				if err := remedy.undo(); err != nil {
					t.Fatal(err)
				}
			}
			says("all undone", f.happens())
			t.Logf("FIGURE probe: %s proven %t, ok after each remedy", f, f.happens())
		})
	}
}

func (p *probed) stalls(t *testing.T) bool {
	t.Helper()
	stalls, err := p.wire.Stalls(t.Context(), func(ctx context.Context) error {
		if p.overlay == lab.IPv4 {
			_, err := p.Request(ctx)
			return err
		}
		conn, err := p.A.DialContext(ctx, "tcp6", nodePortIPv6.String())
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return stalls
}

// ask runs the probe on node A and returns what it says of the NIC's address, which requests of the node come from. On a busy machine an
// answer may come too late to tell: it is asked again then.
func (p *probed) ask(t *testing.T) (state node.PathState, status int) {
	t.Helper()
	for range 4 {
		if state, status = p.askOnce(t); state != node.PathUnknown && state != node.PathUnreachable {
			break
		}
	}
	return state, status
}

func (p *probed) askOnce(t *testing.T) (node.PathState, int) {
	t.Helper()
	peer := "10.244.1.0"
	if p.overlay == lab.IPv6 {
		peer = podIPv6.String()
	}
	out, err := p.A.Cmd(t.Context(), labtest.Binary(t), "probe", "--output=json", "--timeout=600ms", "--peer="+peer).Output()
	status := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		status = e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	var report struct{ Path node.Path }
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("probe, exit status %d: %v: %.300s", status, err, out)
	}
	for _, s := range report.Path.Peers[0].Senders {
		if s.Interface == lab.Underlay {
			return s.State, status
		}
	}
	t.Fatalf("nothing was sent from %s: %s", lab.Underlay, out)
	return "", 0
}
