package report

import (
	"fmt"
	"io"
	"strings"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

// Nagios writes the diagnosis as a plugin of Nagios or Icinga does: one line, with performance data behind the bar
// (https://www.monitoring-plugins.org/doc/guidelines.html). The exit statuses of the check command are those of
// plugins.
func Nagios(w io.Writer, n *node.Node, d diagnosis.Diagnosis) error {
	return nagiosLine(w, d.State, d.Headline, performance(n, d))
}

// NagiosError writes why there is no diagnosis.
func NagiosError(w io.Writer, err error) error {
	return nagiosLine(w, diagnosis.Unknown, err.Error(), "")
}

func nagiosLine(w io.Writer, s diagnosis.State, text, performance string) error {
	words := [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}
	line := fmt.Sprintf("VXLAN %s: %s", words[s.ExitStatus()],
		clean(strings.Join(strings.Fields(strings.ReplaceAll(text, "|", "/")), " ")))
	if performance != "" {
		line += " |" + performance
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

// performance is "label=value" of what was read: nothing stands for what was not. c is for a counter.
func performance(n *node.Node, d diagnosis.Diagnosis) string {
	if n == nil {
		return ""
	}
	var b strings.Builder
	counter := func(label string, values ...*uint64) {
		var sum uint64
		known := false
		for _, v := range values {
			if v != nil {
				sum, known = sum+*v, true
			}
		}
		if known {
			fmt.Fprintf(&b, " %s=%dc", label, sum)
		}
	}
	if n.Results["device"].Succeeded() {
		exposed := map[string]bool{}
		for _, e := range d.Exposures {
			if e.State == diagnosis.Exposed || e.State == diagnosis.Active {
				exposed[e.Device] = true
			}
		}
		fmt.Fprintf(&b, " exposed_devices=%d;;;0;%d", len(exposed), len(n.Devices))
	}
	if n.Conntrack.Scan != nil {
		var flows uint64
		for _, p := range n.Conntrack.Ports {
			flows += p.SNAT + p.DNAT
		}
		fmt.Fprintf(&b, " nat_flows=%d;;;0", flows)
	}
	counter("udp_in_csum_errors", n.Host.UDP4.InCsumErrors, n.Host.UDP6.InCsumErrors)
	counter("conntrack_invalid", n.Host.ConntrackInvalid)
	return b.String()
}
