package collectors

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vxlan_exporter/internal/kernel/capture"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

// WireConfig configures Wire. The comment of a field says what its zero value means.
type WireConfig struct {
	MaxPeers            int      // peers with a label of their own in vxlan_wire_bad_packets_total; 0: 64
	SampleRate          float64  // highest sampling ratio, above 0 and at most 1; 0: 1
	MaxPacketsPerSecond int      // packets judged per second, all interfaces together; the ratio follows; 0: 1000
	Interfaces          []string // NICs to capture on beside those that VXLAN devices name
	Proc                string   // where procfs is mounted; "": /proc
	Logger              *slog.Logger
	// Devices finds the VXLAN devices after a link event; nil: they are found by Observe alone.
	Devices Collector
	Listen  func() (rtnl.Events, error) // nil: rtnetlink, in the network namespace of the thread that calls Observe first
	Open    capture.Opener              // nil: capture.Open, in the network namespace of the thread that calls Observe
}

// Defaults of WireConfig.
const (
	DefaultWireMaxPeers            = 64
	DefaultWireSampleRate          = 1.0
	DefaultWireMaxPacketsPerSecond = 1000
)

// Wire judges the checksums of the VXLAN packets on the NICs below the VXLAN devices. It needs CAP_NET_RAW.
//
// The first Observe starts the captures; packets are then counted in the background until the context of Run ends.
type Wire struct {
	Metrics
	cfg       WireConfig
	sampler   *wireSampler
	tally     *wireTally
	suspicion *wireSuspicion

	ports atomic.Pointer[[]uint16] // as known last

	ctx  context.Context // ends with Run
	stop context.CancelFunc

	mu        sync.Mutex
	listening bool      // to link events
	eventTime time.Time // start of the newest device observation that a link event caused
	watches   map[string]*wireWatch
	past      capture.Stats // of watches that have ended
}

// NewWire returns the collector called "wire".
func NewWire(cfg WireConfig) *Wire {
	cfg.MaxPeers = cmp.Or(cfg.MaxPeers, DefaultWireMaxPeers)
	cfg.SampleRate = cmp.Or(cfg.SampleRate, DefaultWireSampleRate)
	cfg.MaxPacketsPerSecond = cmp.Or(cfg.MaxPacketsPerSecond, DefaultWireMaxPacketsPerSecond)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	cfg.Proc = cmp.Or(cfg.Proc, "/proc")
	if cfg.Listen == nil {
		cfg.Listen = rtnl.ListenLinks
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Wire{
		cfg: cfg, ctx: ctx, stop: stop,
		suspicion: &wireSuspicion{errors: func() (uint64, error) { return udpChecksumErrors(cfg.Proc) }},
		sampler:   newWireSampler(cfg.MaxPacketsPerSecond, cfg.SampleRate, time.Now()),
		tally:     newWireTally(cfg.MaxPeers),
		watches:   map[string]*wireWatch{},
		Metrics:   wireMetrics(),
	}
	c.ports.Store(&[]uint16{})
	return c
}

// Run stops the captures when ctx ends, and waits for them.
func (c *Wire) Run(ctx context.Context) {
	<-ctx.Done()
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.watches {
		if err := c.drop(name); err != nil {
			c.cfg.Logger.Warn("wire: close", "interface", name, "err", err)
		}
	}
}

// Observe follows the devices and ports in known, starts captures on new interfaces and fills node.Wire with the counts
// so far.
func (c *Wire) Observe(_ context.Context, known *node.Node) (Fill, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil, errors.New("wire: the collector has been stopped")
	}
	c.listen()
	families, err := c.followDevices(known)
	if len(c.watches) == 0 && c.past == (capture.Stats{}) && err != nil {
		return nil, err // nothing was ever captured: there are no counts, not even 0
	}
	w := c.counts(slices.Sorted(maps.Keys(families)))
	return func(n *node.Node) { n.Wire = w }, err
}

func (c *Wire) counts(families []string) *node.Wire {
	w := &node.Wire{Interfaces: []string{}}
	total, duty := c.past, capture.Duty{In: 1, Out: 1}
	for _, name := range slices.Sorted(maps.Keys(c.watches)) {
		s := c.watches[name].capture.State()
		if s.Up {
			w.Interfaces = append(w.Interfaces, name)
		}
		duty = capture.Duty{In: min(duty.In, s.Duty.In), Out: min(duty.Out, s.Duty.Out)}
		total.Add(s.Stats)
	}
	w.SampleRatio, w.SampleRatioOut = c.sampler.current()*duty.In, c.sampler.current()*duty.Out
	w.Captured, w.Lost = total.Captured, total.Lost+total.Unreadable
	c.tally.store(w, families)
	return w
}

func wireMetrics() Metrics {
	each := func(samples func(w *node.Wire, emit Emit)) func(*node.Node, Emit) {
		return func(n *node.Node, emit Emit) {
			if n.Wire != nil {
				samples(n.Wire, emit)
			}
		}
	}
	return NewMetrics("wire", Metric{
		Name: "wire_packets_total", Labels: []string{"family", "direction=in,out", "verdict"},
		Help: "VXLAN packets with a UDP checksum field other than 0 on the underlay NICs, by verdict on that field, each " +
			"counted for as many as it stands for (AF_PACKET). A GSO packet counts once.",
		Notes: "`ok`; `completed_ok`: right once the inner sum is finished; `partial`: to be finished by the NIC; " +
			"`unjudgeable`; `bad`.",
		Samples: each(func(w *node.Wire, emit Emit) {
			for _, p := range w.Packets {
				emit(p.Packets, p.Family, p.Direction, p.Verdict)
			}
		}),
	}, Metric{
		Name: "wire_bad_packets_total", Labels: []string{"direction=in,out", "peer", "variant"},
		Help: "VXLAN packets with a wrong outer UDP checksum, by sender (in) or receiver (out) and variant, each counted " +
			"for as many as it stands for.",
		Notes: "At most `--wire.max-peers` peers, then `other`. Variants: `zero_checksum`, `offloaded_checksum`, " +
			"`unfinished_checksum` (a NIC or hypervisor left the pseudo-header's sum), `unknown`.",
		Samples: each(func(w *node.Wire, emit Emit) {
			for _, b := range w.Bad {
				emit(b.Packets, b.Direction, b.Peer, b.Variant)
			}
		}),
	}, Metric{
		Name: "wire_sample_ratio", Labels: []string{"direction=in,out"},
		Help: "Share of the VXLAN packets with a checksum that is judged now; 1 is all of them. Picked at random " +
			"(SKF_AD_RANDOM), and a busy NIC is captured on part of the time; of several NICs, the least.",
		Notes: "Picked at random above `--wire.max-packets-per-second`; a NIC that carries more than 100,000 packets a " +
			"second in a direction is captured on part of the time. Below 1, a single bad packet may be missed.",
		Samples: each(func(w *node.Wire, emit Emit) {
			emit(w.SampleRatio, "in")
			emit(w.SampleRatioOut, "out")
		}),
	}, Metric{
		Name:    "wire_captured_packets_total",
		Help:    "VXLAN packets that were judged, not scaled up.",
		Samples: each(func(w *node.Wire, emit Emit) { emit(float64(w.Captured)) }),
	}, Metric{
		Name: "wire_lost_packets_total",
		Help: "VXLAN packets that were picked but not judged: the socket's queue was full (tp_drops of PACKET_STATISTICS) " +
			"or the kernel could not describe them.",
		Samples: each(func(w *node.Wire, emit Emit) { emit(float64(w.Lost)) }),
	}, Metric{
		Name:    "wire_interfaces",
		Help:    "Underlay NICs that are captured on and up.",
		Samples: each(func(w *node.Wire, emit Emit) { emit(float64(len(w.Interfaces))) }),
	})
}
