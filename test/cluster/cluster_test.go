//go:build cluster

package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/test/cluster"
	"vxlan_exporter/test/lab/labtest"
)

var (
	components = flag.String("components", "", "folder that the script build has filled")
	every      = flag.Bool("every", false, "type every remedy in every cell, not one in each")
	ipvs       = flag.Bool("ipvs", false, "run the cells of kube-proxy's ipvs mode instead; the kernel needs ip_vs")
)

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
	if *ipvs {
		proxies = map[string]cluster.Options{
			"1.37 ipvs": {Proxy: "kube-proxy-1.37", Mode: "ipvs"},
			"1.18 ipvs": {Proxy: "kube-proxy-1.18", Mode: "ipvs"},
		}
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
			"bit 15":                    func(o *cluster.Options) { o.MasqueradeBit = 15 },
			"masquerade all":            func(o *cluster.Options) { o.MasqueradeAll = true },
			"bridge ipMasq":             func(o *cluster.Options) { o.BridgeIPMasq = true },
			"portmap":                   func(o *cluster.Options) { o.PortMap = true },
			"docker":                    func(o *cluster.Options) { o.Docker = true },
			"dual stack":                func(o *cluster.Options) { o.DualStack = true },
			"dual stack, bridge ipMasq": func(o *cluster.Options) { o.DualStack, o.BridgeIPMasq = true, true },
			"legacy":                    func(o *cluster.Options) { o.Legacy = true },
			"no ip-masq":                func(o *cluster.Options) { o.NoMasquerade = true },
		} {
			o := o
			change(&o)
			if o.Legacy && o.Mode == "nftables" {
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
	if *ipvs { // flannel wants br_netfilter, too
		modprobe := exec.Command("modprobe", "-a", "ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "br_netfilter")
		if out, err := modprobe.CombinedOutput(); err != nil {
			t.Fatalf("modprobe: %v: %s", err, out)
		}
	}
	cells := cells()
	for turn, name := range slices.Sorted(maps.Keys(cells)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
			defer cancel()
			c := &cell{t: t, options: cells[name], exporter: exporter}
			defer c.close()
			c.start(ctx)
			c.judge(ctx, turn)
		})
	}
}

// cell is one cluster, and what is asked of it.
type cell struct {
	*cluster.Cluster
	t        *testing.T
	options  cluster.Options
	exporter string
}

func (c *cell) start(ctx context.Context) {
	c.t.Helper()
	var err error
	if c.Cluster, err = cluster.New(c.options, *components, c.t.TempDir()); err == nil {
		err = c.Start(ctx)
	}
	c.must(err)
}

func (c *cell) close() {
	if c.Cluster == nil {
		return
	}
	if err := c.Close(); err != nil {
		c.t.Error(err)
	}
}

func (c *cell) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// judge compares: what check says before is what happens, and during a failure it says so, of each family. Then the
// remedies that it prints are typed.
func (c *cell) judge(ctx context.Context, turn int) {
	before := c.check(ctx)
	lost := map[string][]cluster.Sender{}
	for _, family := range c.Families() {
		lost[family] = c.requests(ctx, family)
	}
	during := c.check(ctx)
	stalling := []string{}
	for _, family := range c.Families() {
		was, is := before.state(family), during.state(family)
		c.t.Logf("%s: lost %v; check before %s, during %s", family, lost[family], was, is)
		switch {
		case len(lost[family]) == 0 && (!before.harmless(family) || !during.harmless(family)):
			c.t.Errorf("no %s request stalls, and check says %s, then %s: %s", family, was, is, during.Diagnosis.Headline)
		case len(lost[family]) == 0:
			continue
		case was != diagnosis.Exposed && !before.orderUnknown(family):
			c.t.Errorf("requests stall (%v), and check said %s before: %s", lost[family], was, before.Diagnosis.Headline)
		case is != diagnosis.Active:
			c.t.Errorf("requests stall (%v), and check says %s meanwhile: %s", lost[family], is, during.Diagnosis.Headline)
		}
		stalling = append(stalling, family)
	}
	if failing := during.status == 2; failing != (len(stalling) > 0) {
		c.t.Errorf("requests stall over %v, and check ends with status %d", stalling, during.status)
	}
	for _, family := range stalling {
		remedies := during.remedies(family)
		if len(remedies) == 0 {
			c.t.Fatalf("no remedy: %s", during.Diagnosis.Headline)
		}
		for i, r := range remedies {
			if *every || i == turn%len(remedies) {
				c.try(ctx, r)
			}
		}
		if c.options.Mode == "nftables" {
			c.reorder(ctx, family)
		}
	}
}

// try types a remedy, which must hold through a resync and restarts of the components, and undoes it: then the stall
// and the verdict are back.
func (c *cell) try(ctx context.Context, r remedy) {
	c.t.Helper()
	if len(r.Commands) == 0 {
		c.t.Fatalf("no commands for %q: %s", r.Title, r.Effect)
	}
	c.apply(ctx, r)
	held := func(when string) {
		lost, after := c.requests(ctx, r.family), c.check(ctx)
		if len(lost) > 0 || !after.harmless(r.family) {
			c.t.Errorf("%s: %s, %s: requests stall: %v, check says %s: %s", r.family, r.Title, when, lost,
				after.state(r.family), after.Diagnosis.Headline)
		}
	}
	held("typed")
	c.must(c.Resync(ctx))
	held("after a resync")
	c.must(c.RestartProxies(ctx))
	held("after a restart of kube-proxy")
	if c.options.Mode == "nftables" {
		c.register(r.family)
		held("with iptables' chains first again")
	}
	c.must(c.RestartFlannel(ctx))
	held("after a restart of flannel")
	c.undo(ctx, r)
	c.stalls(ctx, r.family, r.Title+" is undone")
	c.t.Logf("%s: %s: held and undone", r.family, r.Title)
}

func (c *cell) stalls(ctx context.Context, family, when string) {
	c.t.Helper()
	lost, after := c.requests(ctx, family), c.check(ctx)
	if len(lost) == 0 || after.state(family) != diagnosis.Active {
		c.t.Errorf("%s: %s: requests stall: %v, check says %s", family, when, lost, after.state(family))
	}
}

// reorder shows that the order of two base chains is all that makes the stall in kube-proxy's nftables mode, and that
// check agrees with either: kube-proxy makes its chain anew when it starts, and the kernel runs the one that was
// registered last first (net/netfilter/core.c, nf_hook_entries_grow).
func (c *cell) reorder(ctx context.Context, family string) {
	was := c.natChain(family)
	c.must(c.RestartProxies(ctx))
	c.forget(family)
	lost, after := c.requests(ctx, family), c.check(ctx)
	if is := c.natChain(family); was == is || len(lost) > 0 || !after.harmless(family) {
		c.t.Errorf("%s: kube-proxy was restarted, %s became %s: requests stall: %v, check says %s", family, was, is, lost,
			after.state(family))
	}
	c.register(family)
	c.stalls(ctx, family, "iptables' chains run first again")
}

// natChain is kube-proxy's base chain in postrouting with the number that the kernel has given it.
func (c *cell) natChain(family string) string {
	chains, err := c.A.Run("nft", "-a", "list", "chains", cluster.IP(family))
	c.must(err)
	return regexp.MustCompile(`chain nat-postrouting.*`).FindString(chains)
}

// forget deletes the flows of what was before. conntrack fails where there is none.
func (c *cell) forget(family string) {
	c.t.Helper()
	c.enter([]string{"conntrack -D -p udp --dport 8472 -f " + family + " || test $? = 1"})
}

// register makes the chains of iptables' nat table anew, with the rules that they have, so that they run first.
func (c *cell) register(family string) {
	c.t.Helper()
	c.enter([]string{fmt.Sprintf(`rules=$(%[1]stables-nft-save -t nat) && nft delete table %[1]s nat &&
		echo "$rules" | %[1]stables-nft-restore`, cluster.IP(family))})
}

// remedy is one for the packets of a family of underlay, which is that of the pods too.
type remedy struct {
	diagnosis.Remedy
	family string
}

// Titles of remedies that are printed in words; see inWords.
const (
	upgrade   = "Upgrade kube-proxy"
	noUDPCsum = "Recreate the device with noudpcsum"
	narrow    = "Let the rule leave the tunnel alone, whatever the order"
)

// inWords is what a person would do who reads a remedy that has no commands.
func inWords(r diagnosis.Remedy, family string) diagnosis.Remedy {
	switch r.Title {
	case upgrade, noUDPCsum:
		r.Commands = []string{""} // see apply
	case narrow:
		mark := regexp.MustCompile(`mark (0x\w+)`).FindStringSubmatch(r.Effect)[1]
		for _, match := range []string{"-m mark --mark " + mark + "/" + mark, "-p udp --dport 8472"} {
			r.Commands = append(r.Commands, cluster.IP(family)+"tables -t nat -I POSTROUTING "+match+" -j ACCEPT")
		}
	}
	return r
}

func (c *cell) apply(ctx context.Context, r remedy) {
	c.t.Helper()
	switch r.Title {
	case upgrade:
		c.must(c.ReplaceProxies(ctx, "kube-proxy-1.37"))
	case noUDPCsum:
		c.must(c.RemakeDevice(ctx, "noudpcsum"))
	default:
		c.enter(r.Commands)
	}
	c.enter(r.Also)
}

func (c *cell) undo(ctx context.Context, r remedy) {
	c.t.Helper()
	switch r.Title {
	case upgrade:
		c.must(c.ReplaceProxies(ctx, c.options.Proxy))
	case noUDPCsum:
		c.must(c.RemakeDevice(ctx, "udpcsum"))
	default:
		c.enter(undo(r.Commands))
	}
}

func (c *cell) enter(commands []string) {
	c.t.Helper()
	for _, command := range commands {
		_, err := c.A.Run("sh", "-c", command)
		c.must(err)
	}
}

// undo is what undoes the commands of remedies.
func undo(commands []string) (back []string) {
	for _, c := range commands {
		switch {
		case strings.HasPrefix(c, "ethtool "):
			back = append(back, strings.TrimSuffix(c, "off")+"on")
		case strings.Contains(c, " -I "):
			back = append(back, strings.Replace(c, " -I ", " -D ", 1))
		case strings.HasPrefix(c, "nft add table "):
			back = append(back, strings.Replace(c, " add ", " delete ", 1))
		}
	}
	return back
}

// requests makes a request of every kind of a family and returns those whose first SYN was lost; each of these is a bad
// packet at the receiver.
func (c *cell) requests(ctx context.Context, family string) (lost []cluster.Sender) {
	c.t.Helper()
	for _, s := range cluster.Senders(family) {
		before, err := c.BadPackets(ctx)
		c.must(err)
		isLost, err := c.Request(ctx, s)
		c.must(err)
		now, err := c.BadPackets(ctx)
		c.must(err)
		if isLost != (now > before) {
			c.t.Errorf("%v: first SYN lost %t, bad packets at the receiver %d", s, isLost, now-before)
		}
		if isLost {
			lost = append(lost, s)
		}
	}
	return lost
}

// verdict is what check says.
type verdict struct {
	status    int
	Diagnosis diagnosis.Diagnosis `json:"diagnosis"`
}

// state is the worst of a family's devices.
func (v verdict) state(family string) diagnosis.State {
	rank := []diagnosis.State{diagnosis.Clear, diagnosis.Unknown, diagnosis.Exposed, diagnosis.Active}
	worst := 0
	for _, e := range v.Diagnosis.Exposures {
		if e.Family == family {
			worst = max(worst, slices.Index(rank, e.State))
		}
	}
	return rank[worst]
}

// harmless: no alarm. That the order of two base chains is not known is said, and is none.
func (v verdict) harmless(family string) bool {
	return v.state(family) == diagnosis.Clear || v.orderUnknown(family)
}

func (v verdict) orderUnknown(family string) bool {
	return v.state(family) == diagnosis.Unknown && slices.ContainsFunc(v.Diagnosis.Findings,
		func(f diagnosis.Finding) bool { return f.Code == diagnosis.CodeChainOrder && f.Family == family })
}

// remedies are those that change something.
func (v verdict) remedies(family string) (remedies []remedy) {
	for _, f := range v.Diagnosis.Findings {
		for _, r := range f.Remedies {
			if f.Family == family && !r.Diagnostic {
				remedies = append(remedies, remedy{inWords(r, family), family})
			}
		}
	}
	return remedies
}

func (c *cell) check(ctx context.Context) (v verdict) {
	c.t.Helper()
	out, err := c.A.Cmd(ctx, c.exporter, "check", "--interval=0s", "--output=json").Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		v.status = exit.ExitCode()
	} else {
		c.must(err)
	}
	if err := json.Unmarshal(out, &v); err != nil {
		c.t.Fatalf("check --output=json: %v: %s", err, out)
	}
	return v
}
