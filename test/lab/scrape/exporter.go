// Package scrape runs the exporter's binary inside a lab namespace and reads what it publishes there.
package scrape

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/daemon"
	"vxlan_exporter/test/lab/webconfig"
)

// Address is where the exporter listens if nothing else is said, on the loopback of its namespace.
const Address = "127.0.0.1:10059"

// Exporter is a running exporter.
type Exporter struct{ *daemon.Daemon }

// Root is the folder of this module.
func Root() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder, nil
		}
		if folder == filepath.Dir(folder) {
			return "", fmt.Errorf("no go.mod above the working directory: %w", fs.ErrNotExist)
		}
	}
}

// Start runs the exporter in the namespace, at Address, and waits until it is ready. program is its binary, or one that
// runs what args begin with, as setpriv(1) does; the address to listen on is added behind args.
func Start(ctx context.Context, n *lab.NS, program string, args ...string) (*Exporter, error) {
	return StartAt(ctx, n, Address, program, args...)
}

// StartAt is Start with an address of the namespace to listen on, for others to scrape.
func StartAt(ctx context.Context, n *lab.NS, address, program string, args ...string) (*Exporter, error) {
	return start(ctx, n, daemon.Options{Address: address}, program, args...)
}

// StartLocked is Start with the web configuration that webconfig.Write wrote into a folder, and with what it returned.
func StartLocked(
	ctx context.Context, n *lab.NS, folder string, client *tls.Config, program string, args ...string,
) (*Exporter, error) {
	o := daemon.Options{Address: Address, TLS: client, User: url.UserPassword(webconfig.User, webconfig.Password)}
	return start(ctx, n, o, program, append(args, "--web.config.file="+filepath.Join(folder, webconfig.File))...)
}

func start(ctx context.Context, n *lab.NS, o daemon.Options, program string, args ...string) (*Exporter, error) {
	o.Ready, o.Timeout = "/-/ready", 15*time.Second
	d, err := daemon.Start(ctx, n, o,
		slices.Concat([]string{program}, args, []string{"--web.listen-address=" + o.Address})...)
	if err != nil {
		return nil, err
	}
	return &Exporter{d}, nil
}

// Scrape fetches and parses /metrics.
func (e *Exporter) Scrape(ctx context.Context) (Metrics, error) {
	body, err := e.Get(ctx, "/metrics")
	if err != nil {
		return nil, fmt.Errorf("scrape: %w", err)
	}
	return Parse(bytes.NewReader(body))
}

// OpenFiles counts the files that the exporter has open. Among them is one connection from here once something was
// fetched: it is kept and used for every request.
func (e *Exporter) OpenFiles() (int, error) {
	folder := "/proc/" + strconv.Itoa(e.Pid()) + "/fd"
	files, err := os.ReadDir(folder)
	return len(files), err
}

// Resident is the resident memory of the exporter, in bytes (VmRSS of proc_pid_status(5)).
func (e *Exporter) Resident() (int, error) { return e.memory("VmRSS:") }

// Peak is the most that it ever was (VmHWM).
func (e *Exporter) Peak() (int, error) { return e.memory("VmHWM:") }

func (e *Exporter) memory(field string) (int, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(e.Pid()) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s has it ended?", e.Pid(), field)
}
