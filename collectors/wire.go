package collectors

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	Now                 func() time.Time // nil: time.Now
	// Devices finds the VXLAN devices after a link event; nil: they are found by Observe alone.
	Devices Collector
	Listen  func() (rtnl.Events, error) // nil: rtnetlink, in the network namespace of the thread that calls Observe first
	Open    capture.Opener              // nil: capture.Open, in the network namespace of the thread that calls Observe
}

const (
	// wireGather is how long packets are queued before they are read: 10 wake-ups a second.
	wireGather = 100 * time.Millisecond
	// wireQueue bounds the packets queued meanwhile. About 180 of 1500 bytes fit into a queue of the default
	// net.core.rmem_max.
	wireQueue = 100
)

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
	stopped   bool
}

// NewWire returns the collector called "wire".
func NewWire(cfg WireConfig) *Wire {
	if cfg.MaxPeers <= 0 {
		cfg.MaxPeers = DefaultWireMaxPeers
	}
	if cfg.SampleRate <= 0 || cfg.SampleRate > 1 {
		cfg.SampleRate = DefaultWireSampleRate
	}
	if cfg.MaxPacketsPerSecond <= 0 {
		cfg.MaxPacketsPerSecond = DefaultWireMaxPacketsPerSecond
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	if cfg.Listen == nil {
		cfg.Listen = rtnl.ListenLinks
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Wire{
		cfg: cfg, ctx: ctx, stop: stop,
		suspicion: &wireSuspicion{errors: func() (uint64, error) { return udpChecksumErrors(cfg.Proc) }},
		sampler:   newWireSampler(cfg.MaxPacketsPerSecond, cfg.SampleRate, cfg.Now),
		tally:     newWireTally(cfg.MaxPeers, cfg.Now),
		watches:   map[string]*wireWatch{},
		Metrics:   wireMetrics(),
	}
}

// Name is "wire".
func (*Wire) Name() string { return "wire" }

// Run stops the captures when ctx ends, and waits for them.
func (c *Wire) Run(ctx context.Context) {
	<-ctx.Done()
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
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
	if c.stopped {
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

// wireTargets lists the interfaces to capture on. The error names devices whose underlay is not known.
func wireTargets(known *node.Node, named []string) ([]string, error) {
	if err := devicesUnknown(known); err != nil {
		return named, fmt.Errorf("wire: %w", err)
	}
	if len(known.Devices) == 0 && len(named) == 0 {
		return nil, fmt.Errorf("wire: no VXLAN device whose underlay to capture on: %w", fs.ErrNotExist)
	}
	names := slices.Clone(named)
	var errs []error
	for _, d := range known.Devices {
		switch {
		case d.Underlay != "":
			names = append(names, d.Underlay)
		case d.LinkNetns != nil:
			errs = append(errs, fmt.Errorf("wire: %s: its underlay is in another network namespace: %w",
				DeviceLabel(d.Name), errors.ErrUnsupported))
		case len(named) == 0:
			errs = append(errs, fmt.Errorf("wire: %s: its underlay is not known (neither dev nor local is set): "+
				"name it with --wire.interface: %w", DeviceLabel(d.Name), errors.ErrUnsupported))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), errors.Join(errs...)
}

// follow starts and stops watches, so that they are those of the targets.
func (c *Wire) follow(targets []string) error {
	var errs, gone []error
	for name := range c.watches {
		if !slices.Contains(targets, name) {
			errs = append(errs, c.drop(name))
		}
	}
	for _, name := range targets {
		w := c.watches[name]
		if w != nil {
			err := w.failed()
			if err == nil {
				err = w.capture.Update(c.currentPorts())
			}
			if err == nil || errors.Is(err, capture.ErrDown) {
				continue // down: one interface less, no failure
			}
			errs = append(errs, fmt.Errorf("wire: %w (restarted)", err), c.drop(name))
		}
		err := c.watch(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			gone = append(gone, fmt.Errorf("wire: %w", err))
		case err != nil:
			errs = append(errs, fmt.Errorf("wire: %w", err))
		}
		if errors.Is(err, fs.ErrPermission) {
			break // it is the same for all
		}
	}
	// An interface that is gone is one interface less. It must not turn the failure of another into "none".
	if len(errs) == 0 && len(c.watches) == 0 {
		return errors.Join(gone...)
	}
	return errors.Join(errs...)
}

// watch starts the capture on an interface.
func (c *Wire) watch(name string) error {
	capture, err := capture.NewCapture(capture.Config{
		Interface: name, Ports: c.currentPorts(), Ratio: c.sampler.current(), Open: c.cfg.Open,
		Gather: min(wireGather, wireQueue*time.Second/time.Duration(c.cfg.MaxPacketsPerSecond)),
	})
	if err != nil {
		return err
	}
	w := &wireWatch{
		name: name, capture: capture, ports: c.currentPorts, closed: make(chan struct{}), done: make(chan struct{}),
	}
	c.watches[name] = w
	go w.run(c)
	return nil
}

// drop ends the watch of an interface.
func (c *Wire) drop(name string) error {
	w := c.watches[name]
	delete(c.watches, name)
	err := w.close()
	c.past.Add(w.capture.State().Stats)
	return err
}

func (c *Wire) currentPorts() []uint16 {
	if p := c.ports.Load(); p != nil {
		return *p
	}
	return nil
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
