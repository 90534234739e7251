package main

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"vxlan_exporter/collectors"
	"vxlan_exporter/exporter"
)

// sources are the flags that say where and how the node is read. They are the same for every command that observes the
// node.
type sources struct {
	collectors.Options
	enabled map[string]*bool
}

func addSourceFlags(app *kingpin.Application) *sources {
	s := &sources{enabled: map[string]*bool{}}
	app.Flag("path.procfs", "Where procfs is mounted.").Default("/proc").StringVar(&s.Proc)
	app.Flag("path.os-release", "The os-release file.").Default("/etc/os-release").StringVar(&s.Kernel.OSRelease)
	app.Flag("vxlan.port", "UDP port to look for, beside those that devices use. Repeatable. Without it: 8472, and 4789 "+
		"where no device is in sight or the kernel has a VXLAN socket on it.").StringsVar(&s.Ports)
	app.Flag("device.feature-include", "Regular expression (anchored) of device features to publish beside the usual "+
		"ones.").StringVar(&s.FeatureInclude)
	app.Flag("conntrack.strategy", "How to read connection tracking: auto, full or filter.").Default("auto").
		EnumVar((*string)(&s.Conntrack.Strategy), "auto", "full", "filter")
	app.Flag("conntrack.min-interval", "Minimum interval between two scans of connection tracking; 0s scans for "+
		"every scrape.").
		Default(collectors.DefaultConntrackMinInterval.String()).DurationVar(&s.Conntrack.MinInterval)
	app.Flag("conntrack.max-cpu", "Percent of one CPU that the exporter may take before scans of connection tracking "+
		"become rarer, down to one a minute; 0 for no bound.").Default("1").FloatVar(&s.Conntrack.MaxCPU)
	app.Flag("conntrack.timeout", "Timeout of one scan of connection tracking.").
		Default(collectors.DefaultConntrackTimeout.String()).DurationVar(&s.Conntrack.Timeout)
	app.Flag("natrules.min-interval", "Minimum interval between two readings of the NAT rules.").
		Default(collectors.DefaultNATRulesMinInterval.String()).DurationVar(&s.NATRules.MinInterval)
	app.Flag("kube.masquerade-bit", "Bit of kube-proxy's masquerade mark, 0 to 31 (iptables.masqueradeBit of its "+
		"configuration); found from the rules when not given.").
		StringVar(&s.MasqueradeBit)
	app.Flag("selftest.file", "Result of the self-test to publish, as written by selftest --write.").
		Default("/run/vxlan_exporter/selftest.json").
		StringVar(&s.Kernel.SelfTestFile)
	app.Flag("wire.max-peers", "Peers of bad packets with a label of their own.").Default("64").IntVar(&s.Wire.MaxPeers)
	app.Flag("wire.sample-rate", "Maximum share of the packets with a checksum to capture, above 0 and at most 1.").
		Default("1").FloatVar(&s.Wire.SampleRate)
	app.Flag("wire.max-packets-per-second", "Maximum number of captured packets per second; sampling adapts.").
		Default("1000").IntVar(&s.Wire.MaxPacketsPerSecond)
	app.Flag("wire.interface", "NIC to watch beside those that VXLAN devices name, as below external devices. "+
		"Repeatable.").StringsVar(&s.Wire.Interfaces)
	app.Flag("path.interval", "How often the path is probed.").Default(collectors.DefaultPathInterval.String()).
		DurationVar(&s.Path.Interval)
	app.Flag("path.peers", "Peers of a device that each probe draws.").Default(strconv.Itoa(collectors.DefaultPathPeers)).
		IntVar(&s.Path.Peers)
	for _, k := range collectors.Kinds() {
		s.enabled[k.Name] = app.Flag("collector."+k.Name, "Read "+k.Help+".").Default(strconv.FormatBool(k.On)).Bool()
	}
	return s
}

// built is what the flags make.
type built struct {
	observer   *exporter.Observer
	background []func(context.Context) // to run as long as the exporter serves
}

// observe makes one observation within a time.
func (b *built) observe(ctx context.Context, limit time.Duration) *exporter.Observation {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return b.observer.Observe(ctx)
}

// build makes the collectors. Errors name the flag that is wrong.
func (s *sources) build(logger *slog.Logger) (*built, error) {
	o := s.Options
	o.Logger, o.Enabled = logger, map[string]bool{}
	for name, on := range s.enabled {
		o.Enabled[name] = *on
	}
	set, err := collectors.New(o)
	if err != nil {
		return nil, err
	}
	return &built{exporter.NewObserver(logger, set.First, set.Rest...), set.Background}, nil
}
