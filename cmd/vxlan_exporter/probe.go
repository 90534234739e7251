package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/internal/probe"
	"vxlan_exporter/internal/report"
)

// probeTimeout bounds a whole round. Its own bounds are tighter, unless many peers are asked.
const probeTimeout = 30 * time.Second

// probeConfig are the flags of the probe.
type probeConfig struct {
	device, mark, most string
	peers              []string
	count              int
	timeout            time.Duration
}

func (c *probeConfig) addFlags(cmd *kingpin.CmdClause) {
	cmd.Flag("device", "VXLAN device to ask through; all of them when not given.").StringVar(&c.device)
	cmd.Flag("peer", "Overlay address to ask, of a node or a pod. Repeatable; drawn from the neighbor tables when not "+
		"given.").StringsVar(&c.peers)
	cmd.Flag("peers", "How many peers of a device to draw, or all.").Default("3").StringVar(&c.most)
	cmd.Flag("mark", "Mark of marked packets, such as 0x4000; kube-proxy's, as the rules have it, when not given.").
		StringVar(&c.mark)
	cmd.Flag("count", "Packets lost in a row that make a verdict; twice as many small ones are sent to a peer from each "+
		"address at most.").
		Default(strconv.Itoa(probe.DefaultCount)).IntVar(&c.count)
	cmd.Flag("timeout", "How long to wait for an answer, up to "+probe.MaxTimeout.String()+".").
		Default(probe.DefaultTimeout.String()).DurationVar(&c.timeout)
}

func addProbe(app *kingpin.Application, s *sources, commands map[string]command) {
	cmd := app.Command("probe", "Ask the path to other nodes whether checksums survive it. Sends a few small packets. "+
		"Exit status: 0 fine, 2 checksums are spoiled, 3 could not tell, or full packets are lost.")
	c := &probeConfig{}
	c.addFlags(cmd)
	output := cmd.Flag("output", "text for a person, or json.").Default("text").Enum("text", "json")
	commands[cmd.FullCommand()] = func(ctx context.Context, _ *slog.Logger) (int, error) {
		// It observes again afterwards: flows that are NATed now were made by the probe too.
		n, err := observe(ctx, s, 0, c)
		if err != nil {
			return diagnosis.Unknown.ExitStatus(), err
		}
		verdicts := diagnosis.Paths(n)
		if *output == "json" {
			err = report.ProbeJSON(os.Stdout, n, verdicts)
		} else {
			err = report.ProbeText(os.Stdout, n, verdicts, color(os.Stdout))
		}
		if err != nil {
			return diagnosis.Unknown.ExitStatus(), fmt.Errorf("write the report: %w", err)
		}
		return probeStatus(diagnosis.PathState(verdicts)), nil
	}
}

func probeStatus(s node.PathState) int {
	switch s {
	case node.PathOK:
		return 0
	case node.PathNAT, node.PathOffload:
		return diagnosis.Failing.ExitStatus()
	default:
		return diagnosis.Unknown.ExitStatus()
	}
}

// ask makes one round of the probe with what is known of the node.
func (c *probeConfig) ask(ctx context.Context, n *node.Node) (*node.Path, error) {
	conf, opts, err := c.parse(n)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	found, err := probe.Find(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	path := found.Round(ctx, found.Targets, opts)
	return &path, nil
}

// parse makes sense of the flags. Errors name the flag that is wrong.
func (c *probeConfig) parse(n *node.Node) (conf probe.Config, opts probe.Options, err error) {
	opts = probe.Options{Count: c.count, Timeout: c.timeout}
	conf = probe.Config{Devices: n.Devices, Mark: probe.Mark(n)}
	if c.mark != "" {
		mark, err := strconv.ParseUint(c.mark, 0, 32)
		if err != nil || mark == 0 {
			return conf, opts, fmt.Errorf("--mark=%s: must be a number from 1 to 0xffffffff", c.mark)
		}
		conf.Mark = uint32(mark)
	}
	switch {
	case c.count < probe.MinCount || c.count > probe.MaxCount:
		return conf, opts, fmt.Errorf("--count=%d: must be from %d to %d", c.count, probe.MinCount, probe.MaxCount)
	case c.timeout <= 0 || c.timeout > probe.MaxTimeout:
		return conf, opts, fmt.Errorf("--timeout=%s: must be above 0s and at most %s", c.timeout, probe.MaxTimeout)
	}
	if c.most != "all" {
		if conf.Max, err = strconv.Atoi(c.most); err != nil || conf.Max < 1 {
			return conf, opts, fmt.Errorf("--peers=%s: must be a number from 1, or all", c.most)
		}
	}
	for _, text := range c.peers {
		peer, err := netip.ParseAddr(text)
		if err != nil || peer.Unmap().IsMulticast() || peer.IsUnspecified() {
			return conf, opts, fmt.Errorf("--peer=%s: must be an address of one host", text)
		}
		conf.Peers = append(conf.Peers, peer.Unmap())
	}
	if c.device != "" {
		d, ok := n.Device(c.device)
		if !ok {
			return conf, opts, fmt.Errorf("--device=%s: there is no such VXLAN device", c.device)
		}
		conf.Devices = []node.Device{d}
	}
	if r := n.Results["device"]; len(conf.Devices) == 0 && !r.Succeeded() {
		return conf, opts, errors.New(strings.TrimPrefix(r.Error, "device: "))
	}
	return conf, opts, nil
}
