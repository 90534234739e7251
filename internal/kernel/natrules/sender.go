package natrules

import (
	"fmt"
	"slices"
	"strings"
)

// senders are whose packets enter the port's devices; one of which nothing is known, where nobody knows.
func (j *judge) senders(port *Port, ipv6 bool, mark uint32) []Sender {
	if port.Senders == nil {
		return []Sender{{}}
	}
	return port.Senders(ipv6, mark)
}

func (j *judge) ways(port *Port, ipv6 bool, mark uint32) []Way {
	if port.Ways != nil {
		if ways := port.Ways(ipv6, mark); len(ways) > 0 {
			return ways
		}
	}
	return []Way{{}}
}

func (j *judge) innerPacket(port *Port, s *Sender, ipv6 bool) *packet {
	p := innerPacket(port, s, ipv6)
	if j.in.test != nil {
		j.in.test.inner(p)
	}
	return p
}

// leaving walks a sender's packets to the tunnel, and returns the fates of those that get there.
func (j *judge) leaving(s *Sender, p *packet, mark uint32) []exit {
	start := state{}
	if j.in.test != nil && j.in.test.socketMark {
		start.mark.bits, mark = mark, 0
	}
	fates := j.newWalk(p).through(j.bases(p.ipv6, s.hooks()...), start, mark)
	return slices.DeleteFunc(fates, func(e exit) bool { return e.kind == verdictDrop })
}

// hooks are the places that a sender's packets pass.
func (s *Sender) hooks() []int {
	if s.In == nil {
		return outgoing
	}
	return forwarded
}

// describe names a sender.
func (s *Sender) describe(ipv6 bool) string {
	if s.In == nil {
		return "the node itself"
	}
	if len(s.Sources) == 0 {
		return "pods or containers"
	}
	return "pods or containers in " + s.text(prefixRanges(s.Sources, ipv6), ipv6)
}

// narrowed names those of a sender's packets, all, that are of the kind p.
func (s *Sender) narrowed(all, p *packet) string {
	if s.In == nil {
		for d, what := range map[dim]string{dimUID: "uid", dimGID: "gid"} {
			if own := p.fields[d].set; !slices.Equal(own, all.fields[d].set) {
				return "host processes of " + what + " " + own.text()
			}
		}
	}
	src := p.fields[dimSrc].set
	switch whole := slices.Equal(src, all.fields[dimSrc].set); {
	case whole || len(src) == 0:
		return s.describe(p.ipv6)
	case s.In == nil || src.within(all.own.set) == yes:
		return "the node itself from " + prefixesText(src, p.ipv6)
	default:
		return "pods or containers in " + s.text(src, p.ipv6)
	}
}

// text writes small numbers.
func (r ranges) text() string {
	var all []string
	for _, s := range r {
		text := fmt.Sprint(s.first.low)
		if s.last != s.first {
			text += fmt.Sprintf("-%d", s.last.low)
		}
		all = append(all, text)
	}
	return someOf(all)
}

// text names addresses behind the sender's interfaces.
func (s *Sender) text(r ranges, ipv6 bool) string {
	var names []string
	for _, i := range s.In {
		names = append(names, i.Name)
	}
	return prefixesText(r, ipv6) + " (" + someOf(names) + ")"
}

func prefixesText(r ranges, ipv6 bool) string {
	var all []string
	for _, p := range r.prefixes(ipv6) {
		if p.IsSingleIP() {
			all = append(all, p.Addr().String())
			continue
		}
		all = append(all, p.String())
	}
	return someOf(all)
}

// someOf joins the first few of a list.
func someOf(all []string) string {
	const most = 3
	if len(all) > most {
		return strings.Join(all[:most-1], ", ") + fmt.Sprintf(" and %d more", len(all)-most+1)
	}
	return strings.Join(all, ", ")
}

func addrLen(ipv6 bool) int {
	if ipv6 {
		return 16
	}
	return 4
}
