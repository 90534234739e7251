package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"vxlan_exporter/test/lab"
)

// addStanding declares the commands for a rig that outlives them.
func addStanding(app *kingpin.Application, commands map[string]func(context.Context) error) {
	var name string
	command := func(verb, help string) *kingpin.CmdClause {
		cmd := app.Command(verb, help)
		cmd.Flag("name", "Name of the rig: its namespaces are NAME-a, NAME-b and NAME-pod.").Default("vxe").StringVar(&name)
		return cmd
	}

	cmd := command("up", "Build a rig and leave it standing.")
	all := addSwitches(cmd)
	commands[cmd.FullCommand()] = func(ctx context.Context) error {
		all.o.Name = name
		return up(ctx, all.o)
	}

	cmd = command("set", "Change switches of the standing rig.")
	live := addLiveSwitches(cmd)
	commands[cmd.FullCommand()] = func(context.Context) error {
		r, err := lab.Open(name)
		if err != nil {
			return err
		}
		return live.apply(r)
	}

	cmd = command("request", "Make a request from node a to its own NodePort, and say how long it took and what NAT did to the tunnel.")
	limit := cmd.Flag("limit", "Give up after this long.").Default("70s").Duration()
	commands[cmd.FullCommand()] = func(ctx context.Context) error { return request(ctx, name, *limit) }

	cmd = command("status", "Show the switches of the standing rig as JSON, and its namespaces.")
	commands[cmd.FullCommand()] = func(context.Context) error { return status(name) }

	cmd = command("down", "Take the rig down. No rig is no error.")
	commands[cmd.FullCommand()] = func(context.Context) error { return lab.TakeDown(name) }

	cmd = command("serve-pod", "Answer in the pod until the rig is taken down.").Hidden()
	commands[cmd.FullCommand()] = func(ctx context.Context) error { return lab.ServeStanding(ctx, name) }
}

func up(ctx context.Context, o lab.Options) error {
	r, err := lab.Raise(o)
	if err != nil {
		return err
	}
	if err := startPod(ctx, r); err != nil {
		return errors.Join(err, r.Close())
	}
	fmt.Printf("standing: %s (sender), %s (receiver), %s (pod behind it)\n", r.A.Name, r.B.Name, r.Pod.Name)
	fmt.Printf("try: ip netns exec %s curl -m 70 -w '%%{time_total} s\\n' http://%s/\n", r.A.Name, r.NodePort())
	return nil
}

// startPod leaves a process behind that answers in the pod, and waits until it does. It ends by itself when the rig is gone.
func startPod(ctx context.Context, r *lab.Rig) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "serve-pod", "--name="+r.Options().Name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return r.WaitPod(ctx)
}

func request(ctx context.Context, name string, limit time.Duration) error {
	r, err := lab.Open(name)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type outcome struct {
		stall time.Duration
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		stall, err := r.Request(limited)
		done <- outcome{stall, err}
	}()
	// The NATed flow may be forgotten before a stalled request ends, so look while it hangs, too.
	seen := map[lab.Flow]bool{}
	for {
		var o outcome
		ended := false
		select {
		case o = <-done:
			ended = true
		case <-time.After(500 * time.Millisecond):
		}
		flows, err := r.OuterNAT(ctx)
		if err != nil {
			return errors.Join(o.err, err)
		}
		for _, f := range flows {
			if !seen[f] {
				fmt.Printf("NATed VXLAN flow: %s left as %s to %s\n", f.Source, f.ReplyDestination, f.Destination)
			}
			seen[f] = true
		}
		if ended {
			fmt.Printf("%.3f s\n", o.stall.Seconds())
			return o.err
		}
	}
}

func status(name string) error {
	r, err := lab.Open(name)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(r.Options(), "", "  ")
	if err != nil {
		return err
	}
	fmt.Printf("%s\nsender %s, receiver %s, pod %s, NodePort %s\n", text, r.A.Name, r.B.Name, r.Pod.Name, r.NodePort())
	return nil
}
