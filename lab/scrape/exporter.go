// Package scrape runs the exporter's binary inside a lab namespace and reads what it publishes there.
package scrape

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"vxlan_exporter/lab"
)

// Address is where the exporter listens, on the loopback of its namespace.
const Address = "127.0.0.1:10059"

// Exporter is a running exporter.
type Exporter struct {
	cmd    *exec.Cmd
	client *http.Client
	exited chan struct{}
	status error // of the process, once exited is closed
	stderr *tail
}

// Build makes the exporter as it is shipped, by the Makefile, in a folder, and returns the binary's path.
func Build(ctx context.Context, folder string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list -m: %w", err)
	}
	binary := folder + "/vxlan_exporter"
	cmd := exec.CommandContext(ctx, "make", "--silent", "-C", strings.TrimSpace(string(root)), "build", "BINARY="+binary)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w: %s", err, out)
	}
	return binary, nil
}

// Start runs the exporter in the namespace and waits until it is ready. program is its binary, or one that runs what args begin
// with, as setpriv(1) does; the address to listen on is added behind args.
func Start(ctx context.Context, n *lab.NS, program string, args ...string) (*Exporter, error) {
	// Not bound to ctx: that would kill it without a chance to drain.
	e := &Exporter{
		cmd:    n.Cmd(context.WithoutCancel(ctx), slices.Concat([]string{program}, args, []string{"--web.listen-address=" + Address})...),
		client: &http.Client{Transport: &http.Transport{DialContext: n.DialContext, MaxConnsPerHost: 1}},
		exited: make(chan struct{}),
		stderr: &tail{},
	}
	e.cmd.Stderr = e.stderr
	if err := e.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	go func() {
		e.status = e.cmd.Wait()
		close(e.exited)
	}()
	if err := e.waitReady(ctx); err != nil {
		return nil, errors.Join(err, e.Stop())
	}
	return e, nil
}

func (e *Exporter) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		_, err := e.Get(ctx, "/-/ready")
		if err == nil {
			return nil
		}
		select {
		case <-e.exited:
			return fmt.Errorf("the exporter ended: %w: %s", errors.Join(e.status, err), e.Log())
		case <-ctx.Done():
			return fmt.Errorf("the exporter is not ready: %w: %s", err, e.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Get fetches a path of the exporter and returns the body. Any status but 200 is an error.
func (e *Exporter) Get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+Address+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return body, fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return body, nil
}

// Scrape fetches and parses /metrics.
func (e *Exporter) Scrape(ctx context.Context) (Metrics, error) {
	body, err := e.Get(ctx, "/metrics")
	if err != nil {
		return nil, fmt.Errorf("scrape: %w", err)
	}
	return Parse(bytes.NewReader(body))
}

// Pid is the process ID of the exporter.
func (e *Exporter) Pid() int { return e.cmd.Process.Pid }

// OpenFiles counts the files that the exporter has open. Among them is one connection from here once something was fetched: it is
// kept and used for every request.
func (e *Exporter) OpenFiles() (int, error) {
	folder := "/proc/" + strconv.Itoa(e.Pid()) + "/fd"
	files, err := os.ReadDir(folder)
	return len(files), err
}

// Log returns the last of what the exporter wrote on standard error.
func (e *Exporter) Log() string { return e.stderr.String() }

// Stop ends the exporter with SIGTERM and waits for it, 10 s at most. An exit status other than 0 is an error.
func (e *Exporter) Stop() error {
	e.client.CloseIdleConnections()
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-e.exited:
	case <-time.After(10 * time.Second):
		err := e.cmd.Process.Kill()
		<-e.exited
		return errors.Join(errors.New("the exporter did not end on SIGTERM"), err)
	}
	if e.status != nil {
		return fmt.Errorf("the exporter ended: %w: %s", e.status, e.Log())
	}
	return nil
}

// tail keeps the last few kilobytes written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - 16<<10; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}
