package main

import (
	"log/slog"
	"net"
	"os"
	"strings"

	"vxlan_exporter/internal/kernel/capability"
)

// privilegedPorts are those below it: listening there takes CAP_NET_BIND_SERVICE (ip(7), ip_unprivileged_port_start).
const privilegedPorts = 1024

// needs are the capabilities that the collectors that are on can make use of: the table in docs/FLAGS.md.
func (s *sources) needs() capability.Set {
	var c capability.Set
	if *s.enabled["conntrack"] || *s.enabled["natrules"] || *s.enabled["path"] {
		c |= capability.NetAdmin
	}
	// The files that name legacy iptables tables are root's own: root needs no capability to read them.
	if *s.enabled["natrules"] && os.Geteuid() != 0 {
		c |= capability.DACReadSearch
	}
	if *s.enabled["wire"] {
		c |= capability.NetRaw
	}
	return c
}

// listening is what listening on the addresses takes.
func listening(addresses []string) capability.Set {
	for _, address := range addresses {
		i := strings.LastIndexByte(address, ':')
		if port, err := net.LookupPort("tcp", address[i+1:]); err == nil && port > 0 && port < privilegedPorts {
			return capability.NetBindService
		}
	}
	return 0
}

// giveUp drops the capabilities that are not needed and returns a function that says in one line what is left, to be
// called once it is clear that the program starts at all.
func giveUp(needed capability.Set) func(*slog.Logger) {
	had, err := capability.Permitted()
	if err == nil {
		err = capability.Keep(needed)
	}
	return func(logger *slog.Logger) {
		has, readErr := capability.Permitted()
		switch {
		case err != nil || readErr != nil:
			logger.Warn("cannot drop all capabilities that are not needed", "kept", has.String(), "err", err)
		case has != had:
			logger.Info("dropped the capabilities that are not needed", "kept", has.String())
		}
	}
}
