package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Flow is one VXLAN flow tracked on a node, as conntrack -L prints it.
type Flow struct {
	Source, Destination           netip.AddrPort // of the first packet, before NAT
	ReplySource, ReplyDestination netip.AddrPort // of the answer conntrack waits for
}

// SourceNATed reports whether the source left the node rewritten.
func (f Flow) SourceNATed() bool { return f.Source != f.ReplyDestination }

// OuterNAT lists the sender's VXLAN flows whose source was rewritten: what conntrack(8) says of the outer packet.
func (r *Rig) OuterNAT() ([]Flow, error) {
	flows, err := r.OuterFlows()
	if err != nil {
		return nil, err
	}
	var nated []Flow
	for _, f := range flows {
		if f.SourceNATed() {
			nated = append(nated, f)
		}
	}
	return nated, nil
}

// OuterFlows lists the sender's tracked VXLAN flows, those towards it included.
func (r *Rig) OuterFlows() ([]Flow, error) {
	out, err := r.A.Configure("", "conntrack", "-L", "-f", string(r.opts.Family), "-p", "udp", "--orig-port-dst",
		fmt.Sprint(r.opts.Port))
	if err != nil {
		return nil, err
	}
	var flows []Flow
	for line := range strings.Lines(out) {
		f, err := parseFlow(line)
		if err != nil {
			return nil, fmt.Errorf("conntrack -L: %q: %w", line, err)
		}
		flows = append(flows, f)
	}
	return flows, nil
}

// parseFlow reads a line like
//
//	udp 17 29 src=192.168.77.1 dst=192.168.77.2 sport=41234 dport=8472 [UNREPLIED]
//	src=192.168.77.2 dst=192.168.77.1 sport=8472 dport=5032 mark=0 use=1
func parseFlow(line string) (Flow, error) {
	values := map[string][]string{}
	for field := range strings.FieldsSeq(line) {
		if k, v, ok := strings.Cut(field, "="); ok {
			values[k] = append(values[k], v)
		}
	}
	var tuples [2][2]netip.AddrPort
	for i := range tuples {
		for j, keys := range [2][2]string{{"src", "sport"}, {"dst", "dport"}} {
			if len(values[keys[0]]) != 2 || len(values[keys[1]]) != 2 {
				return Flow{}, fmt.Errorf("expected two %s and two %s", keys[0], keys[1])
			}
			addr, err := netip.ParseAddr(values[keys[0]][i])
			if err != nil {
				return Flow{}, err
			}
			port, err := strconv.ParseUint(values[keys[1]][i], 10, 16)
			if err != nil {
				return Flow{}, err
			}
			tuples[i][j] = netip.AddrPortFrom(addr, uint16(port))
		}
	}
	return Flow{tuples[0][0], tuples[0][1], tuples[1][0], tuples[1][1]}, nil
}

// Counters are a node's own counters, as nstat(8) and conntrack(8) print them.
type Counters struct {
	UDPInCsumErrors  uint64 // UdpInCsumErrors
	UDP6InCsumErrors uint64 // Udp6InCsumErrors
	TCPInCsumErrors  uint64 // TcpInCsumErrors
	TCPSynRetrans    uint64 // TcpExtTCPSynRetrans
	Invalid          uint64 // invalid of conntrack -S, all CPUs
}

// ReadCounters reads the counters of a node.
func (n *NS) ReadCounters(ctx context.Context) (Counters, error) {
	out, err := n.output(ctx, "nstat", "-asz", "--json")
	if err != nil {
		return Counters{}, err
	}
	var stat struct{ Kernel map[string]uint64 }
	if err := json.Unmarshal([]byte(out), &stat); err != nil {
		return Counters{}, fmt.Errorf("nstat: %w: %q", err, out)
	}
	invalid, err := n.conntrackInvalid(ctx)
	if err != nil {
		return Counters{}, err
	}
	return Counters{
		UDPInCsumErrors: stat.Kernel["UdpInCsumErrors"], UDP6InCsumErrors: stat.Kernel["Udp6InCsumErrors"],
		TCPInCsumErrors: stat.Kernel["TcpInCsumErrors"], TCPSynRetrans: stat.Kernel["TcpExtTCPSynRetrans"], Invalid: invalid,
	}, nil
}

func (n *NS) conntrackInvalid(ctx context.Context) (uint64, error) {
	out, err := n.output(ctx, "conntrack", "-S")
	if err != nil {
		return 0, err
	}
	var sum uint64
	for field := range strings.FieldsSeq(out) {
		if v, ok := strings.CutPrefix(field, "invalid="); ok {
			u, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("conntrack -S: %w", err)
			}
			sum += u
		}
	}
	return sum, nil
}

func (n *NS) output(ctx context.Context, args ...string) (string, error) {
	cmd := n.Cmd(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w: %s", n.Name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), nil
}
