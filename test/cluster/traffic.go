package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"vxlan_exporter/test/cluster/api"
	"vxlan_exporter/test/lab"
)

// addPod runs a CNI plugin with its configuration on standard input.
func addPod(cmd *exec.Cmd, conf api.Object, env []string) (api.Object, error) {
	input, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr, cmd.Env = bytes.NewReader(input), &stderr, append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("CNI plugin %s: %w: %s%s", conf["type"], err, out, stderr.String())
	}
	var result api.Object
	return result, json.Unmarshal(out, &result)
}

// listen listens inside a namespace.
func listen(n *lab.NS, address string) (l net.Listener, err error) {
	err = n.Do(func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(context.Background(), "tcp", address)
		return err
	})
	return l, err
}

// servePod answers HTTP in a pod for as long as its namespace is there.
func servePod(pod *lab.NS, ip netip.Addr) error {
	l, err := listen(pod, netip.AddrPortFrom(ip, podPort).String())
	if err != nil {
		return err
	}
	s := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			_, _ = io.WriteString(w, "hello from the pod\n")
		}),
	}
	go func() { _ = s.Serve(l) }() // ends with the process
	return nil
}

// Sender is who makes a request, and how.
type Sender struct {
	From   string // "node" or "pod"
	Target string // "NodePort" or "ClusterIP"
	Family string // node.IPv4 or node.IPv6
}

// Senders are all the requests that decide what is right in a family.
func Senders(family string) []Sender {
	return []Sender{
		{"node", "NodePort", family},
		{"node", "ClusterIP", family},
		{"pod", "NodePort", family},
		{"pod", "ClusterIP", family},
	}
}

func (c *Cluster) target(s Sender) netip.AddrPort {
	at := c.A.in(s.Family)
	if s.Target == "ClusterIP" {
		return netip.AddrPortFrom(at.service, 80)
	}
	return netip.AddrPortFrom(at.node, c.port)
}

// Request makes a new connection from node A, or its pod, to the service, and reports whether its first SYN was lost:
// nothing else makes a request on this network last 0.9 s, and the second SYN leaves after 1 s (RFC 6298).
func (c *Cluster) Request(ctx context.Context, s Sender) (lost bool, err error) {
	ns := c.A.NS
	if s.From == "pod" {
		ns = c.A.Pod
	}
	ctx, cancel := context.WithTimeout(ctx, 900*time.Millisecond)
	defer cancel()
	conn, err := ns.DialContext(ctx, "tcp", c.target(s).String())
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("%v: %w", s, err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return false, err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && !strings.Contains(string(answer), "hello from the pod") {
		err = fmt.Errorf("%v: not the pod's answer: %q", s, answer)
	}
	return false, err
}

// BadPackets is how many UDP datagrams node B has dropped for a bad checksum (InCsumErrors of Udp and Udp6).
func (c *Cluster) BadPackets(ctx context.Context) (uint64, error) {
	counters, err := c.B.ReadCounters(ctx)
	return counters.UDPInCsumErrors + counters.UDP6InCsumErrors, err
}
