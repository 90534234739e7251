package diagnosis

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"vxlan_exporter/internal/node"
)

// Interval is the time between an observation and the earlier one that it is compared with; ok is false when the
// counters of the two cannot be compared, and why says so.
func Interval(n *node.Node) (d time.Duration, why string, ok bool) {
	b := n.Earlier
	switch {
	case b == nil:
		return 0, "there is only one observation", false
	case b.Hostname != n.Hostname:
		return 0, "the two observations are of different hosts", false
	case b.Kernel.BootID != "" && n.Kernel.BootID != "" && b.Kernel.BootID != n.Kernel.BootID:
		return 0, "the node was rebooted between the two observations", false
	}
	if d = n.Time.Sub(b.Time); d <= 0 {
		return 0, "the second observation is not later than the first", false
	}
	return d, "", true
}

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
	e := Evidence{Name: c.Name}
	if c.Detail != "" {
		e.Name += " (" + c.Detail + ")"
	}
	switch {
	case c.Total == nil:
		e.Value = "not known: " + c.Note
	case c.Delta == nil:
		e.Value = strconv.FormatUint(*c.Total, 10)
	default:
		e.Value = fmt.Sprintf("+%d to %d", *c.Delta, *c.Total)
	}
	return e
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
	var list []Counter
	for _, row := range []struct {
		name, key string
		of        func(h *node.Host) *uint64
	}{
		{"Udp InCsumErrors", keyUDPCsum + node.IPv4, func(h *node.Host) *uint64 { return h.UDP4.InCsumErrors }},
		{"Udp6InCsumErrors", keyUDPCsum + node.IPv6, func(h *node.Host) *uint64 { return h.UDP6.InCsumErrors }},
		{"Udp InErrors", "", func(h *node.Host) *uint64 { return h.UDP4.InErrors }},
		{"Udp6InErrors", "", func(h *node.Host) *uint64 { return h.UDP6.InErrors }},
		{"conntrack invalid", keyInvalid, func(h *node.Host) *uint64 { return h.ConntrackInvalid }},
		{"Tcp InCsumErrors", keyTCPCsum, func(h *node.Host) *uint64 { return h.TCPInCsumErrors }},
		{"TCPSynRetrans", keySynRetrans, func(h *node.Host) *uint64 { return h.TCPSynRetrans }},
		{"TCPTimeouts", "", func(h *node.Host) *uint64 { return h.TCPTimeouts }},
		{"TcpTimeoutRehash", "", func(h *node.Host) *uint64 { return h.TCPTimeoutRehash }},
	} {
		c := Counter{Name: row.name, key: row.key, Total: row.of(&n.Host)}
		var before *uint64
		if ok {
			before = row.of(&n.Earlier.Host)
		}
		switch {
		case c.Total == nil:
			c.Note = "this kernel does not say, or it was not read"
		case !ok:
			c.Note = why
		case before == nil:
			c.Note = "the first observation has no value"
		case *c.Total < *before:
			c.Note, c.Reset = "it fell from "+strconv.FormatUint(*before, 10)+": it was reset or wrapped", true
		default:
			c.rise(*before, span)
		}
		list = append(list, c)
	}
	// A socket with a new inode is a new socket: its drops began at 0.
	type identity struct {
		portKey
		inode uint64
	}
	before, had := map[identity]uint64{}, map[portKey]bool{}
	if ok {
		for _, s := range n.Earlier.Sockets {
			k := portKey{s.Family, s.Port}
			before[identity{k, s.Inode}], had[k] = s.Drops, true
		}
	}
	for _, s := range n.Sockets {
		k := portKey{s.Family, s.Port}
		c := Counter{Name: "VXLAN socket drops", Detail: k.String(), Total: &s.Drops, key: keyDrops + s.Family}
		drops, same := before[identity{k, s.Inode}]
		switch {
		case !ok:
			c.Note = why
		case !same && !had[k]:
			c.Note = "the socket was not there at the first observation"
		case !same, s.Drops < drops:
			c.Note, c.Reset = "the socket is a new one: the device went down and up", true
		default:
			c.rise(drops, span)
		}
		list = append(list, c)
	}
	return list
}

// rise sets how much c is above what it was.
func (c *Counter) rise(before uint64, span time.Duration) {
	c.Delta = new(*c.Total - before)
	c.PerSecond = float64(*c.Delta) / span.Seconds()
}
