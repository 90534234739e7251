//go:build cluster

package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os/exec"
	"slices"
	"testing"
	"time"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/test/cluster"
	"vxlan_exporter/test/lab/labtest"
)

var components = flag.String("components", "", "folder that the script build has filled")

// Cells of the matrix. Each is a cluster of real components; a request of every kind decides what check must say.
func cells() map[string]cluster.Options {
	cells := map[string]cluster.Options{}
	add := func(name string, o cluster.Options) {
		if o.MasqueradeBit == 0 {
			o.MasqueradeBit = 14
		}
		cells[name] = o
	}
	proxies := map[string]cluster.Options{
		"1.37 iptables": {Proxy: "kube-proxy-1.37", Mode: "iptables"},
		"1.37 nftables": {Proxy: "kube-proxy-1.37", Mode: "nftables"},
		"1.18 iptables": {Proxy: "kube-proxy-1.18", Mode: "iptables"},
	}
	for proxy, o := range proxies {
		for _, first := range []bool{false, true} {
			o.FlannelFirst = first
			order := map[bool]string{false: "proxy first", true: "flannel first"}[first]
			o.Flannel, o.FlannelNFT = "flannel-0.28", false
			add(proxy+", flannel 0.28, "+order, o)
			o.FlannelNFT = true
			add(proxy+", flannel 0.28 nftables, "+order, o)
			o.Flannel, o.FlannelNFT = "flannel-0.12", false
			add(proxy+", flannel 0.12, "+order, o)
		}
		o.FlannelFirst, o.Flannel = false, "flannel-0.28"
		for what, change := range map[string]func(*cluster.Options){
			"bit 15":         func(o *cluster.Options) { o.MasqueradeBit = 15 },
			"masquerade all": func(o *cluster.Options) { o.MasqueradeAll = true },
			"bridge ipMasq":  func(o *cluster.Options) { o.BridgeIPMasq = true },
			"portmap":        func(o *cluster.Options) { o.PortMap = true },
			"docker":         func(o *cluster.Options) { o.Docker = true },
			"dual stack":     func(o *cluster.Options) { o.DualStack = true },
			"legacy":         func(o *cluster.Options) { o.Legacy = true },
			"no ip-masq":     func(o *cluster.Options) { o.NoMasquerade = true },
		} {
			o := o
			change(&o)
			if o.Legacy && o.Mode == "nftables" || o.DualStack && o.Proxy == "kube-proxy-1.18" {
				continue
			}
			add(proxy+", "+what, o)
		}
	}
	return cells
}

// TestVerdicts holds check against real requests, before, during and after them.
func TestVerdicts(t *testing.T) {
	if *components == "" {
		t.Fatal("-components: the folder of the components is missing (make test-cluster)")
	}
	exporter := labtest.Binary(t)
	cells := cells()
	for turn, name := range slices.Sorted(maps.Keys(cells)) {
		o := cells[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			c, err := cluster.New(o, *components, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
			if err := c.Start(ctx); err != nil {
				t.Fatal(err)
			}
			judge(ctx, t, c, exporter, turn)
		})
	}
}

// judge compares: what check says before is what happens, and during a failure it says so. Then one of the remedies
// that it prints is typed, and must hold through a restart of the components.
func judge(ctx context.Context, t *testing.T, c *cluster.Cluster, exporter string, turn int) {
	t.Helper()
	before := check(ctx, t, c, exporter)
	lost := requests(ctx, t, c)
	during := check(ctx, t, c, exporter)
	t.Logf("lost: %v; check before %d, during %d", lost, before.status, during.status)
	if len(lost) == 0 {
		if !before.harmless() || !during.harmless() {
			t.Errorf("no request stalls, and check says %d, then %d: %s", before.status, during.status,
				during.Diagnosis.Headline)
		}
		return
	}
	if before.status != exposed && !before.orderUnknown() {
		t.Errorf("requests stall (%v), and check said %d before: %s", lost, before.status, before.Diagnosis.Headline)
	}
	if during.status != failing {
		t.Errorf("requests stall (%v), and check says %d meanwhile: %s", lost, during.status, during.Diagnosis.Headline)
	}
	remedies := during.remedies()
	if len(remedies) == 0 {
		t.Fatalf("no remedy that can be typed: %s", during.Diagnosis.Headline)
	}
	remedy := remedies[turn%len(remedies)]
	for _, command := range append(remedy.Commands, remedy.Also...) {
		if _, err := c.A.Run("sh", "-c", command); err != nil {
			t.Fatalf("%s: %v", remedy.Title, err)
		}
	}
	held := func(when string) {
		if lost := requests(ctx, t, c); len(lost) > 0 {
			t.Errorf("%s, %s: requests stall still: %v", remedy.Title, when, lost)
		}
	}
	held("typed")
	for _, restart := range []func(context.Context) error{c.RestartProxies, c.RestartFlannel} {
		if err := restart(ctx); err != nil {
			t.Fatal(err)
		}
	}
	held("after a restart of kube-proxy and flannel")
	if after := check(ctx, t, c, exporter); !after.harmless() {
		t.Errorf("%s, and check says %d: %s", remedy.Title, after.status, after.Diagnosis.Headline)
	}
	t.Logf("remedy: %s", remedy.Title)
}

// requests makes a request of every kind and returns those whose first SYN was lost; each of these is a bad packet at
// the receiver.
func requests(ctx context.Context, t *testing.T, c *cluster.Cluster) (lost []cluster.Sender) {
	t.Helper()
	for _, s := range cluster.Senders() {
		before, err := c.BadPackets(ctx)
		if err != nil {
			t.Fatal(err)
		}
		isLost, err := c.Request(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		now, err := c.BadPackets(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if isLost != (now > before) {
			t.Errorf("%v: first SYN lost %t, bad packets at the receiver %d", s, isLost, now-before)
		}
		if isLost {
			lost = append(lost, s)
		}
	}
	return lost
}

// Exit statuses of check.
const (
	healthy = iota
	exposed
	failing
	unknown
)

// verdict is what check says.
type verdict struct {
	status    int
	Diagnosis diagnosis.Diagnosis `json:"diagnosis"`
}

// harmless: no alarm. That the order of two base chains is not known is said, and is none.
func (v verdict) harmless() bool { return v.status == healthy || v.orderUnknown() }

func (v verdict) orderUnknown() bool {
	return v.status == unknown && slices.ContainsFunc(v.Diagnosis.Findings,
		func(f diagnosis.Finding) bool { return f.Code == diagnosis.CodeChainOrder })
}

// remedies are those that can be typed and change something.
func (v verdict) remedies() (remedies []diagnosis.Remedy) {
	for _, f := range v.Diagnosis.Findings {
		for _, r := range f.Remedies {
			if len(r.Commands) > 0 && !r.Diagnostic {
				remedies = append(remedies, r)
			}
		}
	}
	return remedies
}

func check(ctx context.Context, t *testing.T, c *cluster.Cluster, exporter string) (v verdict) {
	t.Helper()
	out, err := c.A.Cmd(ctx, exporter, "check", "--interval=0s", "--output=json").Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		v.status = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("check --output=json: %v: %s", err, out)
	}
	return v
}
