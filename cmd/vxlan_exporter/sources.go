package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"strconv"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"vxlan_exporter/collectors"
	"vxlan_exporter/exporter"
	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/rtnl"
)

// sources are the flags that say where and how the node is read. They are the same for every command that looks at the node.
type sources struct {
	proc, osRelease, selfTestFile string

	ports          []string
	featureInclude string

	strategy                          string
	conntrackInterval, conntrackLimit time.Duration
	natInterval                       time.Duration
	masqueradeBit                     string

	wire collectors.WireConfig

	enabled map[string]*bool

	kernel openers
}

// openers open the interfaces of the kernel. Where one is nil the running kernel's own is opened; tests put others in its place.
type openers struct {
	route        rtnl.Opener
	ioctl        func() (ethtool.IoctlSocket, error)
	generic      func() (ethtool.NetlinkConn, error)
	conntrack    conntrack.Opener
	rules        collectors.NATRulesReader
	surroundings rtnl.Opener
}

// collectorNames are all collectors, in the order in which they are described.
func collectorNames() []struct{ name, help string } {
	return []struct{ name, help string }{
		{"device", "VXLAN devices and their features; without it, only --vxlan.port is known"},
		{"host", "counters of the network namespace"},
		{"socket", "drops of the kernel's VXLAN sockets"},
		{"underlay", "features and driver of the NICs below VXLAN devices"},
		{"conntrack", "NATed flows on the VXLAN ports (CAP_NET_ADMIN)"},
		{"natrules", "what the NAT rules do to outer packets (CAP_NET_ADMIN)"},
		{"kernel", "kernel release and stored self-test"},
		{"wire", "packets of the underlay NICs, off by default (CAP_NET_RAW)"},
	}
}

func addSourceFlags(app *kingpin.Application) *sources {
	s := &sources{enabled: map[string]*bool{}}
	app.Flag("path.procfs", "Where procfs is mounted.").Default("/proc").StringVar(&s.proc)
	app.Flag("path.os-release", "The os-release file.").Default("/etc/os-release").StringVar(&s.osRelease)
	app.Flag("vxlan.port", "UDP port to look for, beside those that devices use. Repeatable.").Default("8472").StringsVar(&s.ports)
	app.Flag("device.feature-include", "Regular expression (anchored) of device features to publish beside the usual ones.").StringVar(&s.featureInclude)
	app.Flag("conntrack.strategy", "How to read connection tracking: auto, full or filter.").Default("auto").
		EnumVar(&s.strategy, "auto", "full", "filter")
	app.Flag("conntrack.min-interval", "A scan of connection tracking serves all scrapes for this long; 0s scans for each.").
		Default(collectors.DefaultConntrackMinInterval.String()).DurationVar(&s.conntrackInterval)
	app.Flag("conntrack.timeout", "Bound on one scan of connection tracking.").
		Default(collectors.DefaultConntrackTimeout.String()).DurationVar(&s.conntrackLimit)
	app.Flag("natrules.min-interval", "A reading of the NAT rules serves for this long.").
		Default(collectors.DefaultNATRulesMinInterval.String()).DurationVar(&s.natInterval)
	app.Flag("kube.masquerade-bit", "Bit of kube-proxy's masquerade mark, 0 to 31 (iptables.masqueradeBit of its configuration); found from the rules when not given.").
		StringVar(&s.masqueradeBit)
	app.Flag("selftest.file", "Result of the self-test to publish, as written by selftest --write.").Default("/run/vxlan_exporter/selftest.json").
		StringVar(&s.selfTestFile)
	app.Flag("wire.max-peers", "Peers of bad packets with a label of their own.").Default("64").IntVar(&s.wire.MaxPeers)
	app.Flag("wire.sample-rate", "Highest part of the packets with a checksum that is looked at, above 0 and at most 1.").Default("1").FloatVar(&s.wire.SampleRate)
	app.Flag("wire.max-packets-per-second", "Packets looked at; the sampling follows.").Default("1000").IntVar(&s.wire.MaxPacketsPerSecond)
	app.Flag("wire.interface", "NIC to watch beside those that VXLAN devices name, as below external devices. Repeatable.").StringsVar(&s.wire.Interfaces)
	for _, c := range collectorNames() {
		s.enabled[c.name] = app.Flag("collector."+c.name, "Read "+c.help+".").Default(strconv.FormatBool(c.name != "wire")).Bool()
	}
	return s
}

// built is what the flags make.
type built struct {
	observer   *exporter.Observer
	background []func(context.Context) // to run as long as the exporter serves
}

// build makes the collectors. Errors name the flag that is wrong.
func (s *sources) build(logger *slog.Logger) (*built, error) {
	ports, err := s.portNumbers()
	if err != nil {
		return nil, err
	}
	var include *regexp.Regexp
	if s.featureInclude != "" {
		if include, err = regexp.Compile("^(?:" + s.featureInclude + ")$"); err != nil {
			return nil, fmt.Errorf("--device.feature-include: %w", err)
		}
	}
	bit, err := s.markBit()
	if err != nil {
		return nil, err
	}
	for _, d := range []struct {
		flag string
		d    time.Duration
		zero bool
	}{
		{"conntrack.min-interval", s.conntrackInterval, true},
		{"conntrack.timeout", s.conntrackLimit, false},
		{"natrules.min-interval", s.natInterval, true},
	} {
		if d.d < 0 || (d.d == 0 && !d.zero) {
			return nil, fmt.Errorf("--%s=%s: must be positive", d.flag, d.d)
		}
	}

	var b built
	flows := collectors.NewConntrack(collectors.ConntrackConfig{
		Proc: s.proc, Strategy: conntrack.Strategy(s.strategy), MinInterval: s.conntrackInterval, Timeout: s.conntrackLimit, Logger: logger,
		Open: s.kernel.conntrack,
	})
	all := map[string]collectors.Collector{
		"device": collectors.NewDevice(collectors.DeviceConfig{
			Ports: ports, FeatureInclude: include, OpenRoute: s.kernel.route, OpenIoctl: s.kernel.ioctl, OpenNetlink: s.kernel.generic,
		}),
		"host":   collectors.NewHost(s.proc),
		"socket": collectors.NewSocket(s.proc),
		"underlay": collectors.NewUnderlay(collectors.UnderlayConfig{
			FeatureInclude: include, OpenRoute: s.kernel.route, OpenIoctl: s.kernel.ioctl, OpenNetlink: s.kernel.generic,
		}),
		"conntrack": flows,
		"natrules": collectors.NewNATRules(collectors.NATRulesConfig{
			Proc: s.proc, MinInterval: s.natInterval, MasqueradeBit: bit, Reader: s.kernel.rules, OpenRoute: s.kernel.surroundings,
		}),
		"kernel": collectors.NewKernel(collectors.KernelConfig{Proc: s.proc, OSRelease: []string{s.osRelease}, SelfTestFile: s.selfTestFile}),
	}
	if *s.enabled["wire"] {
		if s.wire.MaxPeers < 1 || s.wire.MaxPacketsPerSecond < 1 || !(s.wire.SampleRate > 0 && s.wire.SampleRate <= 1) {
			return nil, errors.New("--wire.max-peers and --wire.max-packets-per-second must be positive, --wire.sample-rate above 0 and at most 1")
		}
		s.wire.Logger, s.wire.Proc = logger, s.proc
		if *s.enabled["device"] {
			s.wire.Devices = all["device"]
		}
		probe := collectors.NewWire(s.wire)
		all["wire"] = probe
		b.background = append(b.background, probe.Run)
	}
	first := all["device"]
	if !*s.enabled["device"] {
		first = collectors.NewPort(ports)
	}
	var rest []collectors.Collector
	for _, c := range collectorNames() {
		if c.name != "device" && *s.enabled[c.name] {
			rest = append(rest, all[c.name])
		}
	}
	if *s.enabled["conntrack"] {
		b.background = append(b.background, flows.Run)
	}
	b.observer = exporter.NewObserver(logger, first, rest...)
	return &b, nil
}

func (s *sources) portNumbers() ([]uint16, error) {
	var ports []uint16
	for _, text := range s.ports {
		p, err := strconv.ParseUint(text, 10, 16)
		if err != nil || p == 0 {
			return nil, fmt.Errorf("--vxlan.port=%s: must be a port from 1 to %d", text, math.MaxUint16)
		}
		ports = append(ports, uint16(p))
	}
	return ports, nil
}

func (s *sources) markBit() (*int, error) {
	if s.masqueradeBit == "" {
		return nil, nil
	}
	bit, err := strconv.Atoi(s.masqueradeBit)
	if err != nil || bit < 0 || bit > 31 {
		return nil, fmt.Errorf("--kube.masquerade-bit=%s: must be from 0 to 31", s.masqueradeBit)
	}
	return &bit, nil
}
