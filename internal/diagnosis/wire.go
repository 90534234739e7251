package diagnosis

import (
	"fmt"
	"slices"
	"time"

	"vxlan_exporter/internal/node"
)

// wireRecent is how old a captured bad packet may be to speak of now. A stalled connection sends one every 1 to 32 s.
const wireRecent = time.Minute

// wire judges what the packet capture saw. A bad packet on the wire needs no attribution: it names its sender, and it
// is seen before any firewall or connection tracking can hide it.
func (j *judge) wire() {
	if j.now.Wire == nil || len(j.now.Wire.Samples) == 0 {
		return
	}
	recent := slices.DeleteFunc(slices.Clone(j.now.Wire.Samples),
		func(p node.BadPacket) bool { return j.now.Time.Sub(p.Time) > wireRecent })
	if len(recent) == 0 {
		newest := j.now.Wire.Samples[0]
		j.add(Finding{
			Code: CodeWireEarlier, Severity: Info, Variant: newest.Variant,
			Summary: fmt.Sprintf("The packet capture has seen bad VXLAN packets, the last one %s ago: %s.",
				j.now.Time.Sub(newest.Time).Round(time.Second), captured(newest)),
		})
		return
	}
	for _, direction := range []string{node.In, node.Out} {
		var peers []string
		var f Finding
		for _, p := range recent {
			if p.Direction != direction {
				continue
			}
			peer := p.Source.Addr().String()
			if direction == node.Out {
				peer = p.Destination.Addr().String()
			}
			if len(peers) == 0 {
				f = Finding{
					Code: CodeWireBad, Severity: Critical, Device: p.Interface, Port: p.Destination.Port(), Variant: p.Variant,
					Family: node.Family(p.Source.Addr()),
				}
			}
			if !slices.Contains(peers, peer) {
				peers = append(peers, peer)
				f.Evidence = append(f.Evidence, Evidence{"bad packet", captured(p)})
			}
		}
		if len(peers) == 0 {
			continue
		}
		j.raise(Failing)
		f.Summary = "VXLAN packets with a bad outer checksum (" + f.Variant + ") "
		if direction == node.In {
			f.Summary += "arrive from " + list(peers) + "."
			f.Remedies = []Remedy{remedy("look_at_sender", "{senders}", list(peers))}
		} else {
			f.Summary += "leave this node for " + list(peers) + "."
		}
		j.add(f)
	}
}

// captured quotes a bad packet.
func captured(p node.BadPacket) string {
	return fmt.Sprintf("%s to %s on %s, %s", p.Source, p.Destination, p.Interface, p.Sums)
}
