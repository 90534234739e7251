package procnet

import (
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/procfs"
)

// UDPCounters are the kernel's UDP counters of one address family (RFC 4113 and Linux's own). nil: this kernel does not
// count it.
type UDPCounters struct {
	InDatagrams  *uint64 `json:"in_datagrams,omitempty"`
	InErrors     *uint64 `json:"in_errors,omitempty"`
	InCsumErrors *uint64 `json:"in_csum_errors,omitempty"`
	NoPorts      *uint64 `json:"no_ports,omitempty"`
}

// SNMP are counters of /proc/net/snmp and, of a kernel that has IPv6, /proc/net/snmp6.
type SNMP struct {
	UDP4, UDP6      UDPCounters
	TCPInCsumErrors *uint64
}

// ReadSNMP reads them below proc, of this process's network namespace. After an error what the other file says is there
// all the same.
func ReadSNMP(proc string) (s SNMP, err error) {
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return s, err
	}
	self, err := fs.Self()
	if err != nil {
		return s, err
	}
	v4, err4 := self.Snmp()
	if err4 != nil {
		err4 = fmt.Errorf("%s/net/snmp: %w", proc, err4)
	}
	v6, err6 := self.Snmp6()
	if err6 != nil {
		err6 = fmt.Errorf("%s/net/snmp6: %w", proc, err6)
	}
	errs := []error{err4, err6}
	for _, c := range []struct {
		name string
		from *float64
		to   **uint64
	}{
		{"Udp InDatagrams", v4.Udp.InDatagrams, &s.UDP4.InDatagrams},
		{"Udp InErrors", v4.Udp.InErrors, &s.UDP4.InErrors},
		{"Udp InCsumErrors", v4.Udp.InCsumErrors, &s.UDP4.InCsumErrors},
		{"Udp NoPorts", v4.Udp.NoPorts, &s.UDP4.NoPorts},
		{"Tcp InCsumErrors", v4.Tcp.InCsumErrors, &s.TCPInCsumErrors},
		{"Udp6InDatagrams", v6.Udp6.InDatagrams, &s.UDP6.InDatagrams},
		{"Udp6InErrors", v6.Udp6.InErrors, &s.UDP6.InErrors},
		{"Udp6InCsumErrors", v6.Udp6.InCsumErrors, &s.UDP6.InCsumErrors},
		{"Udp6NoPorts", v6.Udp6.NoPorts, &s.UDP6.NoPorts},
	} {
		if c.from == nil {
			continue
		}
		if x := *c.from; x >= 0 && x < 1<<64 && x == math.Trunc(x) {
			n := uint64(x)
			*c.to = &n
		} else {
			errs = append(errs, fmt.Errorf("%s: %v is no counter", c.name, x))
		}
	}
	return s, errors.Join(errs...)
}
