package diagnosis

import (
	"math"
	"net/netip"
	"time"

	"vxlan_exporter/internal/node"
)

// Recent is for how long what was seen counts as going on: a scraper that comes once a minute sees it, even when it
// misses one scrape, and a connection that stalls sends a packet at least every 32 s.
const Recent = 2 * time.Minute

// VariantUnknown stands for NATed flows that a condition of both variants speaks against, or of which one could not be
// read.
const VariantUnknown = "unknown"

// Sender says whether the outer packets of a device were NATed recently.
type Sender struct {
	Device string // empty: flows that no device here sends
	Family string // of the underlay
	Port   uint16
	// what NAT makes of its packets: node.ZeroChecksum, node.OffloadedChecksum or VariantUnknown; empty: nothing was NATed
	Variant string
}

// Senders lists the devices that send from this namespace, and the ports with recent NATed flows of none. No verdict
// takes one off the list. nil before connection tracking was scanned.
func Senders(n *node.Node) []Sender {
	if n == nil || n.Conntrack.Scan == nil {
		return nil
	}
	j := newJudge(n)
	var all []Sender
	for _, d := range n.Devices {
		if d.LinkNetns != nil {
			continue
		}
		for _, family := range underlayFamilies(d) {
			s := Sender{d.Name, family, d.Port, ""}
			if j.recent(j.ports.at(portKey{family, d.Port}).of(sentFrom(d, family))) {
				s.Variant = VariantUnknown
				for _, variant := range variants {
					if state := j.over(d, family, variant).state; state == Active || state == Exposed {
						s.Variant = variant
					}
				}
			}
			all = append(all, s)
		}
	}
	for _, t := range n.Conntrack.Ports {
		if p := j.ports.at(portKey{t.Family, t.Port}); len(p.senders[netip.Addr{}]) == 0 && j.recent(p.ofNobody()) {
			all = append(all, Sender{"", t.Family, t.Port, VariantUnknown})
		}
	}
	return all
}

// recent reports whether flows are there, or were when a scan last found some. What is scanned rarely stays until the
// next scan.
func (j *judge) recent(n natted) bool {
	hold := max(Recent, 2*j.now.Conntrack.ScanInterval)
	return j.now.Time.Sub(n.seen) < hold || n.flows > 0 && j.now.Time.Sub(j.now.Conntrack.Scan.Time) < hold
}

// ReceiverState says whether bad UDP checksums arrived recently, and whose they are.
type ReceiverState string

// The states of a receiver.
const (
	ReceivesNone    ReceiverState = "quiet"   // none were seen to arrive
	ReceivesVXLAN   ReceiverState = "vxlan"   // they are VXLAN's, surely or most likely
	ReceivesOther   ReceiverState = "other"   // they are not
	ReceivesUnclear ReceiverState = "unclear" // this node cannot tell
)

// Receiver says what arrived over one underlay family since the observation that n is compared with.
type Receiver struct {
	Family string
	State  ReceiverState
	Bad    *float64 // packets that were dropped and may be VXLAN's; nil: nothing counts them
}

// Receivers judges both families, as Judge does. Where bad checksums are not counted because a firewall drops invalid
// packets first, the packets that connection tracking called invalid count as far as they are more than usual.
func Receivers(n *node.Node) []Receiver {
	j := newJudge(n)
	j.receivers()
	excess := j.invalidExcess()
	var all []Receiver
	for _, family := range families {
		c := j.counter(keyUDPCsum + family)
		if c.Total == nil && !j.carries[family] {
			continue
		}
		r := Receiver{family, j.received(family), new(float64(c.delta()))}
		switch {
		case c.rises() && r.State == ReceivesOther:
			r.Bad = new(float64)
		case excess > 1.5 && j.carries[family]:
			r.State, r.Bad = ReceivesUnclear, new(excess)
		case c.Total == nil:
			r.Bad = nil
		}
		all = append(all, r)
	}
	return all
}

// received is the state by what was found.
func (j *judge) received(family string) ReceiverState {
	for _, f := range j.findings {
		if f.Family != family {
			continue
		}
		switch f.Code {
		case CodeVXLANErrors, CodeVXLANErrorsLikely:
			return ReceivesVXLAN
		case CodeErrorsUnclear, CodeResultMissing:
			return ReceivesUnclear
		case CodeErrorsElsewhere:
			// Where connection tracking does not count them, the socket would, but not the smallest.
			if _, flows := j.tracked(family); j.carries[family] && flows == 0 {
				return ReceivesUnclear
			}
			return ReceivesOther
		}
	}
	return ReceivesNone
}

// invalidExcess is by how many packets the rise of what connection tracking calls invalid is above what is usual: the
// mean, and three standard deviations of rare events. 0 where bad checksums were counted, which it calls invalid too.
func (j *judge) invalidExcess() float64 {
	span, _, ok := Interval(j.now)
	if !ok || j.counter(keyUDPCsum+node.IPv4).rises() || j.counter(keyUDPCsum+node.IPv6).rises() {
		return 0
	}
	mean := 0.0
	if usual := j.now.Earlier.Host.ConntrackInvalidUsual; usual != nil {
		mean = *usual * span.Seconds()
	}
	return float64(j.counter(keyInvalid).delta()) - mean - 3*math.Sqrt(mean)
}
