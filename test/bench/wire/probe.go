package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

// result is what the probe process reports.
type result struct {
	Seconds  float64
	CPU      float64 // seconds of CPU time of the process
	Captured float64
	Lost     float64
	Ratio    float64 // in
	RatioOut float64
	Bad      float64
	Verdicts map[string]float64 // direction and verdict
	Error    string
}

// Commands of the probe process, a line each; it answers each with a result in JSON.
const (
	cmdStart     = "start"
	cmdUnlimited = "unlimited"
	cmdLook      = "look"
	cmdStop      = "stop"
)

// probe is a process of its own, so that its CPU time can be told apart.
type probe struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func (b *bed) startProbe(ctx context.Context, side string) (*probe, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &probe{cmd: b.on(side).Cmd(ctx, self, "-probe")}
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(out)
	return p, p.cmd.Start()
}

func (p *probe) ask(command string) (r result, err error) {
	if _, err = fmt.Fprintln(p.in, command); err != nil {
		return r, err
	}
	if err = p.out.Decode(&r); err == nil && r.Error != "" {
		err = errors.New("probe: " + r.Error)
	}
	return r, err
}

func (p *probe) start() error          { _, err := p.ask(cmdStart); return err }
func (p *probe) startUnlimited() error { _, err := p.ask(cmdUnlimited); return err }
func (p *probe) look() (result, error) { return p.ask(cmdLook) }
func (p *probe) stop() (result, error) { return p.ask(cmdStop) }
func (p *probe) close() error          { return errors.Join(p.in.Close(), p.cmd.Wait()) }

// beProbe is the probe process.
func beProbe(ctx context.Context) error {
	runtime.GOMAXPROCS(1) // as the exporter does
	answers := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	var current *session
	for lines.Scan() {
		var r result
		var err error
		switch command := lines.Text(); {
		case command == cmdStart:
			current, err = begin(ctx, collectors.DefaultWireMaxPacketsPerSecond)
		case command == cmdUnlimited:
			current, err = begin(ctx, 1<<30)
		case current == nil:
			err = fmt.Errorf("%q before %q", command, cmdStart)
		case command == cmdLook:
			r, err = current.result(ctx)
		case command == cmdStop:
			r, err = current.result(ctx)
			current.end()
			current = nil
		default:
			err = fmt.Errorf("unknown command %q", command)
		}
		if err != nil {
			r.Error = err.Error()
		}
		if err := answers.Encode(r); err != nil {
			return err
		}
	}
	return lines.Err()
}

// session is a probe at work.
type session struct {
	wire  *collectors.Wire
	stop  context.CancelFunc
	ended chan struct{}
	start time.Time
	cpu   time.Duration
}

func begin(ctx context.Context, limit int) (*session, error) {
	s := &session{
		wire:  collectors.NewWire(collectors.WireConfig{MaxPacketsPerSecond: limit}),
		ended: make(chan struct{}), start: time.Now(), cpu: cpuTime(),
	}
	running, stop := context.WithCancel(ctx)
	s.stop = stop
	go func() { defer close(s.ended); s.wire.Run(running) }()
	_, err := look(ctx, s.wire)
	return s, err
}

func (s *session) result(ctx context.Context) (result, error) {
	w, err := look(ctx, s.wire)
	if err != nil {
		return result{}, err
	}
	r := summary(w)
	r.Seconds = time.Since(s.start).Seconds()
	r.CPU = (cpuTime() - s.cpu).Seconds()
	return r, nil
}

func (s *session) end() {
	s.stop()
	<-s.ended
}

// look observes as a scrape does.
func look(ctx context.Context, w *collectors.Wire) (*node.Wire, error) {
	n := node.Node{
		Devices: []node.Device{{Link: rtnl.Link{Name: device, Port: port}, Underlay: underlay}},
		Ports:   []node.Port{{Port: port, IPv4: true, Device: true}},
	}
	fill, err := w.Observe(ctx, &n)
	if err != nil {
		return nil, err
	}
	fill(&n)
	return n.Wire, nil
}

func summary(w *node.Wire) result {
	r := result{Captured: float64(w.Captured), Lost: float64(w.Lost), Ratio: w.SampleRatio, RatioOut: w.SampleRatioOut, Verdicts: map[string]float64{}}
	for _, p := range w.Packets {
		if p.Packets > 0 {
			r.Verdicts[p.Direction+" "+p.Verdict] += p.Packets
		}
		if p.Verdict == "bad" {
			r.Bad += p.Packets
		}
	}
	return r
}

// cpuTime is what this process has used so far, softirqs that ran on its back included.
func cpuTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
