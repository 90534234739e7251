package collectors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"sync"
	"time"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/internal/probe"
)

// Defaults and bounds of PathConfig.
const (
	DefaultPathInterval = time.Minute
	DefaultPathPeers    = 3
	MinPathInterval     = 5 * time.Second // a round takes up to 3 s
	MaxPathPeers        = 100
)

// pathTimeout bounds a round. Its own bounds are tighter: four waves of the probe's timeout.
const pathTimeout = 10 * time.Second

// Targets are kept for pathKept rounds, or, where there are many, until each was asked once, up to pathKeptMost:
// reading them, from a neighbor table of thousands above all, costs more than asking. They are read anew sooner when a
// device changes, and after a round in which not all was well.
const (
	pathKept     = 10
	pathKeptMost = 30
)

// PathConfig says how often and how much is asked.
type PathConfig struct {
	Interval time.Duration // from one round to the next; 0: DefaultPathInterval
	Peers    int           // drawn of each device and round; 0: DefaultPathPeers
	Mark     func() uint32 // kube-proxy's masquerade mark; nil, or 0: its default
	Open     nl.Opener     // of an rtnetlink socket; nil: the running kernel's
}

// Path probes the path to other nodes in the background. It sends packets; everything else in this package only reads.
type Path struct {
	Metrics
	conf       PathConfig
	background background

	mu     sync.Mutex
	known  *node.Node // to the last Observe
	tried  time.Time
	path   *node.Path // of the last round that could be made
	err    error      // of the last round
	totals []node.PathTotal

	// Of Run alone.
	found probe.Found
	from  probe.Config // what found was read with
	left  int          // rounds until it is read anew
}

// NewPath makes the collector called "path". Nothing is sent before Run and the first Observe.
func NewPath(c PathConfig) *Path {
	c.Interval = cmp.Or(c.Interval, DefaultPathInterval)
	c.Peers = cmp.Or(c.Peers, DefaultPathPeers)
	return &Path{Metrics: pathMetrics(), conf: c, background: newBackground()}
}

// Observe fills node.Path with the last round, and tells Run of the devices. It waits for nothing.
func (c *Path) Observe(_ context.Context, known *node.Node) (Fill, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = known
	c.background.observed()
	switch {
	case c.path == nil && c.err == nil:
		return func(*node.Node) {}, nil // the first round is under way
	case c.path == nil:
		return nil, c.err
	}
	p := *c.path
	p.Totals = slices.Clone(c.totals)
	return func(n *node.Node) { n.Path = &p }, c.err
}

// Run makes rounds until ctx ends, as long as somebody observes.
func (c *Path) Run(ctx context.Context) {
	c.background.run(ctx, func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.tried.Add(c.conf.Interval)
	}, c.round)
}

// round makes one round. What it could not find out is the error of the next Observe.
func (c *Path) round(ctx context.Context) {
	c.mu.Lock()
	known := c.known
	c.tried = time.Now()
	c.mu.Unlock()
	path, err := c.ask(ctx, known)
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err = nil; err != nil {
		c.err = fmt.Errorf("path: %w", err)
	}
	if path != nil {
		c.path = path
		c.add(path, known.Devices)
	}
}

func (c *Path) ask(ctx context.Context, known *node.Node) (*node.Path, error) {
	if err := devicesUnknown(known); err != nil {
		return nil, err
	}
	if len(known.Devices) == 0 {
		return nil, fmt.Errorf("no VXLAN device to send through: %w", fs.ErrNotExist)
	}
	ctx, cancel := context.WithTimeout(ctx, pathTimeout)
	defer cancel()
	mark := uint32(probe.DefaultMark)
	if c.conf.Mark != nil && c.conf.Mark() != 0 {
		mark = c.conf.Mark()
	}
	if err := c.find(ctx, known.Devices, mark); err != nil {
		return nil, err
	}
	path := c.found.Round(ctx, c.found.Draw(c.conf.Peers), probe.Options{
		Count:   probe.DefaultCount,
		Timeout: probe.DefaultTimeout,
	})
	if !allOK(path.Peers) {
		c.left = 0
	}
	var err error
	switch {
	case len(path.Limits) > 0:
		err = fmt.Errorf("%s: %w", path.Limits[0], fs.ErrPermission)
	case len(path.Peers) == 0:
		err = fmt.Errorf("no peer to ask: %w", errors.Join(fs.ErrNotExist, unprobed(path.Unprobed)))
	}
	return &path, err
}

// find reads the targets of the next rounds when it is time to, or a device has changed.
func (c *Path) find(ctx context.Context, devices []node.Device, mark uint32) (err error) {
	if c.left--; c.left >= 0 && mark == c.from.Mark && reflect.DeepEqual(devices, c.from.Devices) {
		return nil
	}
	c.left = 0
	c.from = probe.Config{Open: c.conf.Open, Devices: devices, Max: c.conf.Peers * pathKeptMost, Mark: mark}
	if c.found, err = probe.Find(ctx, c.from); err == nil {
		c.left = min(max(pathKept, len(c.found.Targets)/c.conf.Peers), pathKeptMost) - 1
	}
	return err
}

func allOK(peers []node.PathPeer) bool {
	for _, p := range peers {
		if slices.ContainsFunc(p.Senders, func(s node.PathSender) bool { return s.State != node.PathOK }) {
			return false
		}
	}
	return len(peers) > 0
}

func unprobed(why []string) error {
	var f failures
	for _, w := range why {
		f.add(errors.New(w))
	}
	return f.join()
}

// add counts a round, and forgets devices that are gone.
func (c *Path) add(path *node.Path, devices []node.Device) {
	c.totals = slices.DeleteFunc(c.totals, func(t node.PathTotal) bool {
		return !slices.ContainsFunc(devices, func(d node.Device) bool { return d.Name == t.Device })
	})
	for _, p := range path.Peers {
		i := slices.IndexFunc(c.totals, func(t node.PathTotal) bool { return t.Device == p.Device && t.Family == p.Family })
		if i < 0 {
			i = len(c.totals)
			c.totals = append(c.totals, node.PathTotal{Device: p.Device, Family: p.Family})
		}
		c.totals[i].RoundTrips = slices.Clone(c.totals[i].RoundTrips) // an observation may have it
		c.totals[i].Add(p)
		c.totals[i].Time = path.Time
	}
}

func pathMetrics() Metrics {
	packets := func(count func(c node.PathCount) int) func(n *node.Node, emit Emit) {
		return func(n *node.Node, emit Emit) {
			eachPath(n, func(t *node.PathTotal, device string) {
				emit(float64(count(t.Plain)), device, t.Family, "none", "offloaded")
				emit(float64(count(t.PlainSoftware)), device, t.Family, "none", "software")
				emit(float64(count(t.Marked)), device, t.Family, "masquerade", "offloaded")
				emit(float64(count(t.MarkedSoftware)), device, t.Family, "masquerade", "software")
			})
		}
	}
	labels := []string{"device", "family", "mark=none,masquerade", "checksum=offloaded,software"}
	return NewMetrics("path", Metric{
		Name: "path_packets_sent_total", Labels: labels,
		Help: "Small packets that the probe sent to peers, by mark (SO_MARK) and by who finishes their checksum.",
		Notes: "Packets that fill the MTU are not counted. More are sent of what is lost, so the share of answers is no " +
			"loss rate.",
		Samples: packets(func(c node.PathCount) int { return c.Sent }),
	}, Metric{
		Name: "path_packets_answered_total", Labels: labels,
		Help:    "Small packets of the probe that a peer's kernel answered.",
		Samples: packets(func(c node.PathCount) int { return c.Answered }),
	}, Metric{
		Name: "path_state", Labels: []string{"device", "family", "state=nat,offload,mtu,ok,unknown,unreachable"},
		Help: "What the last probe found on the way to its peers: ok (marked packets with unfinished checksums arrive), " +
			"nat (these alone are lost), offload (unfinished checksums are lost, marked or not), mtu (packets that fill the " +
			"MTU are lost), unreachable (nothing is answered), unknown.",
		Notes: "Of several peers and senders the first state in this order that any has. See [PROBE.md](PROBE.md).",
		Samples: func(n *node.Node, emit Emit) {
			for _, v := range diagnosis.PathStates(n) {
				for _, state := range node.PathStates() {
					emit.Bool(v.State == state, DeviceLabel(v.Device), v.Family, string(state))
				}
			}
		},
	}, Metric{
		Name: "path_last_probe_timestamp_seconds", Labels: []string{"device", "family"},
		Help: "When the last round of the probe that asked a peer of the device began, in seconds since the epoch.",
		Samples: func(n *node.Node, emit Emit) {
			eachPath(n, func(t *node.PathTotal, device string) {
				emit(float64(t.Time.UnixMilli())/1000, device, t.Family)
			})
		},
	}, Metric{
		Name: "path_round_trip_seconds", Labels: []string{"device", "family"},
		Help:  "Time from a packet of the probe to its answer, of all kinds of packets.",
		Notes: "Sent in a burst: up to a millisecond more than a single packet takes.",
		Histograms: func(n *node.Node, emit EmitHistogram) {
			eachPath(n, func(t *node.PathTotal, device string) {
				bounds := node.PathRoundTripBuckets()
				if len(t.RoundTrips) != len(bounds)+1 {
					return
				}
				buckets := map[float64]uint64{}
				for i, b := range bounds {
					buckets[b.Seconds()] = t.RoundTrips[i]
				}
				emit(t.RoundTrips[len(bounds)], t.Waited.Seconds(), buckets, device, t.Family)
			})
		},
	})
}

func eachPath(n *node.Node, f func(t *node.PathTotal, device string)) {
	if n.Path == nil {
		return
	}
	for i := range n.Path.Totals {
		f(&n.Path.Totals[i], DeviceLabel(n.Path.Totals[i].Device))
	}
}
