package conntrack

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"runtime"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/procnet"
	"vxlan_exporter/test/lab/labtest"
)

// The counter must be the one that /proc/net/stat/nf_conntrack has, before and after packets that are invalid: UDP from
// one namespace to another whose checksum is wrong, and that INPUT drops.
func TestInvalidIsProcfsColumn(t *testing.T) {
	a, b := labtest.New(t, "inv-a"), labtest.New(t, "inv-b")
	a.Run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", b.Name)
	a.Run("ip", "addr", "add", "192.0.2.1/24", "dev", "va")
	b.Run("ip", "addr", "add", "192.0.2.2/24", "dev", "vb")
	a.Run("ip", "link", "set", "va", "up")
	b.Run("ip", "link", "set", "vb", "up")
	b.RunInput("table inet t { chain input { type filter hook input priority 0; ct state invalid drop; }; }",
		"nft", "-f", "-")
	read := func() (byNetlink uint64, byProcfs *uint64) {
		b.Do(func() (err error) {
			if byNetlink, err = Invalid(t.Context(), nl.Netfilter); err != nil {
				return err
			}
			byProcfs, err = procnet.PerCPU(fmt.Sprintf("/proc/self/task/%d/net/stat/nf_conntrack", unix.Gettid()), "invalid")
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		return byNetlink, byProcfs
	}
	before, same := read()
	if same == nil {
		labtest.Lacks(t, "this kernel has no /proc/net/stat/nf_conntrack to compare with")
	}
	if *same != before {
		t.Fatalf("%d by netlink, /proc/net/stat/nf_conntrack says %v", before, same)
	}
	const packets = 5
	a.Do(func() error { return sendBadUDP("192.0.2.2", packets) })
	for range 100 { // the packets are on their way
		if after, _ := read(); after >= before+packets {
			break
		}
		runtime.Gosched()
		time.Sleep(10 * time.Millisecond)
	}
	after, same := read()
	if after != before+packets || same == nil || *same != after {
		t.Errorf("%d by netlink after %d packets, %d before; /proc/net/stat/nf_conntrack says %v", after, packets,
			before, *same)
	}
}

// sendBadUDP sends UDP packets with a wrong checksum by a raw socket.
func sendBadUDP(to string, n int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var sa unix.SockaddrInet4
	if _, err := fmt.Sscanf(to, "%d.%d.%d.%d", &sa.Addr[0], &sa.Addr[1], &sa.Addr[2], &sa.Addr[3]); err != nil {
		return err
	}
	packet := []byte{0x30, 0x39, 0x21, 0x18, 0, 12, 0xde, 0xad, 'b', 'a', 'd', '!'} // ports, length, checksum
	for range n {
		if err := unix.Sendto(fd, packet, 0, &sa); err != nil {
			return err
		}
	}
	return nil
}

// cpus answers by one message for each CPU.
type cpus struct {
	payloads [][]byte
	err      error
	asked    netlink.Message
}

func (c *cpus) Send(m netlink.Message) (netlink.Message, error) {
	c.asked = m
	return m, nil
}

func (c *cpus) ReceiveIter() iter.Seq2[netlink.Message, error] {
	return func(yield func(netlink.Message, error) bool) {
		for _, b := range c.payloads {
			m := netlink.Message{Header: netlink.Header{Type: msgGetStatsCPU, Flags: netlink.Multi}, Data: b}
			if !yield(m, nil) {
				return
			}
		}
		if c.err != nil {
			yield(netlink.Message{}, &netlink.OpError{Op: "receive", Err: c.err})
		}
	}
}

func (*cpus) SetDeadline(time.Time) error { return nil }

func (*cpus) Close() error { return nil }

func TestInvalidAnswers(t *testing.T) {
	cpu := func(attrs ...byte) []byte { return append([]byte{0, 0, 0, 0}, attrs...) }
	one := cpu(nl.Append(nl.Append(nil, 2, "\x00\x00\x00\x07"), ctaStatsInvalid, "\x00\x00\x01\x02")...)
	for _, tt := range []struct {
		name string
		cpus cpus
		want uint64
		err  error
	}{
		{"two CPUs", cpus{payloads: [][]byte{one, one}}, 516, nil},
		{"no CPU", cpus{}, 0, nl.ErrMalformed},
		{"a CPU without it", cpus{payloads: [][]byte{one, cpu()}}, 0, nl.ErrMalformed},
		{"of two bytes", cpus{payloads: [][]byte{cpu(nl.Append(nil, ctaStatsInvalid, "\x01\x02")...)}}, 0, nl.ErrMalformed},
		{"cut off", cpus{payloads: [][]byte{one[:len(one)-3]}}, 0, nl.ErrMalformed},
		{"not permitted", cpus{err: unix.EPERM}, 0, fs.ErrPermission},
		{"no ctnetlink", cpus{err: unix.EINVAL}, 0, errors.ErrUnsupported},
	} {
		got, err := Invalid(t.Context(), func() (nl.Socket, error) { return &tt.cpus, nil })
		if got != tt.want || !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%s: %d, %v", tt.name, got, err)
		}
	}
}

func FuzzInvalid(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 8, 0, 4, 0, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseInvalid(b); err != nil && n != 0 {
			t.Errorf("%d and %v", n, err)
		}
	})
}
