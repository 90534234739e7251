package natrules

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// listing is a kernel that answers a request with a number of like messages, the last of them flagged as interrupted so many times.
type listing struct {
	answers     map[netlink.HeaderType][]byte
	several     map[netlink.HeaderType][][]byte // where the answer is not the same each time
	refused     map[netlink.HeaderType]error
	times       map[netlink.HeaderType]int
	interrupted *int
	asked       netlink.Header
	past        bool
}

func (l *listing) Send(m netlink.Message) (netlink.Message, error) {
	l.asked = m.Header
	return m, nil
}

func (l *listing) ReceiveIter() iter.Seq2[netlink.Message, error] {
	return func(yield func(netlink.Message, error) bool) {
		if err := l.refused[l.asked.Type]; err != nil {
			yield(netlink.Message{}, &netlink.OpError{Op: "receive", Err: err})
			return
		}
		for i := range l.times[l.asked.Type] {
			m := netlink.Message{Header: l.asked, Data: l.answers[l.asked.Type]}
			if several := l.several[l.asked.Type]; several != nil {
				m.Data = several[i]
			}
			m.Header.Type -= 2 // RTM_GET* follows RTM_NEW* and RTM_DEL*
			if i == l.times[l.asked.Type]-1 && *l.interrupted > 0 {
				*l.interrupted--
				m.Header.Flags |= netlink.DumpInterrupted
			}
			if l.past {
				yield(netlink.Message{}, errors.New("read on after its deadline"))
				return
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

func (l *listing) SetDeadline(t time.Time) error {
	l.past = t.Before(time.Now())
	return nil
}

func (*listing) Close() error { return nil }

// linkMessage is a message whose header has the interface's index at 4, with one attribute.
func linkMessage(family byte, header int, kind uint16, value []byte) []byte {
	b := make([]byte, header)
	b[0] = family
	binary.NativeEndian.PutUint32(b[4:], 7)
	return nl.Append(b, kind, value)
}

// TestSurroundingsLists: a list that is too long is not known, and costs no other; one that changes while it is read is read again, and
// nothing of it counts twice; what is not IP is passed over; what contradicts itself is an error.
func TestSurroundingsLists(t *testing.T) {
	four := []byte{10, 9, 8, 0}
	address := linkMessage(unix.AF_INET, unix.SizeofIfAddrmsg, unix.IFA_ADDRESS, four)
	entry := linkMessage(unix.AF_BRIDGE, unix.SizeofNdMsg, unix.NDA_DST, four)
	route := nl.Append(make([]byte, unix.SizeofRtMsg), unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, 7))
	route = nl.Append(route, unix.RTA_DST, four)
	route[0] = unix.AF_INET
	route[1], route[7] = 24, unix.RTN_UNICAST
	label := bytes.Clone(route)
	label[0] = unix.AF_MPLS
	const addrs, fdb, routes = unix.RTM_GETADDR, unix.RTM_GETNEIGH, unix.RTM_GETROUTE

	for _, c := range []struct {
		what                     string
		change                   func(l *listing)
		interrupted              int
		addrs, remotes, prefixes int
		fails                    bool
	}{
		{what: "one of each", addrs: 1, remotes: 1, prefixes: 1},
		{what: "nothing", change: func(l *listing) { clear(l.times) }},
		{what: "too many addresses", change: func(l *listing) { l.times[addrs] = maxSurroundings + 9 }, remotes: 1, prefixes: 1},
		{what: "too many entries", change: func(l *listing) { l.times[fdb] = maxSurroundings + 9 }, addrs: 1, prefixes: 1},
		{what: "too many routes", change: func(l *listing) { l.times[routes] = maxSurroundings + 9 }, addrs: 1, remotes: 1},
		{what: "as many as can be", change: func(l *listing) { l.times[routes] = maxSurroundings }, addrs: 1, remotes: 1, prefixes: maxSurroundings},
		{what: "changed once", interrupted: 1, addrs: 1, remotes: 1, prefixes: 1},
		{what: "changed all the time", interrupted: 1 << 20, fails: true},
		{what: "a label is no address", change: func(l *listing) { l.answers[routes] = label }, addrs: 1, remotes: 1},
		{what: "cut off", change: func(l *listing) { l.answers[fdb] = entry[:len(entry)-1] }, fails: true},
		{what: "an address of three bytes", change: func(l *listing) {
			l.answers[addrs] = linkMessage(unix.AF_INET, unix.SizeofIfAddrmsg, unix.IFA_ADDRESS, four[:3])
		}, fails: true},
		{what: "a prefix longer than its address", change: func(l *listing) {
			long := bytes.Clone(route)
			long[1] = 33
			l.answers[routes] = long
		}, fails: true},
		{what: "shorter than its header", change: func(l *listing) { l.answers[routes] = route[:3] }, fails: true},
	} {
		l := &listing{
			answers:     map[netlink.HeaderType][]byte{addrs: address, fdb: entry, routes: route},
			times:       map[netlink.HeaderType]int{addrs: 1, fdb: 1, routes: 1},
			interrupted: &c.interrupted,
		}
		if c.change != nil {
			c.change(l)
		}
		s, err := ReadSurroundings(t.Context(), func() (nl.Socket, error) {
			fresh := *l
			return &fresh, nil
		})
		if c.fails != (err != nil) || c.fails && s != nil {
			t.Errorf("%s: %v, %v", c.what, s, err)
		}
		if err != nil {
			continue
		}
		if got := [3]int{len(s.Addrs(7)), len(s.Remotes(7)), len(s.Overlay(7))}; got != [3]int{c.addrs, c.remotes, c.prefixes} {
			t.Errorf("%s: %d addresses, entries and prefixes, want %d, %d, %d", c.what, got, c.addrs, c.remotes, c.prefixes)
		}
		if c.prefixes > 0 && s.Overlay(7)[0] != netip.MustParsePrefix("10.9.8.0/24") {
			t.Errorf("%s: %v", c.what, s.Overlay(7)[0])
		}
	}
}
