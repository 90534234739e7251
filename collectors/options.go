package collectors

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"strconv"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/nl"
)

// Options say which collectors there are, and where and how they read the node. Ports, FeatureInclude and MasqueradeBit
// are as they were typed: New says what is wrong with them.
type Options struct {
	Proc, OSRelease, SelfTestFile string // paths of procfs, os-release and the stored self-test

	Ports          []string // VXLAN ports besides the devices' own
	FeatureInclude string   // regular expression of device features to publish besides the built-in ones; empty: none

	ConntrackStrategy                      conntrack.Strategy
	ConntrackMinInterval, ConntrackTimeout time.Duration
	ConntrackMaxCPU                        float64 // percent of one CPU; 0: no bound
	NATRulesMinInterval                    time.Duration
	MasqueradeBit                          string // empty: found from the rules

	Wire WireConfig
	Path PathConfig

	Enabled map[string]bool // by name; see Kinds
	Logger  *slog.Logger
	Open    Openers
}

// Openers open the interfaces of the kernel. Where one is nil the running kernel's own is opened; tests put others in
// its place.
type Openers struct {
	Route        nl.Opener
	Ioctl        func() (ethtool.IoctlSocket, error)
	Links        func() (ethtool.LinkClient, error)
	Conntrack    conntrack.Opener
	Counters     nl.Opener // of connection tracking, where procfs has none
	Rules        NATRulesReader
	Surroundings nl.Opener // addresses, routes and forwarding databases for the NAT rules
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

// validate checks what can be checked without parsing.
func (o *Options) validate() error {
	for _, d := range []struct {
		flag   string
		d, min time.Duration
	}{
		{"conntrack.min-interval", o.ConntrackMinInterval, 0},
		{"conntrack.timeout", o.ConntrackTimeout, 1},
		{"natrules.min-interval", o.NATRulesMinInterval, 0},
	} {
		if d.d < d.min {
			return fmt.Errorf("--%s=%s: must be positive", d.flag, d.d)
		}
	}
	if !(o.ConntrackMaxCPU >= 0 && o.ConntrackMaxCPU <= 100) {
		return fmt.Errorf("--conntrack.max-cpu=%g: must be from 0 to 100 percent", o.ConntrackMaxCPU)
	}
	if p := o.Path; o.Enabled["path"] && (p.Interval < MinPathInterval || p.Peers < 1 || p.Peers > MaxPathPeers) {
		return fmt.Errorf("--path.interval must be at least %s, --path.peers from 1 to %d", MinPathInterval, MaxPathPeers)
	}
	w := o.Wire
	if o.Enabled["wire"] && (w.MaxPeers < 1 || w.MaxPacketsPerSecond < 1 || !(w.SampleRate > 0 && w.SampleRate <= 1)) {
		return errors.New(
			"--wire.max-peers and --wire.max-packets-per-second must be positive, --wire.sample-rate above 0 and at most 1",
		)
	}
	return nil
}

func (o *Options) ports() ([]uint16, error) {
	var ports []uint16
	for _, text := range o.Ports {
		p, err := strconv.ParseUint(text, 10, 16)
		if err != nil || p == 0 {
			return nil, fmt.Errorf("--vxlan.port=%s: must be a port from 1 to %d", text, math.MaxUint16)
		}
		ports = append(ports, uint16(p))
	}
	return ports, nil
}

func (o *Options) featureInclude() (*regexp.Regexp, error) {
	if o.FeatureInclude == "" {
		return nil, nil
	}
	include, err := regexp.Compile("^(?:" + o.FeatureInclude + ")$")
	if err != nil {
		return nil, fmt.Errorf("--device.feature-include: %w", err)
	}
	return include, nil
}

func (o *Options) markBit() (*int, error) {
	if o.MasqueradeBit == "" {
		return nil, nil
	}
	bit, err := strconv.Atoi(o.MasqueradeBit)
	if err != nil || bit < 0 || bit > 31 {
		return nil, fmt.Errorf("--kube.masquerade-bit=%s: must be from 0 to 31", o.MasqueradeBit)
	}
	return &bit, nil
}
