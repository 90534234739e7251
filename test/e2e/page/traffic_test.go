//go:build e2e

package page_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/daemon"
)

// every calls f, pauses for the interval, and so on until the time is over.
func every(t *testing.T, interval, total time.Duration, f func()) {
	t.Helper()
	end := time.Now().Add(total)
	for time.Now().Before(end) && t.Context().Err() == nil {
		f()
		time.Sleep(interval)
	}
}

// garbage sends n UDP datagrams of random size and content from one node to another, to a port that is not VXLAN's,
// with checksums that are wrong.
func garbage(from *lab.NS, to netip.Addr, n int) error {
	network := "ip4:udp"
	if to.Is6() {
		network = "ip6:udp"
	}
	var c net.PacketConn
	err := from.Do(func() (err error) {
		var lc net.ListenConfig
		c, err = lc.ListenPacket(context.Background(), network, "")
		return err
	})
	if err != nil {
		return fmt.Errorf("raw socket: %w", err)
	}
	defer c.Close()
	for range n {
		payload := make([]byte, 1+rand.IntN(1200))
		for i := range payload {
			payload[i] = byte(rand.Uint32())
		}
		var udp []byte
		// Any checksum but the right one is wrong: the chance of that is 1 in 65535. The caller counts.
		for _, v := range []uint16{
			uint16(1024 + rand.IntN(60000)), 9999, uint16(8 + len(payload)),
			uint16(1 + rand.IntN(0xffff)),
		} {
			udp = binary.BigEndian.AppendUint16(udp, v)
		}
		if _, err := c.WriteTo(append(udp, payload...), &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return fmt.Errorf("send garbage: %w", err)
		}
	}
	return nil
}

// sink swallows what is sent to a TCP port of the pod.
func sink(ctx context.Context, c *site, port uint16) (netip.AddrPort, io.Closer, error) {
	address := netip.AddrPortFrom(c.PodIP, port)
	l, err := daemon.Listen(ctx, c.Pod, address.String())
	if err != nil {
		return address, nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				_, _ = io.Copy(io.Discard, conn) // ends with the sender
				_ = conn.Close()
			}()
		}
	}()
	return address, l, nil
}

// flood sends bytes from node A through the overlay over one TCP connection.
func flood(ctx context.Context, c *site, to netip.AddrPort, bytes int64) error {
	conn, err := c.A.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	block := make([]byte, 64<<10)
	for sent := int64(0); sent < bytes; sent += int64(len(block)) {
		if err := conn.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		if _, err := conn.Write(block); err != nil {
			return err
		}
	}
	return nil
}

// touch opens and closes a connection from node A through the overlay, past every NodePort.
func touch(ctx context.Context, c *site, to netip.AddrPort) error {
	conn, err := c.A.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// containerAddress is in Docker's network; node A has it on its loopback, as if a container ran there.
const containerAddress = "172.17.0.2"

// container sends a DNS query from the container's address to node B, which the node masquerades as Docker does.
func container(c *site) error {
	local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(containerAddress),
		uint16(20000+rand.IntN(20000))))
	var conn net.Conn
	err := c.A.Do(func() (err error) {
		d := net.Dialer{LocalAddr: local}
		conn, err = d.Dial("udp4", net.JoinHostPort(c.UnderlayB.String(), "53"))
		return err
	})
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte("a query of no meaning"))
	return errors.Join(err, conn.Close())
}

// tunnelBytes is what came out of the receiver's VXLAN device.
func tunnelBytes(t *testing.T, c *site) int64 {
	t.Helper()
	text, err := c.B.Run("cat", "/sys/class/net/"+lab.Device+"/statistics/rx_bytes")
	must(t, err)
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	must(t, err)
	return n
}
