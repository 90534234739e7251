package probe_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// tap is a packet socket on an interface of a namespace, on the calling thread's side of lab.NS.Do.
func tap(t testing.TB, n *lab.NS, name string, options ...int) (fd, index int) {
	t.Helper()
	must(t, n.Do(func() error {
		link, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		index = link.Index
		all := int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)))
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		for _, o := range options {
			err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_PACKET, o, 1))
		}
		return errors.Join(err, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: index})) //nolint:gosec // ETH_P_ALL
	}))
	return fd, index
}

// seen is what the kernel says of the checksum of outgoing packets: protocol of the packet to whether it was left
// unfinished.
type seen map[byte]map[bool]int

// watchInner reads what node A sends into its VXLAN device until the test stops it.
func watchInner(t testing.TB, n *lab.NS, stop <-chan struct{}) func() seen {
	fd, _ := tap(t, n, lab.Device, unix.PACKET_AUXDATA)
	result := seen{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer unix.Close(fd)
		buf, oob := make([]byte, 4096), make([]byte, 256)
		for {
			n, o, _, from, err := unix.Recvmsg(fd, buf, oob, 0)
			if err != nil {
				select {
				case <-stop:
					return
				default:
					continue
				}
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); !ok || ll.Pkttype != unix.PACKET_OUTGOING || n < 54 {
				continue
			}
			proto := buf[14+9]
			if buf[12] == 0x86 {
				proto = buf[14+6]
			}
			messages, err := unix.ParseSocketControlMessage(oob[:o])
			if err != nil {
				continue
			}
			for _, m := range messages {
				if m.Header.Type != unix.PACKET_AUXDATA {
					continue
				}
				unfinished := binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_CSUMNOTREADY != 0
				if result[proto] == nil {
					result[proto] = map[bool]int{}
				}
				result[proto][unfinished]++
			}
		}
	}()
	return func() seen { <-done; return result }
}

// Each kind of packet is what it is taken for, by the kernel's own word, in both families: SYNs and ordinary UDP
// unfinished, the controls finished.
func TestKindsAreWhatTheyClaim(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		six, echo bool
	}{
		"IPv4": {false, true}, "IPv4 without echo": {false, false}, "IPv6": {true, true},
		"IPv6 without echo": {true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := lab.LiveFailure()
			o.Rules = lab.RulesFixed
			r := labtest.NewRig(t, o)
			a, icmp := asker{timeout: 100 * time.Millisecond}, byte(unix.IPPROTO_ICMP)
			tables := "iptables-legacy-restore"
			if c.six {
				a.peers, icmp, tables = []netip.Addr{dualStack(t, r)}, unix.IPPROTO_ICMPV6, "ip6tables-legacy-restore"
			}
			if !c.echo {
				a.capabilities = 1 << unix.CAP_NET_ADMIN
			}
			// SYNs are dropped, so that UDP is asked as well, with both kinds of checksum.
			_, err := r.B.RunInput("*filter\n-A INPUT -p tcp --dport 9 -j DROP\nCOMMIT\n", tables, "-n")
			must(t, err)
			stop := make(chan struct{})
			result := watchInner(t, r.A, stop)
			p := a.ask(t, r.A)
			close(stop)
			got := result()
			sent := node.PathSender{}
			for _, s := range p.Peers[0].Senders {
				sent.Plain.Sent += s.Plain.Sent + s.Marked.Sent
				sent.PlainSoftware.Sent += s.PlainSoftware.Sent + s.MarkedSoftware.Sent
			}
			if got[unix.IPPROTO_TCP][true] == 0 || got[unix.IPPROTO_TCP][false] != 0 {
				t.Errorf("SYNs: %v", got[unix.IPPROTO_TCP])
			}
			if n := got[unix.IPPROTO_TCP][true] + got[unix.IPPROTO_UDP][true]; n != sent.Plain.Sent ||
				got[unix.IPPROTO_UDP][true] == 0 {
				t.Errorf("%d unfinished packets, %d were sent: %v", n, sent.Plain.Sent, got)
			}
			finished := got[unix.IPPROTO_UDP][false]
			if c.echo {
				finished += got[icmp][false]
			}
			if got[icmp][true] != 0 || got[unix.IPPROTO_UDP][false] == 0 || (c.echo && got[icmp][false] == 0) ||
				finished < sent.PlainSoftware.Sent {
				t.Errorf("finished: %v, %d were sent", got, sent.PlainSoftware.Sent)
			}
		})
	}
}

// brokenNIC carries frames from one interface to another like a NIC whose checksum offload works for ordinary packets,
// and not for tunneled ones: an unfinished checksum of an outer header is finished, one of an inner header is left as
// it is. That is variant C.
func brokenNIC(t testing.TB, n *lab.NS, from, to string, stop <-chan struct{}, done *sync.WaitGroup) {
	in, _ := tap(t, n, from, unix.PACKET_VNET_HDR)
	out, index := tap(t, n, to)
	done.Go(func() {
		defer unix.Close(in)
		defer unix.Close(out)
		buf := make([]byte, 1<<16)
		for {
			size, from, err := unix.Recvfrom(in, buf, 0)
			if err != nil {
				select {
				case <-stop:
					return
				default:
					continue
				}
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); !ok || ll.Pkttype == unix.PACKET_OUTGOING || size < 24 {
				continue
			}
			// struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset.
			const header, needsChecksum, outerUDP = 10, 1, 14 + 20
			start, offset := int(binary.NativeEndian.Uint16(buf[6:])), int(binary.NativeEndian.Uint16(buf[8:]))
			frame := buf[header:size]
			if buf[0]&needsChecksum != 0 && start == outerUDP && start+offset+2 <= len(frame) {
				var sum uint32
				for i := start; i < len(frame); i += 2 {
					sum += uint32(frame[i]) << 8
					if i+1 < len(frame) {
						sum += uint32(frame[i+1])
					}
				}
				for sum > 0xffff {
					sum = sum>>16 + sum&0xffff
				}
				binary.BigEndian.PutUint16(frame[start+offset:], ^uint16(sum)) //nolint:gosec // folded
			}
			_ = unix.Sendto(out, frame, 0, &unix.SockaddrLinklayer{Ifindex: index})
		}
	})
}

// A NIC that loses packets whose inner checksum it was to finish: with and without outer checksum, and the remedy.
func TestVariantC(t *testing.T) {
	t.Parallel()
	for _, outer := range []string{"udpcsum", "noudpcsum"} {
		t.Run(outer, func(t *testing.T) {
			t.Parallel()
			a, wire, b := labtest.New(t, "c-a"), labtest.New(t, "c-wire"), labtest.New(t, "c-b")
			must(t, wire.IP("link add left type veth peer name eth0 netns "+a.Name,
				"link add right type veth peer name eth0 netns "+b.Name, "link set left up", "link set right up"))
			for i, n := range []*labtest.NS{a, b} {
				me, peer := []string{"1", "2"}[i], []string{"2", "1"}[i]
				must(t, n.IP("addr add 192.168.77."+me+"/24 dev eth0", "link set eth0 up",
					"link add "+lab.Device+" address 02:76:78:00:00:0"+me+" mtu 1450 type vxlan id 1 local "+
						"192.168.77."+me+" dev eth0 dstport 8472 nolearning "+outer,
					"addr add 10.244."+me+".0/32 dev "+lab.Device, "link set "+lab.Device+" up",
					"neigh add 10.244."+peer+".0 lladdr 02:76:78:00:00:0"+peer+" dev "+lab.Device+" nud permanent",
					"route add 10.244."+peer+".0/24 via 10.244."+peer+".0 dev "+lab.Device+" onlink"))
				n.Run("bridge", "fdb", "append", "02:76:78:00:00:0"+peer, "dev", lab.Device, "dst", "192.168.77."+peer)
			}
			stop := make(chan struct{})
			var done sync.WaitGroup
			brokenNIC(t, wire.NS, "left", "right", stop, &done)
			brokenNIC(t, wire.NS, "right", "left", stop, &done)
			t.Cleanup(func() { close(stop); done.Wait() })
			p := asker{}.ask(t, a.NS)
			if s := states(t, p); s[lab.Device] != node.PathOffload {
				t.Errorf("%v: %+v", s, p.Peers[0])
			}
			a.Run("ethtool", "-K", lab.Device, "tx-checksum-ip-generic", "off")
			p = asker{}.ask(t, a.NS)
			if s := states(t, p); s[lab.Device] != node.PathOK {
				t.Errorf("offload off: %v: %+v", s, p.Peers[0])
			}
		})
	}
}
