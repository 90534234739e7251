package collectors

import "context"

// Set is the collectors that are on.
type Set struct {
	First      Collector               // finds the devices and ports, which the rest need
	Rest       []Collector             // in the order of Kinds
	Background []func(context.Context) // to run as long as the collectors are used
}

// New makes the collectors that are on. Errors name the flag that is wrong.
func New(o Options) (*Set, error) {
	ports, err := o.ports()
	if err != nil {
		return nil, err
	}
	include, err := o.featureInclude()
	if err != nil {
		return nil, err
	}
	bit, err := o.markBit()
	if err != nil {
		return nil, err
	}
	if err := o.validate(); err != nil {
		return nil, err
	}

	var s Set
	flows := NewConntrack(ConntrackConfig{
		Proc:        o.Proc,
		Strategy:    o.ConntrackStrategy,
		MinInterval: o.ConntrackMinInterval,
		MaxCPU:      o.ConntrackMaxCPU / 100,
		Timeout:     o.ConntrackTimeout,
		Logger:      o.Logger,
		Open:        o.Open.Conntrack,
	})
	rules := NewNATRules(NATRulesConfig{
		Proc:          o.Proc,
		MinInterval:   o.NATRulesMinInterval,
		MasqueradeBit: bit,
		Reader:        o.Open.Rules,
		OpenRoute:     o.Open.Surroundings,
	})
	all := map[string]Collector{
		"device": NewDevice(DeviceConfig{
			Ports: ports, Proc: o.Proc, FeatureInclude: include, OpenRoute: o.Open.Route, OpenIoctl: o.Open.Ioctl,
		}),
		"host":   NewHost(o.Proc, o.Open.Counters),
		"socket": NewSocket(o.Proc),
		"underlay": NewUnderlay(UnderlayConfig{
			FeatureInclude: include, OpenRoute: o.Open.Route, OpenIoctl: o.Open.Ioctl, OpenLinks: o.Open.Links,
		}),
		"conntrack": flows,
		"natrules":  rules,
		"kernel":    NewKernel(KernelConfig{Proc: o.Proc, OSRelease: o.OSRelease, SelfTestFile: o.SelfTestFile}),
	}
	if o.Enabled["conntrack"] {
		s.Background = append(s.Background, flows.Run)
	}
	if o.Enabled["wire"] {
		c := o.Wire
		c.Logger, c.Proc = o.Logger, o.Proc
		if o.Enabled["device"] {
			c.Devices = all["device"]
		}
		probe := NewWire(c)
		all["wire"] = probe
		s.Background = append(s.Background, probe.Run)
	}
	if o.Enabled["path"] {
		c := o.Path
		c.Logger, c.Open = o.Logger, o.Open.Route
		if o.Enabled["natrules"] {
			c.Mark = rules.Mark
		}
		path := NewPath(c)
		all["path"] = path
		s.Background = append(s.Background, path.Run)
	}
	s.First = all["device"]
	if !o.Enabled["device"] {
		s.First = NewPort(ports)
	}
	for _, k := range Kinds() {
		if k.Name != "device" && o.Enabled[k.Name] {
			s.Rest = append(s.Rest, all[k.Name])
		}
	}
	return &s, nil
}
