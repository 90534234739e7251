package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"vxlan_exporter/test/lab/scrape"
)

// config is prometheus/prometheus.yml with the fleet for targets. Only what it must have differs.
const config = `global:
  scrape_interval: 15s
  evaluation_interval: 15s
rule_files:
  - %[1]s/*.yml
scrape_configs:
  - job_name: vxlan
    file_sd_configs:
      - files: [%[2]s]
`

// server is a Prometheus that watches the fleet.
type server struct {
	url    string
	data   string // its folder of blocks
	cmd    *exec.Cmd
	exited chan error
}

// startServer writes its configuration and history to a folder, and starts it on a free port of the loopback.
func startServer(ctx context.Context, o options, f *fleet, fleetAddress, folder string) (*server, error) {
	rules, err := filepath.Abs(o.rules)
	if err != nil {
		return nil, err
	}
	targets := filepath.Join(folder, "targets.json")
	if err := writeTargets(f, fleetAddress, targets); err != nil {
		return nil, err
	}
	configFile := filepath.Join(folder, "prometheus.yml")
	if err := os.WriteFile(configFile, fmt.Appendf(nil, config, rules, targets), 0o600); err != nil {
		return nil, err
	}
	data := filepath.Join(folder, "data")
	if err := backfill(ctx, o, f, folder, data); err != nil {
		return nil, err
	}
	return runServer(ctx, o.prometheus, folder, data)
}

// runServer starts a server with the configuration in a folder, which gets its log, too.
func runServer(ctx context.Context, prometheus, folder, data string) (*server, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(folder, "prometheus.log"))
	if err != nil {
		return nil, err
	}
	s := &server{url: "http://" + address, data: data, exited: make(chan error, 1)}
	s.cmd = exec.Command(prometheus, //nolint:noctx // stop ends it in good order
		"--config.file="+filepath.Join(folder, "prometheus.yml"), "--storage.tsdb.path="+data, "--web.listen-address="+address, "--web.enable-admin-api")
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { s.exited <- s.cmd.Wait(); _ = log.Close() }()
	return s, nil
}

func writeTargets(f *fleet, fleetAddress, name string) error {
	w, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(f.targets(w, fleetAddress), w.Close())
}

// freeAddress is one that nobody listened on just now.
func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// get asks the server for a path.
func (s *server) get(ctx context.Context, path string) ([]byte, error) {
	return s.ask(ctx, http.MethodGet, path)
}

// ask sends a request without a body.
func (s *server) ask(ctx context.Context, method, path string) ([]byte, error) {
	select {
	case err := <-s.exited:
		s.exited <- err
		return nil, fmt.Errorf("prometheus ended: %w", err)
	default:
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	return io.ReadAll(resp.Body)
}

// metrics are the server's own.
func (s *server) metrics(ctx context.Context) (scrape.Metrics, error) {
	text, err := s.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	return scrape.Parse(bytes.NewReader(text))
}

// stop ends the server.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-s.exited:
		s.exited <- err
		return err
	case <-time.After(30 * time.Second):
		return s.cmd.Process.Kill()
	}
}
