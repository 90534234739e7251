package collectors

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/procnet"
	"vxlan_exporter/internal/node"
)

// Host reads the counters of the whole network namespace from /proc/net. It needs no privilege, but for the packets
// that connection tracking calls invalid on kernels without /proc/net/stat/nf_conntrack.
type Host struct {
	Metrics
	proc      string
	conntrack nl.Opener

	// Of the observations before, one at a time.
	csum    map[string]uint64
	rose    map[string]time.Time
	invalid usualRate
}

// NewHost makes a collector that reads below proc (usually /proc), and by conntrack what is not there; nil:
// nl.Netfilter.
func NewHost(proc string, conntrack nl.Opener) *Host {
	if conntrack == nil {
		conntrack = nl.Netfilter
	}
	return &Host{
		Metrics: hostMetrics(), proc: proc, conntrack: conntrack, csum: map[string]uint64{},
		rose: map[string]time.Time{},
	}
}

func hostMetrics() Metrics {
	return NewMetrics("host", Metric{
		Name: "host_udp_in_csum_errors_total", Labels: []string{"family"},
		Help: "UDP datagrams dropped for a bad checksum, any port: Udp InCsumErrors of /proc/net/snmp, Udp6InCsumErrors of " +
			"/proc/net/snmp6.",
		Notes: "Stays 0 where a firewall drops packets that connection tracking calls invalid.",
		Samples: func(n *node.Node, emit Emit) {
			emit.Number(n.Host.UDP4.InCsumErrors, node.IPv4)
			emit.Number(n.Host.UDP6.InCsumErrors, node.IPv6)
		},
	}, Metric{
		Name: "host_udp_last_csum_error_timestamp_seconds", Labels: []string{"family"},
		SinceStart: true,
		Help:       "When vxlan_host_udp_in_csum_errors_total was last seen to have risen, Unix time; absent until it is.",
		Samples: func(n *node.Node, emit Emit) {
			for family, t := range n.Host.CsumErrorsRose {
				emit(float64(t.UnixMilli())/1000, family)
			}
		},
	}, Metric{
		Name: "host_udp_in_errors_total", Labels: []string{"family"},
		Help: "UDP datagrams not delivered for any error, bad checksums included: Udp InErrors of /proc/net/snmp, " +
			"Udp6InErrors of /proc/net/snmp6.",
		Samples: func(n *node.Node, emit Emit) {
			emit.Number(n.Host.UDP4.InErrors, node.IPv4)
			emit.Number(n.Host.UDP6.InErrors, node.IPv6)
		},
	}, Metric{
		Name:    "host_tcp_in_csum_errors_total",
		Help:    "TCP segments dropped for a bad checksum, IPv4 and IPv6: Tcp InCsumErrors of /proc/net/snmp.",
		Notes:   "Rises where the *inner* checksum arrives bad.",
		Samples: func(n *node.Node, emit Emit) { emit.Number(n.Host.TCPInCsumErrors) },
	}, Metric{
		Name:    "host_tcp_syn_retransmits_total",
		Help:    "SYN and SYN-ACK segments sent again: TcpExt TCPSynRetrans of /proc/net/netstat.",
		Notes:   "Linux 3.15. The sender's half of a stalled connection.",
		Samples: func(n *node.Node, emit Emit) { emit.Number(n.Host.TCPSynRetrans) },
	}, Metric{
		Name: "host_tcp_timeout_rehash_total",
		Help: "Times a TCP timeout made the kernel choose a new flow hash, which moves a tunneled connection to a new " +
			"outer source port: TcpExt TcpTimeoutRehash of /proc/net/netstat.",
		Notes:   "Linux 5.10. A rehash frees a stalled connection after 1 s.",
		Samples: func(n *node.Node, emit Emit) { emit.Number(n.Host.TCPTimeoutRehash) },
	}, Metric{
		Name: "host_conntrack_invalid_total",
		Help: "Packets that connection tracking judged invalid, bad checksums among them: invalid of " +
			"/proc/net/stat/nf_conntrack, or of ctnetlink on kernels without it, all CPUs (the kernel's counter wraps at 32 " +
			"bits per CPU).",
		Notes: "Where connection tracking is active, a bad outer checksum counts here too. Kernels without " +
			"`/proc/net/stat/nf_conntrack` (Ubuntu 18.04 to 22.04) need CAP_NET_ADMIN for it.",
		Samples: func(n *node.Node, emit Emit) { emit.Number(n.Host.ConntrackInvalid) },
	})
}

// Observe fills node.Host.
func (c *Host) Observe(ctx context.Context, _ *node.Node) (Fill, error) {
	var h node.Host
	var errs []error
	snmp, err := procnet.ReadSNMP(c.proc)
	h.UDP4, h.UDP6, h.TCPInCsumErrors = snmp.UDP4, snmp.UDP6, snmp.TCPInCsumErrors
	errs = append(errs, err, procnet.Table(filepath.Join(c.proc, "net/netstat"), procnet.Want{
		"TcpExt TCPSynRetrans":    &h.TCPSynRetrans,
		"TcpExt TCPTimeouts":      &h.TCPTimeouts,
		"TcpExt TcpTimeoutRehash": &h.TCPTimeoutRehash,
	}))
	invalid, err := procnet.PerCPU(filepath.Join(c.proc, "net/stat/nf_conntrack"), "invalid")
	if errors.Is(err, fs.ErrNotExist) {
		invalid, err = c.invalidByNetlink(ctx)
	}
	h.ConntrackInvalid = invalid
	errs = append(errs, err)
	c.remember(&h, time.Now())
	return func(n *node.Node) { n.Host = h }, failure(errs...)
}

// remember adds what a series of observations tells.
func (c *Host) remember(h *node.Host, now time.Time) {
	for family, v := range map[string]*uint64{node.IPv4: h.UDP4.InCsumErrors, node.IPv6: h.UDP6.InCsumErrors} {
		if v == nil {
			continue
		}
		if before, ok := c.csum[family]; ok && *v > before {
			c.rose[family] = now
		}
		c.csum[family] = *v
	}
	h.CsumErrorsRose = maps.Clone(c.rose)
	if h.ConntrackInvalid != nil {
		h.ConntrackInvalidUsual = new(c.invalid.add(*h.ConntrackInvalid, now, c.uptime))
	}
}

// csumErrors sums the datagrams dropped for a bad checksum; known is false when the counter of neither family was read.
func csumErrors(four, six procnet.UDPCounters) (sum uint64, known bool) {
	for _, v := range []*uint64{four.InCsumErrors, six.InCsumErrors} {
		if v != nil {
			sum, known = sum+*v, true
		}
	}
	return sum, known
}

// uptime is the time since boot; 0 where it cannot be read.
func (c *Host) uptime() time.Duration {
	var seconds float64
	b, _ := os.ReadFile(filepath.Join(c.proc, "uptime")) // without it the usual rate begins at 0
	_, _ = fmt.Sscan(string(b), &seconds)
	return time.Duration(seconds * float64(time.Second))
}

const (
	usualSpan  = 6 * time.Hour // that a usual rate is the mean of, about
	usualPrior = time.Hour     // as how much of it the mean since boot counts, with which it begins
)

// usualRate is the mean rise a second of a counter. What rises for minutes hardly changes it, what goes on for an hour
// does.
type usualRate struct {
	rate  float64
	span  time.Duration
	value uint64
	at    time.Time
}

func (u *usualRate) add(v uint64, now time.Time, uptime func() time.Duration) float64 {
	d := now.Sub(u.at)
	switch {
	case u.at.IsZero():
		u.span = usualPrior
		if since := uptime(); since > 0 {
			u.rate, u.span = float64(v)/since.Seconds(), min(since, usualPrior)
		}
	case v >= u.value && d > 0: // it did not start again
		u.span = min(u.span+d, usualSpan)
		u.rate += (float64(v-u.value)/d.Seconds() - u.rate) * min(1, d.Seconds()/u.span.Seconds())
	}
	u.value, u.at = v, now
	return u.rate
}

// invalidByNetlink asks ctnetlink: kernels can be built without /proc/net/stat/nf_conntrack, as Ubuntu's of 18.04 to
// 22.04 are. nil and no error: there is no connection tracking, or nothing that this process may read.
func (c *Host) invalidByNetlink(ctx context.Context) (*uint64, error) {
	if _, err := conntrack.NewSysctls(c.proc).Count(); err != nil {
		return nil, ifThere(err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second) // a kernel that does not answer shall not cost the other counters
	defer cancel()
	n, err := conntrack.Invalid(ctx, c.conntrack)
	switch {
	case err == nil:
		return &n, nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, errors.ErrUnsupported):
		return nil, nil
	}
	return nil, err
}
