package diagnosis

import (
	"strconv"
	"strings"
	"time"

	"vxlan_exporter/internal/kernel/procnet"
	"vxlan_exporter/internal/node"
)

// Counter is one of the kernel's counters as two observations have it.
type Counter struct {
	Name      string  // the kernel's own name
	Detail    string  // family or port; empty when the counter has none
	Total     *uint64 // nil: this kernel has no such counter, or it could not be read
	Delta     *uint64 // rise between them; nil when it has none, and Note says why
	PerSecond float64 // Delta over the time between them
	Note      string
	Reset     bool // it fell between them

	key string
}

// rises reports whether c is known to have risen.
func (c Counter) rises() bool { return c.Delta != nil && *c.Delta > 0 }

// still reports whether c is known to stand still.
func (c Counter) still() bool { return c.Delta != nil && *c.Delta == 0 }

func (c Counter) delta() uint64 {
	if c.Delta == nil {
		return 0
	}
	return *c.Delta
}

func (c Counter) evidence() Evidence {
	name := c.Name
	if c.Detail != "" {
		name += " (" + c.Detail + ")"
	}
	switch {
	case c.Total == nil:
		return Evidence{name, "not known: " + c.Note}
	case c.Delta == nil:
		return Evidence{name, strconv.FormatUint(*c.Total, 10)}
	default:
		return Evidence{name, "+" + strconv.FormatUint(*c.Delta, 10) + " to " + strconv.FormatUint(*c.Total, 10)}
	}
}

// Alarming reports whether a rise of c means that packets arrive spoiled.
func (c Counter) Alarming() bool {
	return c.rises() && (strings.HasPrefix(c.key, keyUDPCsum) || strings.HasPrefix(c.key, keyDrops) || c.key == keyTCPCsum)
}

// Keys of the counters that the judgment uses.
const (
	keyUDPCsum    = "udp_csum"
	keyInvalid    = "invalid"
	keyTCPCsum    = "tcp_csum"
	keySynRetrans = "syn_retrans"
	keyDrops      = "drops"
)

// Counters lists the counters of an observation with their rises, in the order of the report.
func Counters(n *node.Node) []Counter {
	span, why, ok := Interval(n)
	add := func(list []Counter, c Counter, get func(*node.Node) *uint64) []Counter {
		c.Total = get(n)
		switch {
		case c.Total == nil:
			c.Note = "this kernel does not say, or it was not read"
		case !ok:
			c.Note = why
		default:
			before := get(n.Earlier)
			switch {
			case before == nil:
				c.Note = "the first observation has no value"
			case *c.Total < *before:
				c.Note, c.Reset = "it fell from "+strconv.FormatUint(*before, 10)+": it was reset or wrapped", true
			default:
				d := *c.Total - *before
				c.Delta, c.PerSecond = &d, float64(d)/span.Seconds()
			}
		}
		return append(list, c)
	}
	var list []Counter
	for _, f := range families {
		name := map[string]string{node.IPv4: "Udp InCsumErrors", node.IPv6: "Udp6InCsumErrors"}[f]
		list = add(list, Counter{Name: name, key: keyUDPCsum + f},
			func(n *node.Node) *uint64 { return udp(n, f).InCsumErrors })
	}
	for _, f := range families {
		name := map[string]string{node.IPv4: "Udp InErrors", node.IPv6: "Udp6InErrors"}[f]
		list = add(list, Counter{Name: name}, func(n *node.Node) *uint64 { return udp(n, f).InErrors })
	}
	list = add(list, Counter{Name: "conntrack invalid", key: keyInvalid},
		func(n *node.Node) *uint64 { return n.Host.ConntrackInvalid })
	list = add(list, Counter{Name: "Tcp InCsumErrors", key: keyTCPCsum},
		func(n *node.Node) *uint64 { return n.Host.TCPInCsumErrors })
	list = add(list, Counter{Name: "TCPSynRetrans", key: keySynRetrans},
		func(n *node.Node) *uint64 { return n.Host.TCPSynRetrans })
	list = add(list, Counter{Name: "TCPTimeouts"}, func(n *node.Node) *uint64 { return n.Host.TCPTimeouts })
	list = add(list, Counter{Name: "TcpTimeoutRehash"}, func(n *node.Node) *uint64 { return n.Host.TCPTimeoutRehash })
	return append(list, socketCounters(n, span, why, ok)...)
}

func udp(n *node.Node, family string) procnet.UDPCounters {
	if family == node.IPv6 {
		return n.Host.UDP6
	}
	return n.Host.UDP4
}

// socketCounters are the drops of the kernel's VXLAN sockets. A socket with a new inode is a new socket: its drops
// began at 0.
func socketCounters(n *node.Node, span time.Duration, why string, ok bool) []Counter {
	type identity struct {
		portKey
		inode uint64
	}
	before, had := map[identity]procnet.Socket{}, map[portKey]bool{}
	if ok {
		for _, s := range n.Earlier.Sockets {
			k := portKey{s.Family, s.Port}
			before[identity{k, s.Inode}], had[k] = s, true
		}
	}
	list := make([]Counter, 0, len(n.Sockets))
	for _, s := range n.Sockets {
		c := Counter{
			Name: "VXLAN socket drops", Detail: s.Family + " port " + strconv.Itoa(int(s.Port)), Total: &s.Drops,
			key: keyDrops + s.Family,
		}
		k := portKey{s.Family, s.Port}
		b, same := before[identity{k, s.Inode}]
		switch {
		case !ok:
			c.Note = why
		case !same && !had[k]:
			c.Note = "the socket was not there at the first observation"
		case !same, s.Drops < b.Drops:
			c.Note, c.Reset = "the socket is a new one: the device went down and up", true
		default:
			d := s.Drops - b.Drops
			c.Delta, c.PerSecond = &d, float64(d)/span.Seconds()
		}
		list = append(list, c)
	}
	return list
}
