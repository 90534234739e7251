package collectors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"strconv"

	"vxlan_exporter/internal/kernel/nl"
)

// Options say which collectors there are, and where and how they read the node. Ports, FeatureInclude and MasqueradeBit
// are as they were typed: New says what is wrong with them. New also fills in what several collectors need: Proc,
// Logger and what the others found.
type Options struct {
	Proc   string // path of procfs
	Logger *slog.Logger

	Ports          []string // VXLAN ports besides the devices' own
	FeatureInclude string   // regular expression of device features to publish besides the built-in ones; empty: none
	MasqueradeBit  string   // empty: found from the rules

	Device    DeviceConfig
	Counters  nl.Opener // of connection tracking, where procfs has none; nil: the running kernel's
	Conntrack ConntrackConfig
	NATRules  NATRulesConfig
	Kernel    KernelConfig
	Wire      WireConfig
	Path      PathConfig

	Enabled map[string]bool // by name; see Kinds
}

// Kind describes a collector.
type Kind struct {
	Name, Help string
	On         bool // by default
}

// Kinds lists all collectors, in the order in which they are described.
func Kinds() []Kind {
	return []Kind{
		{"device", "VXLAN devices and their features; without it, only --vxlan.port is known", true},
		{"host", "counters of the network namespace", true},
		{"socket", "drops of the kernel's VXLAN sockets", true},
		{"underlay", "features and driver of the NICs below VXLAN devices", true},
		{"conntrack", "NATed flows on the VXLAN ports (CAP_NET_ADMIN)", true},
		{"natrules", "what the NAT rules do to outer packets (CAP_NET_ADMIN)", true},
		{"kernel", "kernel release and stored self-test", true},
		{"wire", "packets of the underlay NICs, off by default (CAP_NET_RAW)", false},
		{"path", "the path to other nodes, off by default: it sends packets (CAP_NET_ADMIN)", false},
	}
}

// Set is the collectors that are on.
type Set struct {
	First      Collector               // finds the devices and ports, which the rest need
	Rest       []Collector             // in the order of Kinds
	Background []func(context.Context) // to run as long as the collectors are used
}

// New makes the collectors that are on. Errors name the flag that is wrong.
func New(o Options) (*Set, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Set{First: NewPort(o.Device.Ports)}
	if o.Enabled["device"] {
		s.First = NewDevice(o.Device)
		o.Wire.Devices = s.First
	}
	rules := NewNATRules(o.NATRules)
	if o.Enabled["natrules"] {
		o.Path.Mark = rules.Mark
	}
	rest := map[string]Collector{
		"host":      NewHost(o.Proc, o.Counters),
		"socket":    NewSocket(o.Proc),
		"underlay":  NewUnderlay(o.Device),
		"conntrack": NewConntrack(o.Conntrack),
		"natrules":  rules,
		"kernel":    NewKernel(o.Kernel),
		"wire":      NewWire(o.Wire),
		"path":      NewPath(o.Path),
	}
	for _, k := range Kinds() {
		c, ok := rest[k.Name]
		if !ok || !o.Enabled[k.Name] {
			continue
		}
		s.Rest = append(s.Rest, c)
		if c, ok := c.(interface{ Run(ctx context.Context) }); ok {
			s.Background = append(s.Background, c.Run)
		}
	}
	return s, nil
}

// complete makes sense of what was typed, and gives each collector what New fills in.
func (o *Options) complete() (err error) {
	o.Device.Ports = nil
	for _, text := range o.Ports {
		p, err := strconv.ParseUint(text, 10, 16)
		if err != nil || p == 0 {
			return fmt.Errorf("--vxlan.port=%s: must be a port from 1 to %d", text, math.MaxUint16)
		}
		o.Device.Ports = append(o.Device.Ports, uint16(p))
	}
	if o.FeatureInclude != "" {
		if o.Device.FeatureInclude, err = regexp.Compile("^(?:" + o.FeatureInclude + ")$"); err != nil {
			return fmt.Errorf("--device.feature-include: %w", err)
		}
	}
	if o.MasqueradeBit != "" {
		bit, err := strconv.Atoi(o.MasqueradeBit)
		if err != nil || bit < 0 || bit > 31 {
			return fmt.Errorf("--kube.masquerade-bit=%s: must be from 0 to 31", o.MasqueradeBit)
		}
		o.NATRules.MasqueradeBit = &bit
	}
	c, w, p := o.Conntrack, o.Wire, o.Path
	switch {
	case c.MinInterval < 0:
		return fmt.Errorf("--conntrack.min-interval=%s: must be positive", c.MinInterval)
	case c.Timeout <= 0:
		return fmt.Errorf("--conntrack.timeout=%s: must be positive", c.Timeout)
	case o.NATRules.MinInterval < 0:
		return fmt.Errorf("--natrules.min-interval=%s: must be positive", o.NATRules.MinInterval)
	case !(c.MaxCPU >= 0 && c.MaxCPU <= 100):
		return fmt.Errorf("--conntrack.max-cpu=%g: must be from 0 to 100 percent", c.MaxCPU)
	case o.Enabled["path"] && (p.Interval < MinPathInterval || p.Peers < 1 || p.Peers > MaxPathPeers):
		return fmt.Errorf("--path.interval must be at least %s, --path.peers from 1 to %d", MinPathInterval, MaxPathPeers)
	case o.Enabled["wire"] && (w.MaxPeers < 1 || w.MaxPacketsPerSecond < 1 || !(w.SampleRate > 0 && w.SampleRate <= 1)):
		return errors.New(
			"--wire.max-peers and --wire.max-packets-per-second must be positive, --wire.sample-rate above 0 and at most 1",
		)
	}
	o.Device.Proc, o.Conntrack.Proc, o.NATRules.Proc, o.Kernel.Proc, o.Wire.Proc = o.Proc, o.Proc, o.Proc, o.Proc, o.Proc
	o.Conntrack.Logger, o.Wire.Logger = o.Logger, o.Logger
	o.Path.Open = o.Device.OpenRoute
	return nil
}
