// Package daemon runs a program that serves HTTP inside a lab namespace.
package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"syscall"
	"time"

	"vxlan_exporter/test/lab"
)

// Options say where a program serves and how one sees that it does.
type Options struct {
	Name    string        // for messages; empty: the program's path
	Address string        // IP address and port, of the namespace
	Ready   string        // path that answers 200 once the program is ready
	TLS     *tls.Config   // how to speak HTTPS with it; nil: HTTP
	User    *url.Userinfo // of HTTP's basic authentication; nil: none
	Timeout time.Duration // for that; also for its end after SIGTERM
	Folder  string        // working directory; empty: this process's
}

// Daemon is a running program.
type Daemon struct {
	o      Options
	cmd    *exec.Cmd
	client *http.Client
	exited chan struct{}
	status error // of the process, once exited is closed
	log    *tail
}

// Start runs args in the namespace and waits until the program is ready.
func Start(ctx context.Context, n *lab.NS, o Options, args ...string) (*Daemon, error) {
	if o.Name == "" {
		o.Name = args[0]
	}
	d := &Daemon{
		o: o,
		// Not bound to ctx: that would kill it without a chance to drain.
		cmd: n.Cmd(context.WithoutCancel(ctx), args...),
		client: &http.Client{Transport: &http.Transport{
			DialContext: n.DialContext, MaxConnsPerHost: 1,
			TLSClientConfig: o.TLS,
		}},
		exited: make(chan struct{}),
		log:    &tail{},
	}
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.Dir = d.log, d.log, o.Folder
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", d.o.Name, err)
	}
	go func() {
		d.status = d.cmd.Wait()
		close(d.exited)
	}()
	if err := d.waitReady(ctx); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return d, nil
}

func (d *Daemon) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.o.Timeout)
	defer cancel()
	for {
		_, err := d.Get(ctx, d.o.Ready)
		if err == nil {
			return nil
		}
		select {
		case <-d.exited:
			return fmt.Errorf("%s ended: %w: %s", d.o.Name, errors.Join(d.status, err), d.Log())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", d.o.Name, err, d.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Get fetches a path and returns the body. Any status but 200 is an error; the body is returned all the same.
func (d *Daemon) Get(ctx context.Context, path string) ([]byte, error) {
	return d.do(ctx, http.MethodGet, path, nil)
}

// Post sends JSON to a path, as Get gets it.
func (d *Daemon) Post(ctx context.Context, path string, body []byte) ([]byte, error) {
	return d.do(ctx, http.MethodPost, path, body)
}

func (d *Daemon) do(ctx context.Context, method, path string, send []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.URL()+path, bytes.NewReader(send))
	if err != nil {
		return nil, err
	}
	if send != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return body, fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return body, nil
}

// URL is how the program is reached, without a path.
func (d *Daemon) URL() string {
	u := url.URL{Scheme: "http", Host: d.o.Address, User: d.o.User}
	if d.o.TLS != nil {
		u.Scheme = "https"
	}
	return u.String()
}

// Address is where the program serves.
func (d *Daemon) Address() string { return d.o.Address }

// Pid is the process ID of the program.
func (d *Daemon) Pid() int { return d.cmd.Process.Pid }

// Log returns the last of what the program wrote.
func (d *Daemon) Log() string { return d.log.String() }

// Stop ends the program with SIGTERM and waits for it. An exit status other than 0 is an error.
func (d *Daemon) Stop() error {
	d.client.CloseIdleConnections()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.exited:
	case <-time.After(d.o.Timeout):
		err := d.cmd.Process.Kill()
		<-d.exited
		return errors.Join(fmt.Errorf("%s did not end on SIGTERM", d.o.Name), err)
	}
	if d.status != nil {
		return fmt.Errorf("%s ended: %w: %s", d.o.Name, d.status, d.Log())
	}
	return nil
}

// Listen opens a TCP socket inside the namespace. address must be an IP address and a port.
func Listen(ctx context.Context, n *lab.NS, address string) (net.Listener, error) {
	var l net.Listener
	err := n.Do(func() (err error) {
		var lc net.ListenConfig
		l, err = lc.Listen(ctx, "tcp", address)
		return err
	})
	return l, err
}
