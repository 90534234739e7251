package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// copied is a server with all that another one knew at a moment, which scrapes nothing and evaluates no rules: what CPU time it uses is
// that of the queries.
type copied struct {
	*server
	at     time.Time
	folder string
}

// copied takes a snapshot of the server and starts another with it.
func (s *server) copied(ctx context.Context, prometheus string) (c *copied, err error) {
	c = &copied{at: time.Now()}
	body, err := s.ask(ctx, http.MethodPost, "/api/v1/admin/tsdb/snapshot")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error string
		Data  struct{ Name string }
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Data.Name == "" {
		return nil, fmt.Errorf("snapshot: %w: %s", err, answer.Error)
	}
	if c.folder, err = os.MkdirTemp("", "vxlan-scale-copy-"); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(c.folder, "prometheus.yml"), []byte("global: {}\n"), 0o600); err != nil {
		return nil, err
	}
	if c.server, err = runServer(ctx, prometheus, c.folder, filepath.Join(s.data, "snapshots", answer.Data.Name)); err != nil {
		return nil, err
	}
	for range 120 {
		if _, err = c.get(ctx, "/-/ready"); err == nil {
			return c, nil
		}
		if err := pause(ctx, time.Second); err != nil {
			break
		}
	}
	return nil, errors.Join(fmt.Errorf("the copied server does not get ready: %w", err), c.end())
}

// cpu is the CPU time that the server has used: the clock of its process (clock_getcpuclockid(3)).
func (c *copied) cpu() (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED of linux/posix-timers.h
	var t unix.Timespec
	if err := unix.ClockGettime(^int32(c.cmd.Process.Pid)<<3|sched, &t); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", c.cmd.Process.Pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// end stops the server and deletes what it had.
func (c *copied) end() error {
	return errors.Join(c.stop(), os.RemoveAll(c.data), os.RemoveAll(c.folder))
}
