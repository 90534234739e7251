package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	promcollectors "github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	webflag "github.com/prometheus/exporter-toolkit/web/kingpinflag"
	"golang.org/x/sys/unix"

	"vxlan_exporter/exporter"
)

// defaultAddress is where the exporter listens: port 10059 of every address.
const defaultAddress = ":10059"

// Bounds of the HTTP server. A scrape is 20 KB and takes milliseconds; whoever needs longer than this is broken or
// hostile.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = exporter.MaxTimeout + 30*time.Second
	idleTimeout       = 3 * time.Minute // outlives the usual scrape intervals, so that Prometheus keeps its connection
	maxHeaderBytes    = 16 << 10
	maxConnections    = 256
	maxStreams        = 2   // of one HTTP/2 connection
	spareFiles        = 128 // left for the collectors where few files may be open
	drainTimeout      = 5 * time.Second
)

type serveConfig struct {
	exporter.Config
	web      *web.FlagConfig
	maxProcs int
}

func addServe(app *kingpin.Application, s *sources, commands map[string]command) {
	cmd := app.Command("serve", "Serve metrics for Prometheus (the default command).").Default()
	c := &serveConfig{web: webflag.AddFlags(cmd, defaultAddress)}
	cmd.Flag("web.telemetry-path", "Path of the metrics.").Default("/metrics").StringVar(&c.TelemetryPath)
	cmd.Flag("web.max-requests", "Maximum number of concurrently rendered answers; more wait. 0 for no limit.").
		Default("4").IntVar(&c.MaxRequests)
	cmd.Flag("web.timeout-offset", "Offset to subtract from the scrape timeout that Prometheus announces.").
		Default("500ms").DurationVar(&c.TimeoutOffset)
	cmd.Flag("web.enable-pprof", "Serve /debug/pprof/ to whoever can scrape.").BoolVar(&c.EnablePprof)
	cmd.Flag("runtime.gomaxprocs", "CPUs that the exporter may use at once (GOMAXPROCS).").Default("1").IntVar(&c.maxProcs)
	commands[cmd.FullCommand()] = func(ctx context.Context, logger *slog.Logger) (int, error) {
		return 0, serve(ctx, c, s, logger)
	}
}

func (c *serveConfig) validate() error {
	switch {
	case !strings.HasPrefix(c.TelemetryPath, "/") || len(c.TelemetryPath) < 2 ||
		strings.ContainsAny(c.TelemetryPath, "{} ?#"):
		return fmt.Errorf("--web.telemetry-path=%q: must be a path like /metrics", c.TelemetryPath)
	case strings.HasPrefix(c.TelemetryPath, "/-/") || strings.HasPrefix(c.TelemetryPath, "/debug/"):
		return fmt.Errorf("--web.telemetry-path=%q: /-/ and /debug/ are taken", c.TelemetryPath)
	case c.MaxRequests < 0:
		return fmt.Errorf("--web.max-requests=%d: must not be negative", c.MaxRequests)
	case c.TimeoutOffset < 0:
		return fmt.Errorf("--web.timeout-offset=%s: must not be negative", c.TimeoutOffset)
	case c.maxProcs < 1:
		return fmt.Errorf("--runtime.gomaxprocs=%d: must be at least 1", c.maxProcs)
	}
	if err := web.Validate(*c.web.WebConfigFile); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("--web.config.file=%s: %w (its owner must be uid %d: the exporter gives up the capability to "+
			"read files of others)",
			*c.web.WebConfigFile, err, os.Geteuid())
	} else if err != nil {
		return fmt.Errorf("--web.config.file=%s: %w", *c.web.WebConfigFile, err)
	}
	return nil
}

// activated reports whether systemd hands listeners to this very process (sd_listen_fds(3)): enabling the socket unit
// is enough then.
func activated() bool {
	return os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) && os.Getenv("LISTEN_FDS") != ""
}

// serve runs the exporter until it is told to end.
func serve(ctx context.Context, c *serveConfig, s *sources, logger *slog.Logger) error {
	// Before the files that flags name are read: what cannot be read without capabilities is then known at once, not at
	// some handshake.
	gaveUp := giveUp(s.needs() | listening(*c.web.WebListenAddresses))
	if err := c.validate(); err != nil {
		return err
	}
	if activated() {
		*c.web.WebSystemdSocket = true
	}
	runtime.GOMAXPROCS(c.maxProcs)
	// The live heap is about 1.5 MB: collecting at 1.5 times that instead of twice costs little and keeps the resident
	// size small.
	debug.SetGCPercent(50)
	if !c.EnablePprof {
		runtime.MemProfileRate = 0 // a profile that nobody can ask for costs 1 MB
	}

	set, err := s.build(logger)
	if err != nil {
		return err
	}
	self := prometheus.NewRegistry()
	self.MustRegister(promcollectors.NewGoCollector(),
		promcollectors.NewProcessCollector(promcollectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector(programName))
	c.Observer, c.Self, c.Logger, c.Page = set.observer, self, logger, page(c.TelemetryPath, logger)
	server := exporter.NewServer(c.Config)
	var listening atomic.Bool
	h := &http.Server{
		Handler:           server.Handler(),
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		// Over TLS: a connection must not stand for hundreds of scrapes.
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog: log.New(serverLog{logger}, "", 0),
		// Called when a listener is open, which is the moment to notify systemd.
		BaseContext: func(net.Listener) context.Context {
			if listening.CompareAndSwap(false, true) {
				logger.Info("Starting "+programName, "version", version.Info(), "uid", os.Getuid())
				gaveUp(logger)
				server.SetReady(true)
				notify(logger, daemon.SdNotifyReady)
			}
			return context.Background()
		},
	}
	for _, background := range set.background {
		go background(ctx)
	}
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("systemd's WATCHDOG_USEC: %w", err)
	}
	go exporter.Watchdog(ctx, limit, set.observer.Alive, func(state string) error {
		_, err := daemon.SdNotify(false, state)
		return err
	}, logger)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		<-ctx.Done()
		server.SetReady(false)
		notify(logger, daemon.SdNotifyStopping)
		drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		if err := h.Shutdown(drain); err != nil {
			logger.Warn("answers still under way after the drain timeout, closing their connections", "timeout", drainTimeout)
			_ = h.Close()
		}
	}()
	if err := c.listenAndServe(h, logger); !errors.Is(err, http.ErrServerClosed) {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%w (is another exporter running? choose an address with --web.listen-address)", err)
		}
		return err
	}
	<-drained
	return nil
}

// listenAndServe does what exporter-toolkit's ListenAndServe does, with a bound on the connections, all listeners
// together. Only VMs of this host reach vsock, which has none.
func (c *serveConfig) listenAndServe(h *http.Server, logger *slog.Logger) error {
	addresses := *c.web.WebListenAddresses
	if slices.ContainsFunc(addresses, func(a string) bool { return strings.HasPrefix(a, "vsock:") }) {
		return web.ListenAndServe(h, c.web, logger)
	}
	var listeners []net.Listener
	if *c.web.WebSystemdSocket {
		var err error
		if listeners, err = activation.Listeners(); err != nil || len(listeners) == 0 {
			return cmp.Or(err, errors.New("no socket activation file descriptors found"))
		}
	} else {
		for _, address := range addresses {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return err
			}
			listeners = append(listeners, l)
		}
	}
	for i, l := range listeners {
		listeners[i] = exporter.LimitListener(l, max(1, connectionLimit()/len(listeners)))
	}
	return web.ServeMultiple(listeners, h, c.web, logger)
}

// connectionLimit is how many connections there may be: with all of them open, the collectors must still be able to
// open their files.
func connectionLimit() int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Cur >= maxConnections+spareFiles {
		return maxConnections
	}
	return max(1, int(files.Cur)-spareFiles) //nolint:gosec // small, as just seen
}

// serverLog is where the HTTP server complains. A client causes as many of its lines as it likes, a failed handshake
// each, so that only what is wrong with the exporter itself is worth a warning.
type serverLog struct{ *slog.Logger }

func (l serverLog) Write(p []byte) (int, error) {
	level, line := slog.LevelDebug, strings.TrimSpace(string(p))
	if strings.HasPrefix(line, "http: panic") || strings.HasPrefix(line, "http: Accept error") {
		level = slog.LevelWarn
	}
	l.Log(context.Background(), level, line)
	return len(p), nil
}

func notify(logger *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		logger.Warn("cannot notify systemd", "state", state, "err", err)
	}
}
