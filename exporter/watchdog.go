package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// hangLimit is how long a collector that has missed its deadline may go on before it counts as stuck. One
// uninterrupted walk of a connection tracking table of a million entries takes 0.3 s, so this is no slow collector
// but a system call that does not return.
const hangLimit = 20 * time.Second

// Watchdog pings systemd's watchdog (sd_notify(3), WATCHDOG=1) as long as alive says that the program does its work,
// and returns when ctx ends. interval is systemd's limit (WATCHDOG_USEC, see daemon.SdWatchdogEnabled): alive is
// asked twice within it, as sd_watchdog_enabled(3) recommends, and gets half of that time as its deadline. A no, or no
// answer soon after the deadline, is logged once, until the next yes.
func Watchdog(
	ctx context.Context, interval time.Duration, alive func(context.Context) error, notify func(state string) error,
	logger *slog.Logger,
) {
	if interval <= 0 {
		return
	}
	turn := interval / 2
	deadline, patience := turn/2, turn*3/4
	ticker := time.NewTicker(turn)
	defer ticker.Stop()

	var refused atomic.Bool
	refuse := func(err error) {
		if !refused.Swap(true) {
			logger.Error("collectors are stuck, withholding watchdog ping", "limit", interval, "err", err)
		}
	}
	for {
		ask, cancel := context.WithTimeout(ctx, deadline)
		late := time.AfterFunc(patience, func() { refuse(fmt.Errorf("no answer within %s", patience)) })
		err := alive(ask)
		late.Stop()
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			refuse(err)
		default:
			if refused.Swap(false) {
				logger.Info("collectors answer again, sending watchdog pings")
			}
			if err := notify(daemon.SdNotifyWatchdog); err != nil {
				logger.Warn("cannot notify systemd", "state", daemon.SdNotifyWatchdog, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Alive observes the node, and fails when a collector is stuck: it has missed the deadline of the observation that
// it was asked in, and has been at work for hangLimit or longer. A collector that answers with an error is alive.
func (o *Observer) Alive(ctx context.Context) error {
	// A collector that is at work since before this observation overran an earlier one, which waited for it until
	// its deadline.
	began := o.Observe(ctx).Node.Time
	var stuck []string
	for _, s := range o.slots {
		if since := s.since.Load(); since != nil && since.Before(began) && time.Since(*since) >= hangLimit {
			stuck = append(stuck, fmt.Sprintf("%s (for %s)", s.Name(), time.Since(*since).Round(time.Second)))
		}
	}
	if len(stuck) > 0 {
		return errors.New("stuck in a system call: " + strings.Join(stuck, ", "))
	}
	return nil
}
