package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/coreos/go-systemd/v22/daemon"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/guard"
	"vxlan_exporter/internal/kernel/capability"
)

// guardRulesInterval is how old the judgment of the NAT rules may be: kube-proxy writes them about when the CNI makes
// the device.
const guardRulesInterval = 5 * time.Second

// guardObserveTimeout bounds one observation, to find which devices are exposed.
const guardObserveTimeout = 5 * time.Second

func addGuard(app *kingpin.Application, s *sources, commands map[string]command) {
	cmd := app.Command("guard", "Keep "+guard.Feature+" off on exposed VXLAN devices, as soon as they appear "+
		"(CAP_NET_ADMIN).")
	var c guard.Config
	cmd.Flag("device", "Glob of device names to guard whatever the verdict, instead of those the diagnosis calls "+
		"exposed. Repeatable.").StringsVar(&c.Devices)
	cmd.Flag("dry-run", "Log what would be done, and do nothing.").BoolVar(&c.DryRun)
	cmd.Flag("restore", "Turn the feature on again at the end, where the guard turned it off.").BoolVar(&c.Restore)
	commands[cmd.FullCommand()] = func(ctx context.Context, logger *slog.Logger) (int, error) {
		s.NATRules.MinInterval = min(s.NATRules.MinInterval, guardRulesInterval)
		set, err := s.build(logger)
		if err != nil {
			return 0, err
		}
		c.Logger = logger
		c.Ready = func() { notify(logger, daemon.SdNotifyReady) }
		c.Exposed = func(ctx context.Context) ([]string, error) {
			n := set.observe(ctx, guardObserveTimeout).Node
			if r := n.Results["device"]; !r.Succeeded() {
				return nil, fmt.Errorf("which devices are exposed: %s", r.Error)
			}
			return exposedDevices(diagnosis.Exposures(n)), nil
		}
		if err := c.Validate(); err != nil {
			return 0, err
		}
		giveUp(s.needs() | capability.NetAdmin)(logger)
		err = guard.Run(ctx, c)
		notify(logger, daemon.SdNotifyStopping)
		return 0, err
	}
}

// exposedDevices names the devices that are exposed to any variant, now failing or not.
func exposedDevices(all []diagnosis.Exposure) []string {
	var names []string
	for _, e := range all {
		if e.State == diagnosis.Exposed || e.State == diagnosis.Active {
			names = append(names, e.Device)
		}
	}
	return names
}
