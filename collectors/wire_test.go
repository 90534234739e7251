package collectors_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/kernel/capture"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

// wirePublisher publishes one observation.
type wirePublisher struct {
	*collectors.Wire
	n *node.Node
}

func (p wirePublisher) Collect(ch chan<- prometheus.Metric) { p.Publish(p.n, ch) }

func knownWith(underlays ...string) *node.Node {
	n := &node.Node{Ports: []node.Port{{Port: 8472, IPv4: true, Device: true}}}
	for i, u := range underlays {
		n.Devices = append(n.Devices, node.Device{Link: rtnl.Link{Name: fmt.Sprintf("vxlan%d", i), Port: 8472}, Underlay: u})
	}
	return n
}

func TestWirePublish(t *testing.T) {
	w := &node.Wire{
		Interfaces: []string{"eth0", "eth1"}, SampleRatio: 0.25, SampleRatioOut: 0.125, Captured: 7, Lost: 2,
		Packets: []node.WireCount{
			{Family: node.IPv4, Direction: "in", Verdict: "bad", Packets: 8},
			{Family: node.IPv6, Direction: "out", Verdict: "completed_ok", Packets: 20},
		},
		Bad: []node.WirePeer{
			{Direction: "in", Peer: "192.0.2.7", Variant: node.ZeroChecksum, Packets: 4},
			{Direction: "out", Peer: "other", Variant: "unknown", Packets: 4},
		},
	}
	c := wirePublisher{collectors.NewWire(collectors.WireConfig{}), &node.Node{Wire: w}}
	want := `# HELP vxlan_wire_bad_packets_total VXLAN packets with a wrong outer UDP checksum, by sender (in) or receiver (out) and variant, each counted for as many as it stands for.
# TYPE vxlan_wire_bad_packets_total counter
vxlan_wire_bad_packets_total{direction="in",peer="192.0.2.7",variant="zero_checksum"} 4
vxlan_wire_bad_packets_total{direction="out",peer="other",variant="unknown"} 4
# HELP vxlan_wire_captured_packets_total VXLAN packets that were judged, not scaled up.
# TYPE vxlan_wire_captured_packets_total counter
vxlan_wire_captured_packets_total 7
# HELP vxlan_wire_interfaces Underlay NICs that are captured on and up.
# TYPE vxlan_wire_interfaces gauge
vxlan_wire_interfaces 2
# HELP vxlan_wire_lost_packets_total VXLAN packets that were picked but not judged: the socket's queue was full (tp_drops of PACKET_STATISTICS) or the kernel could not describe them.
# TYPE vxlan_wire_lost_packets_total counter
vxlan_wire_lost_packets_total 2
# HELP vxlan_wire_packets_total VXLAN packets with a UDP checksum field other than 0 on the underlay NICs, by verdict on that field, each counted for as many as it stands for (AF_PACKET). A GSO packet counts once.
# TYPE vxlan_wire_packets_total counter
vxlan_wire_packets_total{direction="in",family="ipv4",verdict="bad"} 8
vxlan_wire_packets_total{direction="out",family="ipv6",verdict="completed_ok"} 20
# HELP vxlan_wire_sample_ratio Share of the VXLAN packets with a checksum that is judged now; 1 is all of them. Picked at random (SKF_AD_RANDOM), and a busy NIC is captured on part of the time; of several NICs, the least.
# TYPE vxlan_wire_sample_ratio gauge
vxlan_wire_sample_ratio{direction="in"} 0.25
vxlan_wire_sample_ratio{direction="out"} 0.125
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	problems, err := promlint.New(strings.NewReader(want)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	c.n = &node.Node{}
	if n := testutil.CollectAndCount(c); n != 0 {
		t.Errorf("%d metrics of an observation without the probe", n)
	}
}

func TestWireObserveErrors(t *testing.T) {
	abroad := int32(3)
	refused := func() (capture.Socket, error) {
		return nil, fmt.Errorf("open: %w", os.NewSyscallError("socket", unix.EPERM))
	}
	opened := 0
	for name, tt := range map[string]struct {
		known  *node.Node
		open   capture.Opener
		status node.Status
		says   string
	}{
		"no devices": {known: knownWith(), status: node.None, says: "no VXLAN device"},
		"not permitted, once": {
			known: knownWith("eth0", "eth1", "eth2"), status: node.NotPermitted, says: "operation not permitted",
			open: func() (capture.Socket, error) { opened++; return refused() },
		},
		"no underlay": {known: knownWith(""), status: node.Unsupported, says: "vxlan0"},
		"underlay abroad": {
			known:  &node.Node{Devices: []node.Device{{Link: rtnl.Link{Name: "moved", LinkNetns: &abroad}}}},
			status: node.Unsupported, says: "another network namespace",
		},
		"interface gone": {known: knownWith("nosuch0"), status: node.None, says: "nosuch0"},
	} {
		t.Run(name, func(t *testing.T) {
			c := collectors.NewWire(collectors.WireConfig{Open: tt.open})
			fill, err := c.Observe(t.Context(), tt.known)
			if fill != nil {
				t.Error("something was found")
			}
			if r := node.NewResult(err, 0); r.Status != tt.status || !strings.Contains(r.Error, tt.says) ||
				strings.Count(r.Error, tt.says) != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
	// An interface that is gone hides no failure of another.
	c := collectors.NewWire(collectors.WireConfig{Open: func() (capture.Socket, error) {
		return &onlyGone{newScript()},
			nil
	}})
	if _, err := c.Observe(t.Context(), knownWith("eth0", "gone0")); node.Classify(err) != node.Failed ||
		!errors.Is(err, unix.EIO) {
		t.Errorf("one gone and one broken: %v", err)
	}
	if opened != 1 {
		t.Errorf("asked %d times for what is refused", opened)
	}
}

// onlyGone is a socket that fails, in a namespace without gone0.
type onlyGone struct{ *script }

func (*onlyGone) Interface(name string) (capture.Interface, error) {
	if name == "gone0" {
		return capture.Interface{}, fmt.Errorf("%w: %w", unix.ENODEV, fs.ErrNotExist)
	}
	return capture.Interface{}, unix.EIO
}

// script is a socket that hands over given packets, then waits.
type script struct {
	packets  chan []byte
	closed   chan struct{}
	outgoing bool
	mtu      int
}

func newScript() *script {
	return &script{packets: make(chan []byte, 1000), closed: make(chan struct{}), mtu: 1500}
}

func (s *script) open() (capture.Socket, error) { return s, nil }
func (s *script) Interface(string) (capture.Interface, error) {
	return capture.Interface{Index: 1, MTU: s.mtu, Up: true}, nil
}
func (s *script) SetFilter([]bpf.RawInstruction) error      { return nil }
func (s *script) Bind(int) error                            { return nil }
func (s *script) Stats() (packets, drops uint32, err error) { return 0, 0, nil }
func (s *script) IgnoreOutgoing(bool) error                 { return nil }
func (s *script) Rest(int) error                            { return nil }
func (s *script) Close() error                              { close(s.closed); return nil }

func (s *script) Receive(into []capture.Message) (n int, err error) {
	select {
	case p := <-s.packets:
		m := &into[0]
		clear(m.Data[:10])
		m.Length, m.ControlLength, m.Outgoing = 10+copy(m.Data[10:], p), 0, s.outgoing
		return 1, nil
	default:
		return 0, unix.EAGAIN
	}
}

// badFrame is a VXLAN packet from source with a field that NAT made of "none".
func badFrame(source netip.Addr) []byte {
	f := make([]byte, 14+20+8+8+20)
	f[12] = 8
	ip := f[14:]
	ip[0], ip[3], ip[8], ip[9] = 0x45, byte(len(ip)), 64, 17
	a := source.As4()
	copy(ip[12:], a[:])
	copy(ip[16:], []byte{192, 0, 2, 1})
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	sum = sum>>16 + sum&0xffff
	ip[10], ip[11] = byte(^sum>>8), byte(^sum)
	udp := ip[20:]
	udp[0], udp[1], udp[2], udp[3], udp[5], udp[6], udp[7], udp[8] = 0x90, 1, 8472>>8, 8472&0xff, byte(len(udp)),
		0xff, 0xff, 8
	return f
}

// TestWirePeersAreBounded: past the limit all are "other", and none is lost.
func TestWirePeersAreBounded(t *testing.T) {
	s := newScript()
	c := collectors.NewWire(collectors.WireConfig{MaxPeers: 3, MaxPacketsPerSecond: 1 << 20, Open: s.open})
	startWire(t, c)
	known := knownWith("eth0")
	if _, err := c.Observe(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	const packets = 500
	for i := range packets {
		s.packets <- badFrame(netip.AddrFrom4([4]byte{10, 0, 0, byte(i % 10)}))
	}
	w := await(t, c, known, packets)
	total, names := 0.0, []string{}
	for _, b := range w.Bad {
		total += b.Packets
		names = append(names, b.Peer)
	}
	if want := []string{"10.0.0.0", "10.0.0.1", "10.0.0.2", "other"}; !slices.Equal(names, want) || total != packets {
		t.Errorf("%v, want %d of %v", w.Bad, packets, want)
	}
	if len(w.Samples) != 16 || w.Samples[0].Source.Addr() != netip.MustParseAddr("10.0.0.9") ||
		w.Samples[15].Source.Addr() != netip.MustParseAddr("10.0.0.4") {
		t.Errorf("samples: %v", w.Samples)
	}
	// All verdicts of the family in use are there.
	if len(w.Packets) != 10 {
		t.Errorf("%d series: %v", len(w.Packets), w.Packets)
	}
}

// TestWireWeighs: at a ratio of 1/8 each packet counts for eight.
func TestWireWeighs(t *testing.T) {
	s := newScript()
	s.outgoing = true
	c := collectors.NewWire(collectors.WireConfig{SampleRate: 0.125, Open: s.open})
	startWire(t, c)
	known := knownWith("eth0")
	if _, err := c.Observe(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		s.packets <- badFrame(netip.MustParseAddr("10.0.0.1"))
	}
	w := await(t, c, known, 5)
	if len(w.Bad) != 1 || w.Bad[0] != (node.WirePeer{
		Direction: "out", Peer: "192.0.2.1", Variant: node.ZeroChecksum,
		Packets: 40,
	}) || w.SampleRatio != 0.125 || w.SampleRatioOut != 0.125 {
		t.Errorf("%+v", w)
	}
}

// TestWireRestarts: a socket that breaks is an error once, and replaced; its counts stay.
func TestWireRestarts(t *testing.T) {
	var scripts []*script
	broken := errors.New("broken")
	c := collectors.NewWire(collectors.WireConfig{Open: func() (capture.Socket, error) {
		s := newScript()
		scripts = append(scripts, s)
		if len(scripts) == 1 {
			return &breaks{script: s, err: broken}, nil
		}
		return s, nil
	}})
	startWire(t, c)
	known := knownWith("eth0")
	if _, err := c.Observe(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	scripts[0].packets <- badFrame(netip.MustParseAddr("10.0.0.1"))
	var err error
	for range 100 {
		if _, err = c.Observe(t.Context(), known); err != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !errors.Is(err, broken) || len(scripts) != 2 {
		t.Fatalf("%v, %d sockets", err, len(scripts))
	}
	scripts[1].packets <- badFrame(netip.MustParseAddr("10.0.0.1"))
	if w := await(t, c, known, 2); len(w.Bad) != 1 || w.Bad[0].Packets != 2 || w.Captured != 2 {
		t.Errorf("%+v", w)
	}
}

// breaks fails for good after the first packet.
type breaks struct {
	*script
	err error
	n   int
}

func (b *breaks) Receive(into []capture.Message) (n int, err error) {
	if b.n++; b.n > 1 {
		return 0, b.err
	}
	return b.script.Receive(into)
}

// TestWireFollowsUnderlays: interfaces come and go with the devices, and the counters never go back.
func TestWireFollowsUnderlays(t *testing.T) {
	sockets := 0
	open := map[*script]bool{}
	c := collectors.NewWire(collectors.WireConfig{Open: func() (capture.Socket, error) {
		s := newScript()
		s.packets <- badFrame(netip.MustParseAddr("10.0.0.1"))
		open[s] = true
		sockets++
		return s, nil
	}})
	stop := startWire(t, c)
	for i, step := range []struct {
		underlays []string
		sockets   int // made so far; each saw one packet
	}{
		{[]string{"eth0"}, 1},
		{[]string{"eth0", "eth1", "eth0"}, 2},
		{[]string{"eth1"}, 2},
		{[]string{"eth1", "eth0"}, 3},
	} {
		known := knownWith(step.underlays...)
		w := await(t, c, known, uint64(step.sockets))
		want := slices.Compact(slices.Sorted(slices.Values(step.underlays)))
		if !slices.Equal(w.Interfaces, want) || sockets != step.sockets || len(w.Bad) != 1 ||
			w.Bad[0].Packets != float64(step.sockets) {
			t.Errorf("step %d: %+v, %d sockets", i, w, sockets)
		}
	}
	stop()
	for s := range open {
		select {
		case <-s.closed:
		default:
			t.Error("a socket stays open")
		}
	}
	if _, err := c.Observe(t.Context(), knownWith("eth0")); err == nil || sockets != 3 {
		t.Errorf("after the end: %v, %d sockets", err, sockets)
	}
}

// startWire runs the probe until the test ends or stop is called.
func startWire(t *testing.T, c *collectors.Wire) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); c.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return stop
}

// await observes until n packets have been looked at.
func await(t *testing.T, c *collectors.Wire, known *node.Node, n uint64) *node.Wire {
	t.Helper()
	var out node.Node
	for range 200 {
		fill, err := c.Observe(t.Context(), known)
		if err != nil {
			t.Fatal(err)
		}
		fill(&out)
		if out.Wire.Captured >= n {
			return out.Wire
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%d packets looked at, want %d", out.Wire.Captured, n)
	return nil
}
