package collectors

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"vxlan_exporter/internal/kernel/procnet"
	"vxlan_exporter/internal/node"
)

// Host reads the counters of the whole network namespace from /proc/net. It needs no privilege.
type Host struct {
	proc string

	udpCsum, udpErrors, tcpCsum, synRetrans, rehash, invalid *prometheus.Desc
}

// NewHost makes a collector that reads below proc (usually /proc).
func NewHost(proc string) *Host {
	return &Host{
		proc: proc,
		udpCsum: desc("host", "udp_in_csum_errors_total",
			"UDP datagrams dropped for a bad checksum, any port: Udp InCsumErrors of /proc/net/snmp, Udp6InCsumErrors of /proc/net/snmp6.", "family"),
		udpErrors: desc("host", "udp_in_errors_total",
			"UDP datagrams not delivered for any error, bad checksums included: Udp InErrors of /proc/net/snmp, Udp6InErrors of /proc/net/snmp6.", "family"),
		tcpCsum: desc("host", "tcp_in_csum_errors_total",
			"TCP segments dropped for a bad checksum, IPv4 and IPv6: Tcp InCsumErrors of /proc/net/snmp."),
		synRetrans: desc("host", "tcp_syn_retransmits_total",
			"SYN and SYN-ACK segments sent again: TcpExt TCPSynRetrans of /proc/net/netstat."),
		rehash: desc("host", "tcp_timeout_rehash_total",
			"Times a TCP timeout made the kernel choose a new flow hash, which moves a tunnelled connection to a new outer source port: TcpExt TcpTimeoutRehash of /proc/net/netstat."),
		invalid: desc("host", "conntrack_invalid_total",
			"Packets that connection tracking judged invalid, bad checksums among them: invalid of /proc/net/stat/nf_conntrack, all CPUs (the kernel's counter wraps at 32 bits per CPU)."),
	}
}

// Name is "host".
func (c *Host) Name() string { return "host" }

// Observe fills node.Host.
func (c *Host) Observe(context.Context, *node.Node) (Fill, error) {
	var h node.Host
	var errs []error
	errs = append(errs,
		procnet.Table(filepath.Join(c.proc, "net/snmp"), procnet.Want{
			"Udp InDatagrams":  &h.UDP4.InDatagrams,
			"Udp InErrors":     &h.UDP4.InErrors,
			"Udp InCsumErrors": &h.UDP4.InCsumErrors,
			"Udp NoPorts":      &h.UDP4.NoPorts,
			"Tcp InCsumErrors": &h.TCPInCsumErrors,
		}),
		procnet.Table(filepath.Join(c.proc, "net/netstat"), procnet.Want{
			"TcpExt TCPSynRetrans":    &h.TCPSynRetrans,
			"TcpExt TCPTimeouts":      &h.TCPTimeouts,
			"TcpExt TcpTimeoutRehash": &h.TCPTimeoutRehash,
		}),
		// A kernel without IPv6 has no snmp6, one without connection tracking no stat/nf_conntrack: neither is an error.
		ifThere(procnet.List(filepath.Join(c.proc, "net/snmp6"), procnet.Want{
			"Udp6InDatagrams":  &h.UDP6.InDatagrams,
			"Udp6InErrors":     &h.UDP6.InErrors,
			"Udp6InCsumErrors": &h.UDP6.InCsumErrors,
			"Udp6NoPorts":      &h.UDP6.NoPorts,
		})),
	)
	invalid, err := procnet.PerCPU(filepath.Join(c.proc, "net/stat/nf_conntrack"), "invalid")
	h.ConntrackInvalid = invalid
	errs = append(errs, ifThere(err))
	return func(n *node.Node) { n.Host = h }, failure(errs...)
}

// Describe sends the descriptions of all metrics of this collector.
func (c *Host) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.udpCsum, c.udpErrors, c.tcpCsum, c.synRetrans, c.rehash, c.invalid} {
		ch <- d
	}
}

// Publish writes one series for every counter that this kernel has.
func (c *Host) Publish(n *node.Node, ch chan<- prometheus.Metric) {
	h := n.Host
	send := func(d *prometheus.Desc, v *uint64, labels ...string) {
		if v != nil {
			counter(ch, d, float64(*v), labels...)
		}
	}
	send(c.udpCsum, h.UDP4.InCsumErrors, node.IPv4)
	send(c.udpCsum, h.UDP6.InCsumErrors, node.IPv6)
	send(c.udpErrors, h.UDP4.InErrors, node.IPv4)
	send(c.udpErrors, h.UDP6.InErrors, node.IPv6)
	send(c.tcpCsum, h.TCPInCsumErrors)
	send(c.synRetrans, h.TCPSynRetrans)
	send(c.rehash, h.TCPTimeoutRehash)
	send(c.invalid, h.ConntrackInvalid)
}

// ifThere takes "no such file" for an answer.
func ifThere(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// failure joins the errors of a collector whose sources must all be there: that one is missing is a failure, not an absence.
func failure(errs ...error) error {
	for i, err := range errs {
		if errors.Is(err, fs.ErrNotExist) {
			errs[i] = &missingError{err}
		}
	}
	return errors.Join(errs...)
}

// missingError hides that an error is "no such file", which would be taken to say that the node has no such thing.
type missingError struct{ err error }

func (e *missingError) Error() string { return e.err.Error() + " (is --path.procfs right?)" }
