package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

// podServer answers in the pod, over HTTP and with an echo over UDP.
type podServer struct {
	http *http.Server
	udp  net.PacketConn
}

func servePod(n *NS) (*podServer, error) {
	s := &podServer{http: &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			_, _ = io.WriteString(w, "hello from the pod\n")
		}),
		ReadHeaderTimeout: time.Minute,
	}}
	addr := netip.AddrPortFrom(netip.IPv4Unspecified(), PodPort)
	var tcp net.Listener
	err := n.Do(func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false) // plain TCP, as a SYN's options are part of what the tunnel carries
		if tcp, err = lc.Listen(context.Background(), "tcp4", addr.String()); err != nil {
			return err
		}
		s.udp, err = lc.ListenPacket(context.Background(), "udp4", addr.String())
		return err
	})
	if err != nil {
		if tcp != nil {
			_ = tcp.Close()
		}
		return nil, fmt.Errorf("serve in the pod: %w", err)
	}
	go func() { _ = s.http.Serve(tcp) }() // ends with http.ErrServerClosed
	go echo(s.udp)
	return s, nil
}

func echo(c net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		_, _ = c.WriteTo(buf[:n], from)
	}
}

func (s *podServer) close() error { return errors.Join(s.http.Close(), s.udp.Close()) }

// Request makes a new connection from node A itself to A's NodePort, asks the pod for a page and waits for the whole
// answer. stall is the time that took. The error satisfies os.ErrDeadlineExceeded or context.DeadlineExceeded when ctx
// ended first; then stall is the time until it did.
//
// A healthy rig answers within a few milliseconds. On a failing one nothing comes before the first SYN timeout, 1 s
// (RFC 6298), so a limit of 900 ms tells the two apart and sends exactly one packet.
func (r *Rig) Request(ctx context.Context) (stall time.Duration, err error) {
	return r.A.Request(ctx, r.NodePort())
}

// Request is a Rig's Request from this namespace, to an address that leads to the pod.
func (n *NS) Request(ctx context.Context, to netip.AddrPort) (stall time.Duration, err error) {
	start := time.Now()
	c, err := n.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return time.Since(start), err
	}
	defer func() { _ = c.Close() }() // all is said by then
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return time.Since(start), err
		}
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return time.Since(start), err
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return time.Since(start), err
	}
	if !strings.Contains(string(answer), "hello from the pod") {
		return time.Since(start), fmt.Errorf("%s: not the pod's answer: %q", to, answer)
	}
	return time.Since(start), nil
}

// Query sends queries one after the other over one UDP socket from node A to A's NodePort, waiting at most wait for
// each answer, and returns how many were answered. That is what a DNS client does that keeps its socket. Each query is
// one tunnel packet, longer than the 76 bytes up to which the kernel checks a datagram's sum before it looks for the
// socket (net/core/skbuff.c, CHECKSUM_BREAK).
func (r *Rig) Query(ctx context.Context, queries int, wait time.Duration) (answered int, err error) {
	c, err := r.A.dial(ctx, &net.Dialer{LocalAddr: r.queryAddr()}, "udp4", r.NodePort().String())
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }() // all is said by then
	for i := range queries {
		if err := ctx.Err(); err != nil {
			return answered, err
		}
		ok, err := query(c, fmt.Sprintf("query %-58d", i), wait)
		if err != nil {
			return answered, err
		}
		if ok {
			answered++
		}
	}
	return answered, nil
}

func query(c net.Conn, question string, wait time.Duration) (answered bool, err error) {
	if _, err := io.WriteString(c, question); err != nil {
		return false, err
	}
	// Only now: on a busy machine a short wait can be over before the question is sent.
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return false, err
	}
	buf := make([]byte, 2048)
	for {
		n, err := c.Read(buf)
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			return false, nil
		case err != nil:
			return false, err
		case string(buf[:n]) == question: // else a late answer to an earlier one
			return true, nil
		}
	}
}

// queryAddr is a source that no earlier query of this rig had: a port drawn twice within conntrack's timeout is an old
// connection, whose packets skip the nat table, get no mark and are answered. The ports lie below those that the kernel
// draws (ip_local_port_range).
func (r *Rig) queryAddr() *net.UDPAddr {
	const first, span = 10000, 20000
	port := first + (uint32(os.Getpid())*97+r.queries.Add(1))%span
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.NodeA, uint16(port))) //nolint:gosec // below 65536
}

// DialContext connects from inside the namespace. address must be an IP address and a port.
func (n *NS) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return n.DialFrom(ctx, netip.Addr{}, network, address)
}

// DialFrom is DialContext from an address of the namespace; any of it where from is invalid.
func (n *NS) DialFrom(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error) {
	var d net.Dialer
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	d.SetMultipathTCP(false)
	return n.dial(ctx, &d, network, address)
}

func (n *NS) dial(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	var c net.Conn
	err := n.Do(func() (err error) {
		// With an address that needs no resolver the socket is made on this very thread (net/dial.go, dialSerial).
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}
