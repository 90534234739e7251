package node

import (
	"net/netip"
	"slices"
	"time"
)

// PathState says what a probe found on the way to a peer.
type PathState string

// The states of a path.
const (
	PathOK          PathState = "ok"          // marked packets whose checksum was left to offload arrive
	PathNAT         PathState = "nat"         // these alone are lost
	PathOffload     PathState = "offload"     // packets whose checksum was left to offload are lost, marked or not
	PathMTU         PathState = "mtu"         // small packets arrive, those that fill the MTU do not
	PathUnreachable PathState = "unreachable" // nothing was answered
	PathUnknown     PathState = "unknown"     // anything else
)

// PathStates lists all states, the one that counts most first: of several paths of one device the first that any of
// them has is the device's. One peer that is dead does not hide that others answer.
func PathStates() []PathState {
	return []PathState{PathNAT, PathOffload, PathMTU, PathOK, PathUnknown, PathUnreachable}
}

// WorstPath is the state that counts most; PathUnknown when there is none.
func WorstPath(states ...PathState) PathState {
	for _, s := range PathStates() {
		if slices.Contains(states, s) {
			return s
		}
	}
	return PathUnknown
}

// Path is one round of the probe.
type Path struct {
	Time     time.Time     `json:"time"` // when the round began
	Duration time.Duration `json:"duration_ns"`
	Mark     uint32        `json:"mark"`               // the mark of marked packets
	Limits   []string      `json:"limits,omitempty"`   // what could not be sent and what is not known for want of it
	Unprobed []string      `json:"unprobed,omitempty"` // devices that no packet was sent through, each with the reason
	Peers    []PathPeer    `json:"peers,omitempty"`
	Totals   []PathTotal   `json:"totals,omitempty"` // of all rounds since the exporter started
}

// PathTotal is what all rounds counted of one device and family of the overlay. Packets that fill the MTU are not in
// it.
type PathTotal struct {
	Device string    `json:"device"`
	Family string    `json:"family"`
	Time   time.Time `json:"time"` // of the last round that asked a peer of it

	PathCounts

	// answers within each of PathRoundTripBuckets, each with those of the ones before; then all
	RoundTrips []uint64      `json:"round_trips"`
	Waited     time.Duration `json:"waited_ns"` // sum of the round trips
}

// PathRoundTripBuckets are the upper bounds of the round trips that are counted: within a rack, a data center, a
// region, and farther.
func PathRoundTripBuckets() []time.Duration {
	return []time.Duration{
		time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond,
		500 * time.Millisecond,
	}
}

// Add counts what one peer answered.
func (t *PathTotal) Add(p PathPeer) {
	buckets := PathRoundTripBuckets()
	if t.RoundTrips == nil {
		t.RoundTrips = make([]uint64, len(buckets)+1)
	}
	for _, s := range p.Senders {
		t.Plain.add(s.Plain)
		t.PlainSoftware.add(s.PlainSoftware)
		t.Marked.add(s.Marked)
		t.MarkedSoftware.add(s.MarkedSoftware)
		for _, d := range s.RoundTrips {
			t.Waited += d
			t.RoundTrips[len(buckets)]++
			for i, bound := range buckets {
				if d <= bound {
					t.RoundTrips[i]++
				}
			}
		}
	}
}

// PathPeer is what one peer answered.
type PathPeer struct {
	Device  string       `json:"device"` // VXLAN device that leads to it
	Family  string       `json:"family"` // of the overlay
	Peer    netip.Addr   `json:"peer"`   // overlay address
	Senders []PathSender `json:"senders"`
	Full    PathCount    `json:"full"`           // packets as long as the MTU allows
	Size    int          `json:"size,omitempty"` // of those, in bytes with the IP header
}

// State is the state that counts most among the senders.
func (p PathPeer) State() PathState {
	var states []PathState
	for _, s := range p.Senders {
		states = append(states, s.State)
	}
	return WorstPath(states...)
}

// PathSender is what was answered to one address of this node.
type PathSender struct {
	Source    netip.Addr `json:"source"`
	Interface string     `json:"interface,omitempty"` // that has the address
	State     PathState  `json:"state"`
	Reason    string     `json:"reason"`

	PathCounts
	RoundTrips []time.Duration `json:"round_trips_ns,omitempty"` // of the answered packets
}

// PathCounts counts small packets by kind: marked or not, the checksum left to offload or made in software.
type PathCounts struct {
	Plain          PathCount `json:"plain"`
	PlainSoftware  PathCount `json:"plain_software"`
	Marked         PathCount `json:"marked"`
	MarkedSoftware PathCount `json:"marked_software"`
}

// PathCount counts packets of one kind.
type PathCount struct {
	Sent     int `json:"sent"`
	Answered int `json:"answered"`
}

func (c *PathCount) add(d PathCount) { c.Sent, c.Answered = c.Sent+d.Sent, c.Answered+d.Answered }
