package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// kind is a kind of node on which whose packets they are, by which way they leave, or when decides what the rules do to them.
type kind struct {
	name   string
	change func(*lab.Options) // of the rig, which has kube-proxy's fixed rules on nftables
	setUp  string             // shell commands on the sender
	peer   string             // and on the receiver
	stalls string             // the requests that stall: see senders
	works  string             // and those that do not
	quotes string             // the rule that makes them stall
	says   diagnosis.State    // before a request stalls, if it is not what stalls says
	device string             // that is exposed, if it is not flannel.1
}

// first puts a rule ahead of kube-proxy's.
func first(rule string) string { return "iptables-nft -t nat -I POSTROUTING " + rule + "\n" }

// Commands that set up nodes. Addresses are those of the rig.
const (
	secondAddress  = "ip addr del 192.168.77.1/24 dev eth0\nip addr add 192.168.77.50/24 dev eth0\nip addr add 192.168.77.1/24 dev eth0\n"
	secondAddress6 = "ip addr add fd77::5011/64 dev eth0 nodad\n"
	onLoopback     = `ip addr add 10.255.0.1/32 dev lo
ip link del flannel.1
ip link add flannel.1 address 02:76:78:00:00:0a mtu 1450 type vxlan id 1 local 10.255.0.1 dstport 8472 nolearning udpcsum
ip link set flannel.1 addrgenmode none up
ip addr add 10.244.0.0/32 dev flannel.1
ip neigh add 10.244.1.0 lladdr 02:76:78:00:00:0b dev flannel.1 nud permanent
ip route add 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink
bridge fdb append 02:76:78:00:00:0b dev flannel.1 dst 192.168.77.2
`
	toLoopback   = "ip route add 10.255.0.1 via 192.168.77.1\nbridge fdb replace 02:76:78:00:00:0a dev flannel.1 dst 10.255.0.1\n"
	behindBridge = `ip link add br-vx address 02:76:78:00:00:0a type bridge
ip link set flannel.1 master br-vx
ip link set br-vx mtu 1430 addrgenmode none up
ip addr flush dev flannel.1
ip addr add 10.244.0.0/32 dev br-vx
ip route add 10.244.1.0/24 via 10.244.1.0 dev br-vx onlink
ip neigh add 10.244.1.0 lladdr 02:76:78:00:00:0b dev br-vx nud permanent
`
	istio = "ipset create probes hash:ip\nipset add probes %s\niptables-nft -t nat -I POSTROUTING -m owner --socket-exists -p tcp -m set --match-set probes dst -j SNAT --to-source 10.244.0.0\n"
	masq  = `iptables-nft -t nat -N IP-MASQ-AGENT
iptables-nft -t nat -A POSTROUTING -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT
iptables-nft -t nat -A IP-MASQ-AGENT -d 10.0.0.0/8 -j RETURN
iptables-nft -t nat -A IP-MASQ-AGENT -d 192.168.0.0/16 -j RETURN
iptables-nft -t nat -A IP-MASQ-AGENT -j MASQUERADE --random-fully
`
	morePeers = `ip route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink
ip neigh add 10.244.2.0 lladdr 02:76:78:00:00:0c dev flannel.1 nud permanent
bridge fdb append 02:76:78:00:00:0c dev flannel.1 dst 10.0.7.7
ip route add 10.0.0.0/8 via 192.168.77.2
`
	// One rule since kube-proxy 1.36.
	kube36 = "nft flush chain ip kube-proxy masquerading\nnft add rule ip kube-proxy masquerading meta mark and 0x8000 != 0 meta mark set mark xor 0x8000 masquerade fully-random\n"
	ahead  = "nft add table ip other\nnft add chain ip other post '{ type nat hook postrouting priority 90; }'\nnft add rule ip other post ip saddr 10.244.0.0/24 masquerade\n"
	// flannel up to 0.19, whose chain is made after kube-proxy's, and so runs first.
	oldFlannel = "iptables-nft -t nat -A POSTROUTING ! -s 10.244.0.0/16 -d 10.244.0.0/16 -j MASQUERADE\n"
	secondVTEP = `ip addr add 192.168.77.50/24 dev eth0
ip link add vx2 address 02:76:78:00:00:1a mtu 1450 type vxlan id 2 local 192.168.77.50 dev eth0 dstport 8472 nolearning %s
ip link set vx2 addrgenmode none up
ip addr add 10.245.0.0/32 dev vx2
ip neigh add 10.245.1.0 lladdr 02:76:78:00:00:1b dev vx2 nud permanent
ip route add 10.245.1.0/24 via 10.245.1.0 dev vx2 onlink
bridge fdb append 02:76:78:00:00:1b dev vx2 dst 192.168.77.2
iptables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE
`
	toSecondVTEP = `ip link add vx2 address 02:76:78:00:00:1b mtu 1450 type vxlan id 2 local 192.168.77.2 dev eth0 dstport 8472 nolearning
ip link set vx2 addrgenmode none up
ip addr add 10.245.1.0/32 dev vx2
ip neigh add 10.245.0.0 lladdr 02:76:78:00:00:1a dev vx2 nud permanent
ip route add 10.245.0.0/24 via 10.245.0.0 dev vx2 onlink
bridge fdb append 02:76:78:00:00:1a dev vx2 dst 192.168.77.50
ip route add 10.245.1.2 via 10.244.1.2
`
)

func connmark(mask string) string {
	return "iptables-nft -t mangle -A PREROUTING -j CONNMARK --restore-mark" + mask + "\niptables-nft -t mangle -A POSTROUTING -j CONNMARK --save-mark" + mask + "\n"
}

func kinds() []kind {
	none := func(o *lab.Options) { o.Rules = lab.RulesNone }
	six := func(o *lab.Options) { o.Rules, o.Family = lab.RulesNone, lab.IPv6 }
	native := func(o *lab.Options) { o.Rules, o.MarkBit = lab.RulesNFTables, 15 }
	noSum := func(o *lab.Options) { o.Rules, o.UDPChecksum = lab.RulesNone, false }
	const outMasquerade = "iptables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE\n"
	return []kind{
		{name: "pods' masquerade first", setUp: first("-s 10.244.0.0/24 ! -o cni0 -j MASQUERADE"), stalls: "pod", works: "node", quotes: "-s 10.244.0.0/24 ! -o cni0 -j MASQUERADE"},
		{name: "pods return first", setUp: first("-s 10.244.0.0/16 -d 10.244.0.0/16 -j RETURN"), stalls: "pod", works: "node", quotes: "-s 10.244.0.0/16 -d 10.244.0.0/16 -j RETURN"},
		{name: "pods' masquerade last", setUp: "iptables-nft -t nat -A POSTROUTING -s 10.244.0.0/24 ! -o cni0 -j MASQUERADE", works: "node pod direct"},
		{name: "nobody's masquerade first", setUp: first("-s 10.244.9.0/24 -j MASQUERADE"), works: "node pod"},
		{
			name: "pods' masquerade first, legacy", change: func(o *lab.Options) { o.Backend = lab.Legacy },
			setUp: "iptables-legacy -t nat -I POSTROUTING -s 10.244.0.0/24 ! -o cni0 -j MASQUERADE", stalls: "pod", works: "node", quotes: "-s 10.244.0.0/24 ! -o cni0 -j MASQUERADE",
		},
		{name: "one pod's masquerade first", setUp: first("-s 10.244.0.2/32 -j MASQUERADE"), stalls: "pod", works: "node", quotes: "-s 10.244.0.2/32 -j MASQUERADE"},
		{name: "containers' masquerade first", setUp: first("-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"), stalls: "container", works: "node pod", quotes: "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"},
		{name: "containers' masquerade last", setUp: "iptables-nft -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", works: "node pod container"},

		{name: "a secondary address", change: none, setUp: secondAddress + outMasquerade, stalls: "direct node pod", quotes: "-o eth0 -j MASQUERADE"},
		{name: "a secondary address, another's", change: none, setUp: "ip addr add 192.168.77.50/24 dev eth0\n" + outMasquerade, works: "direct node"},
		{name: "a secondary address, SNAT to itself", change: none, setUp: secondAddress + "iptables-nft -t nat -A POSTROUTING -o eth0 -j SNAT --to-source 192.168.77.1", works: "direct node"},
		{name: "a second IPv6 address", change: six, setUp: secondAddress6 + "ip6tables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE", stalls: "direct", quotes: "-o eth0 -j MASQUERADE"},
		{name: "one IPv6 address", change: six, setUp: "ip6tables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE", works: "direct node"},

		{name: "an address of lo, the NIC's rule", change: none, setUp: onLoopback + outMasquerade, peer: toLoopback, stalls: "direct node", quotes: "-o eth0 -j MASQUERADE"},
		{name: "an address of lo, lo's rule", change: none, setUp: onLoopback + "iptables-nft -t nat -A POSTROUTING -o lo -j MASQUERADE", peer: toLoopback, works: "direct node"},

		{name: "behind a bridge, the bridge's rule", setUp: behindBridge + first("-o br-vx -j MASQUERADE"), stalls: "node", quotes: "-o br-vx -j MASQUERADE"},
		{name: "behind a bridge, the device's rule", setUp: behindBridge + first("-o flannel.1 -j MASQUERADE"), works: "node pod"},

		{name: "connections' marks restored", setUp: connmark(""), stalls: "rested", works: "pod", quotes: "-j CONNMARK --restore-mark"},
		{name: "connections' marks restored with a mask", setUp: connmark(" --nfmask 0xff --ctmask 0xff"), works: "rested pod"},

		{name: "a set of pods of this node", setUp: fmt.Sprintf(istio, "10.244.0.2"), works: "node pod"},
		{name: "a set of pods beyond the tunnel", setUp: fmt.Sprintf(istio, "10.244.1.2"), stalls: "node", works: "pod", quotes: "-j SNAT --to-source 10.244.0.0"},

		{name: "peers in two ranges", setUp: masq + morePeers, works: "node pod"},
		{
			name: "a peer outside", setUp: masq + morePeers + "ip route add 203.0.113.0/24 via 192.168.77.2\nbridge fdb replace 02:76:78:00:00:0b dev flannel.1 dst 203.0.113.7\n",
			peer: "ip addr add 203.0.113.7/32 dev lo", stalls: "node pod direct", quotes: "-A IP-MASQ-AGENT -j MASQUERADE",
		},

		{name: "one rule, bit 15", change: native, setUp: kube36, works: "node pod"},
		{name: "one rule, bit 15, pods' masquerade first", change: native, setUp: kube36 + ahead, stalls: "pod", works: "node", quotes: "ip saddr 10.244.0.0/24 masquerade"},
		{name: "chains of one priority, the unaware one younger", change: native, setUp: oldFlannel, stalls: "node", works: "pod", says: diagnosis.Unknown, quotes: "! -s 10.244.0.0/16 -d 10.244.0.0/16 -j MASQUERADE"},
		{
			name: "chains of one priority, the unaware one older", change: none,
			setUp: oldFlannel + nftKube, works: "node pod", says: diagnosis.Unknown,
			quotes: "! -s 10.244.0.0/16 -d 10.244.0.0/16 -j MASQUERADE",
		},

		{name: "two devices, the NATed one without a checksum", change: none, setUp: fmt.Sprintf(secondVTEP, "noudpcsum"), peer: toSecondVTEP, works: "direct second"},
		{name: "two devices, the NATed one with a checksum", change: noSum, setUp: fmt.Sprintf(secondVTEP, "udpcsum"), peer: toSecondVTEP, stalls: "second", works: "direct", quotes: "-o eth0 -j MASQUERADE", device: "vx2"},

		{name: "a user's rule", setUp: "iptables-nft -t nat -A POSTROUTING -m owner --uid-owner 0 -j MASQUERADE --random-fully", stalls: "node direct", works: "pod", quotes: "--uid-owner 0 -j MASQUERADE"},
		// Which users run processes is not modeled (docs/DIAGNOSIS.md).
		{
			name: "the rule of a user without processes", setUp: "iptables-nft -t nat -A POSTROUTING -m owner --uid-owner 4242 -j MASQUERADE --random-fully", works: "node pod direct",
			says: diagnosis.Exposed, quotes: "--uid-owner 4242 -j MASQUERADE",
		},
	}
}

// nftKube is the masquerading of kube-proxy's nftables mode.
const nftKube = `nft -f - <<R
table ip kube-proxy {
	chain masquerading { meta mark and 0x4000 != 0 meta mark set mark xor 0x4000 masquerade fully-random; }
	chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}
R
`

// Before, during and after a stall check says what real requests meet, and quotes one rule; the guard acts where they stall, which cures
// them, and nowhere else, unless it is told the device.
func TestKindsOfNodes(t *testing.T) {
	t.Parallel()
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(k.setUp, "--uid-owner 4242") {
				labtest.NeedRoot(t, "a rule of another user")
			}
			n := k.build(t)
			before, during := diagnosis.Healthy, diagnosis.Healthy
			if k.stalls != "" {
				before, during = diagnosis.Exposed, diagnosis.Failing
			}
			if k.says != "" {
				before = k.says
				if k.stalls == "" {
					during = k.says
				}
			}
			k.judged(t, n, "before", before)
			k.requested(t, n, k.stalls)
			k.judged(t, n, "during", during)
			if k.says == "" { // else the guard needs the flows to know
				if err := n.FlushOuterFlows(); err != nil {
					t.Fatal(err)
				}
				k.judged(t, n, "after", before)
			}

			guard(t, n.A)
			acts := k.stalls != "" || k.says == diagnosis.Exposed
			if off := n.offloadOff(t); acts != slices.Contains(off, k.exposed()) || len(off) > 1 {
				t.Errorf("the guard has switched the offload of %v off", off)
			}
			if !acts {
				guard(t, n.A, "--device=flannel*")
				if off := n.offloadOff(t); !slices.Equal(off, []string{lab.Device}) {
					t.Errorf("with --device the guard has switched the offload of %v off", off)
				}
			}
			k.requested(t, n, "")
			k.judged(t, n, "cured", diagnosis.Healthy)
		})
	}
}

func (k kind) exposed() string {
	if k.device != "" {
		return k.device
	}
	return lab.Device
}

func (k kind) build(t *testing.T) *nodes {
	t.Helper()
	o := lab.LiveFailure()
	o.Rules, o.Backend = lab.RulesFixed, lab.NFT
	if k.change != nil {
		k.change(&o)
	}
	n := newWatched(t, o)
	n.guests = map[string]*labtest.NS{"pod": n.guest("cni0", "10.244.0.1/24", "10.244.0.2/24")}
	if strings.Contains(k.stalls+k.works, "container") {
		n.guests["container"] = n.guest("docker0", "172.17.0.1/16", "172.17.0.2/16")
	}
	for ns, script := range map[*lab.NS]string{n.A: k.setUp, n.B: k.peer, n.Pod: "ip addr add 10.245.1.2/32 dev lo"} {
		if _, err := ns.RunInput(script, "sh", "-e"); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// guest makes a namespace behind an interface of the sender.
func (n *nodes) guest(device, gateway, address string) *labtest.NS {
	n.t.Helper()
	ns := labtest.New(n.t, "guest")
	addr, _, _ := strings.Cut(gateway, "/")
	if err := errors.Join(
		n.A.IP("link add "+device+" type veth peer name eth0 netns "+ns.Name, "addr add "+gateway+" dev "+device, "link set "+device+" addrgenmode none up"),
		ns.IP("addr add "+address+" dev eth0", "link set eth0 addrgenmode none up", "route add default via "+addr),
	); err != nil {
		n.t.Fatal(err)
	}
	return ns
}

// judged holds check's verdict, and the rules that it gives as evidence of something wrong, against what is expected.
func (k kind) judged(t *testing.T, n *nodes, when string, want diagnosis.State) {
	t.Helper()
	d := n.check(t)
	if d.State != want {
		t.Errorf("%s: %s, want %s: %s", when, d.State, want, d.Headline)
	}
	for _, f := range d.Findings {
		if f.Severity.Rank() > diagnosis.Warning.Rank() {
			continue
		}
		if f.Device != "" && f.Device != k.exposed() {
			t.Errorf("%s: a finding about %s: %s", when, f.Device, f.Summary)
		}
		for _, e := range f.Evidence {
			if e.Name == "rule" && (k.quotes == "" || !strings.Contains(e.Value, k.quotes)) {
				t.Errorf("%s: the rule %s is quoted, want %s", when, e.Value, k.quotes)
			}
		}
	}
	if quoted := fmt.Sprintf("%+v", d.Findings); want != diagnosis.Healthy && k.quotes != "" && !strings.Contains(quoted, k.quotes) {
		t.Errorf("%s: %s is not quoted: %s", when, k.quotes, quoted)
	}
}

// requested makes every request of the kind; those in stalls must.
func (k kind) requested(t *testing.T, n *nodes, stalls string) {
	t.Helper()
	for request := range strings.FieldsSeq(k.stalls + " " + k.works) {
		want := slices.Contains(strings.Fields(stalls), request)
		got, err := n.wire.Stalls(t.Context(), n.request(request))
		if err != nil {
			t.Errorf("%s: %v", request, err)
		} else if got != want {
			t.Errorf("%s: stalls %t, want %t", request, got, want)
		}
	}
}

// request makes a kind of request: from whom to the NodePort, from the node to the pod itself, or to it through the second device.
func (n *nodes) request(kind string) func(context.Context) error {
	from, to := n.A, n.NodePort()
	switch kind {
	case "node":
	case "direct":
		to = netip.AddrPortFrom(n.PodIP, lab.PodPort)
	case "second":
		to = netip.MustParseAddrPort(fmt.Sprintf("10.245.1.2:%d", lab.PodPort))
	case "rested":
		return n.rested
	default:
		from = n.guests[kind].NS
	}
	return func(ctx context.Context) error {
		_, err := from.Request(ctx, to)
		return err
	}
}

// rested opens a connection of the pod's and asks over it when its outer flow is forgotten, as after a pause longer than
// nf_conntrack_udp_timeout. Nothing of it is sent again afterwards.
func (n *nodes) rested(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	limit := time.Until(deadline)
	ctx = n.t.Context() // the limit is the question's
	c, err := n.guests["pod"].DialContext(ctx, "tcp4", n.NodePort().String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := errors.Join(c.(*net.TCPConn).SetLinger(0), n.FlushOuterFlows(), c.SetDeadline(time.Now().Add(limit))); err != nil {
		return err
	}
	_, wrote := c.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	_, read := c.Read(make([]byte, 1))
	return errors.Join(wrote, read)
}

// guard runs the guard in a namespace until it has dealt with the devices that are there.
func guard(t *testing.T, ns *lab.NS, args ...string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := ns.Cmd(t.Context(), append([]string{labtest.Binary(t), "guard"}, args...)...)
	var log strings.Builder
	cmd.Env, cmd.Stderr = append(cmd.Environ(), "NOTIFY_SOCKET="+socket), &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, 100)
	err = l.SetReadDeadline(time.Now().Add(20 * time.Second))
	size, readErr := l.Read(ready)
	if err := errors.Join(err, readErr, cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil || string(ready[:size]) != "READY=1" {
		t.Errorf("guard: %q, %v\n%s", ready[:size], err, log.String())
	}
}

// offloadOff names the VXLAN devices of the sender whose checksum offload is off.
func (n *nodes) offloadOff(t *testing.T) (names []string) {
	t.Helper()
	for _, d := range checkIn(t, n.A).Observation.Now.Devices {
		if f, ok := d.Features.Get("tx-checksum-ip-generic"); ok && !f.Active {
			names = append(names, d.Name)
		}
	}
	return names
}

// moveAway moves the VXLAN device of the sender to another namespace, where it is set up again.
func (n *nodes) moveAway(t *testing.T) *labtest.NS {
	t.Helper()
	away := labtest.New(t, "away")
	if err := n.A.IP("link set " + lab.Device + " netns " + away.Name); err != nil {
		t.Fatal(err)
	}
	away.RunInput("ip link set flannel.1 addrgenmode none up\nip addr add 10.244.0.0/32 dev flannel.1\nip neigh replace 10.244.1.0 lladdr 02:76:78:00:00:0b dev flannel.1 nud permanent\n"+
		"ip route add 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink\nbridge fdb replace 02:76:78:00:00:0b dev flannel.1 dst 192.168.77.2\n", "sh", "-e")
	return away
}

// A device that was moved to another namespace, as Docker Swarm does it, is judged where its outer packets leave; where it is, check says
// which namespace that is, and the guard acts on it if it is told so.
func TestMovedDevice(t *testing.T) {
	t.Parallel()
	for rule, stalls := range map[string]bool{"-o eth0 -j MASQUERADE --random-fully": true, "-o eth0 -p tcp -j MASQUERADE --random-fully": false} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			o := lab.LiveFailure()
			o.Rules, o.Backend, o.Port = lab.RulesNone, lab.NFT, 4789
			n := newWatched(t, o)
			away := n.moveAway(t)
			if _, err := n.A.Run("sh", "-c", "iptables-nft -t nat -A POSTROUTING "+rule); err != nil {
				t.Fatal(err)
			}
			asks := func(when string, stalls bool) {
				got, err := n.wire.Stalls(t.Context(), func(ctx context.Context) error {
					_, err := away.Request(ctx, netip.AddrPortFrom(n.PodIP, lab.PodPort))
					return err
				})
				if err != nil || got != stalls {
					t.Errorf("%s: stalls %t, want %t; %v", when, got, stalls, err)
				}
			}
			k := kind{quotes: rule}
			before, during := diagnosis.Healthy, diagnosis.Healthy
			if stalls {
				before, during = diagnosis.Exposed, diagnosis.Failing
			}
			k.judged(t, n, "before", before)
			asks("before", stalls)
			k.judged(t, n, "during", during)

			there := checkIn(t, away.NS)
			if text := fmt.Sprintf("%+v", there.Diagnosis); there.Diagnosis.State != diagnosis.Unknown || !strings.Contains(text, "nsenter --net="+n.A.Path()) {
				t.Errorf("where the device is: %s", text)
			}
			guard(t, away.NS)
			asks("guarded by the verdict", stalls)
			guard(t, away.NS, "--device=flannel*")
			asks("guarded", false)
		})
	}
}

// What a receiver counts of a device that was moved away is not called another's.
func TestReceiverWhoseDeviceWasMovedAway(t *testing.T) {
	t.Parallel()
	o := lab.LiveFailure()
	o.Port = 4789
	n := newWatched(t, o)
	away := labtest.New(t, "away")
	if err := n.B.IP("link set " + lab.Device + " netns " + away.Name); err != nil {
		t.Fatal(err)
	}
	if err := away.IP("link set " + lab.Device + " up"); err != nil {
		t.Fatal(err)
	}
	before := checkIn(t, n.B).Observation.Now
	n.fail()
	now := checkIn(t, n.B).Observation.Now
	now.Earlier = &before
	d := diagnosis.Judge(&now)
	if d.State == diagnosis.Healthy || slices.ContainsFunc(d.Findings, func(f diagnosis.Finding) bool { return f.Code == diagnosis.CodeErrorsElsewhere }) {
		t.Errorf("%s: %s", d.State, d.Headline)
	}
}

// NATed entries that NOTRACK has left are no failure, while those that no remedy was taken against are one.
func TestNotrackJustApplied(t *testing.T) {
	t.Parallel()
	n := newWatched(t, lab.LiveFailure())
	if !n.stalls() || n.check(t).State != diagnosis.Failing {
		t.Error("no failure")
	}
	if err := n.SetNotrack(true); err != nil {
		t.Fatal(err)
	}
	if n.stalls() {
		t.Error("stalls in spite of NOTRACK")
	}
	if d := n.check(t); d.State != diagnosis.Healthy || !slices.ContainsFunc(d.Findings, func(f diagnosis.Finding) bool { return f.Code == diagnosis.CodeLeftOver }) {
		t.Errorf("%s: %s", d.State, d.Headline)
	}
}

// What NATs packets in a way that is not modeled, here a mark that nftables sets at the device itself, is believed as soon as it is seen;
// no rule is quoted for the culprit, and the rules are not believed afterwards.
func TestRulesJudgedCleanWrongly(t *testing.T) {
	t.Parallel()
	o := lab.LiveFailure()
	o.Rules = lab.RulesFixed
	n := newNodes(t, o)
	const rules = "table netdev t { chain c { type filter hook egress device flannel.1 priority 0; meta mark set 0x4000; }; }"
	if _, err := n.A.RunInput(rules, "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	is(t, n.sender.Scrape(), map[string]float64{exposure("offloaded_checksum", "clear"): 1})
	if !n.stalls() {
		t.Error("the request did not stall")
	}
	eventually(t, n.sender, map[string]float64{exposure("offloaded_checksum", "active"): 1})
	for _, f := range n.check(t).Findings {
		if f.Code == diagnosis.CodeNATSpoils && slices.ContainsFunc(f.Evidence, func(e diagnosis.Evidence) bool { return e.Name == "rule" }) {
			t.Errorf("a rule is quoted as the culprit: %+v", f.Evidence)
		}
	}
	if err := n.FlushOuterFlows(); err != nil {
		t.Fatal(err)
	}
	eventually(t, n.sender, map[string]float64{exposure("offloaded_checksum", "unknown"): 1})
	page, err := n.sender.Get(t.Context(), "/")
	if err != nil || !strings.Contains(string(page), "what NATed them is not known") {
		t.Errorf("the page does not say why the device is unknown (%v)", err)
	}
}
