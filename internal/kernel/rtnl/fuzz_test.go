package rtnl

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/test/fuzz/bound"
)

// The seeds in testdata/fuzz were recorded from Linux 6.18: messages of VXLAN devices of every kind, of other devices,
// and of their addresses.

func FuzzLink(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		var link Link
		var err error
		bound.Read(t, len(data), 1, 0, func() { link, err = ParseLink(data) })
		if err == nil && (link.Index <= 0 || link.Name == "") {
			t.Errorf("a link without identity: %+v", link)
		}
		if link.Local.IsValid() && link.Local.Zone() != "" {
			t.Errorf("local address %v", link.Local)
		}
		link.Underlay()
		inInput(t, data, &link)
	})
}

// inInput demands that what is told of a link stands in the bytes it was read from.
func inInput(t *testing.T, data []byte, l *Link) {
	t.Helper()
	for what, b := range map[string][]byte{
		"name": []byte(l.Name), "local": l.Local.AsSlice(), "remote": l.Remote.AsSlice(),
		"port": binary.BigEndian.AppendUint16(nil, l.Port), "VNI": binary.NativeEndian.AppendUint32(nil, l.VNI),
		"MTU": binary.NativeEndian.AppendUint32(nil, l.MTU),
	} {
		if len(bytes.Trim(b, "\x00")) > 0 && !bytes.Contains(data, b) {
			t.Errorf("%s % x is not in the input", what, b)
		}
	}
}

func FuzzAddr(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		var address Address
		var err error
		bound.Read(t, len(data), 1, 0, func() { address, err = ParseAddress(data) })
		a := address.Addr
		if err != nil || !a.IsValid() {
			return
		}
		if a.Is4() == (data[0] == 10) {
			t.Errorf("address %v of family %d", a, data[0])
		}
		if !bytes.Contains(data, a.AsSlice()) {
			t.Errorf("address %v is not in the input", a)
		}
	})
}

// spoken is a kernel that answers every request with the messages that its bytes describe: for each, what is odd about
// its header, the length of its payload, and the payload.
type spoken struct {
	data     []byte
	messages int
	deadline time.Time
}

// Oddities of a message's header.
const (
	oddType = 1 << iota
	oddSequence
	oddInterrupted
	oddError
)

func (s *spoken) Send(m netlink.Message) (netlink.Message, error) {
	m.Header.Sequence = 7
	return m, nil
}

func (s *spoken) ReceiveIter() iter.Seq2[netlink.Message, error] {
	return func(yield func(netlink.Message, error) bool) {
		for b := s.data; len(b) >= 3; {
			odd, n := b[0], min(int(binary.LittleEndian.Uint16(b[1:])), len(b)-3)
			m := netlink.Message{
				Header: netlink.Header{Type: unix.RTM_NEWLINK, Flags: netlink.Multi, Sequence: 7},
				Data:   b[3 : 3+n],
			}
			b = b[3+n:]
			if odd&oddType != 0 {
				m.Header.Type = unix.RTM_NEWADDR
			}
			if odd&oddSequence != 0 {
				m.Header.Sequence = 8
			}
			if odd&oddInterrupted != 0 {
				m.Header.Flags |= netlink.DumpInterrupted
			}
			var err error
			if odd&oddError != 0 {
				err = unix.ENOBUFS
			}
			s.messages++
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

func (s *spoken) SetDeadline(d time.Time) error {
	s.deadline = d
	return nil
}

func (*spoken) Close() error { return nil }

// FuzzConversation reads whole dumps, with messages that belong to other requests, interruptions and errors among them.
func FuzzConversation(f *testing.F) {
	for _, odd := range []byte{0, oddType, oddSequence, oddInterrupted, oddError} {
		one := linkSeed(3, "flannel.1")
		two := linkSeed(2, "vxlan.calico")
		seed := append(binary.LittleEndian.AppendUint16([]byte{0}, uint16(len(one))), one...)
		seed = append(seed, append(binary.LittleEndian.AppendUint16([]byte{odd}, uint16(len(two))), two...)...)
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &spoken{data: data}
		bound.Read(t, len(data), 200, 0, func() {
			c, err := Dial(context.Background(), func() (nl.Socket, error) { return s, nil })
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			links, err := c.Links()
			if errors.Is(err, unix.ENOBUFS) && links != nil {
				t.Errorf("links together with %v", err)
			}
			for i := range links {
				if i > 0 && links[i-1].Index >= links[i].Index {
					t.Errorf("link %d after %d", links[i].Index, links[i-1].Index)
				}
				inInput(t, data, &links[i])
			}
			if len(links) > s.messages {
				t.Errorf("%d links in %d messages", len(links), s.messages)
			}
			wanted := []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 1}), netip.IPv6Loopback()}
			owners, _ := c.Owners(wanted)
			for a := range owners {
				if a != wanted[0] && a != wanted[1] {
					t.Errorf("nobody asked for %v", a)
				}
			}
			if nic, err := c.NIC(3); err == nil && (nic.Index <= 0 || nic.Name == "") {
				t.Errorf("NIC %+v", nic)
			}
		})
	})
}

// linkSeed is an RTM_NEWLINK payload of a VXLAN device.
func linkSeed(index uint32, name string) []byte {
	attr := func(typ uint16, value ...byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
		b = append(binary.NativeEndian.AppendUint16(b, typ), value...)
		return append(b, make([]byte, -len(b)&3)...)
	}
	b := binary.NativeEndian.AppendUint32(make([]byte, 4), index)
	b = append(append(b, make([]byte, 8)...), attr(unix.IFLA_IFNAME, append([]byte(name), 0)...)...)
	info := append(attr(unix.IFLA_INFO_KIND, []byte(kind+"\x00")...),
		attr(unix.IFLA_INFO_DATA, attr(unix.IFLA_VXLAN_ID, 1, 0, 0, 0)...)...)
	return append(b, attr(unix.IFLA_LINKINFO, info...)...)
}

// FuzzNeighbor reads the same bytes as a neighbor and as a route.
func FuzzNeighbor(f *testing.F) {
	f.Add(append([]byte{unix.AF_INET, 0, 0, 0, 5, 0, 0, 0, unix.NUD_PERMANENT, 0, 0, 0}, 8, 0, unix.NDA_DST, 0, 10,
		244, 1, 0))
	f.Add(append([]byte{unix.AF_INET6, 128, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0}, 8, 0, unix.RTA_OIF, 0, 5, 0, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		var n Neighbor
		var r Route
		var err, routeErr error
		bound.Read(t, len(data), 1, 0, func() {
			n, err = ParseNeighbor(data)
			r, routeErr = parseRoute(data)
		})
		if err == nil && n.Addr.IsValid() && !bytes.Contains(data, n.Addr.AsSlice()) {
			t.Errorf("neighbor %s is not in the input", n.Addr)
		}
		if routeErr == nil && r.Source.IsValid() && !bytes.Contains(data, r.Source.AsSlice()) {
			t.Errorf("source %s is not in the input", r.Source)
		}
		_ = n.Usable()
	})
}
