package probe

import (
	"fmt"
	"slices"

	"vxlan_exporter/internal/node"
)

// The rule, and its arithmetic, are those of docs/PROBE.md: a verdict that there is a fault needs Count packets of one
// kind lost in a row, among packets of other kinds that are answered. Each wave has packets of a kind that should
// arrive, since losses that last take these too, and is sent only when the one before leaves something open.
//
// Answers that the peer's kernel limits (ICMP errors: a burst of 6, then one a second for each destination,
// icmp_xrlim_allow) are spent on the packet under suspicion first, so that the control behind it is not answered out of
// an allowance that the other did not have.

// kind is a kind of packet, as to how its checksum is made.
type kind int

const (
	// TCP SYN: always unfinished (net/ipv4/tcp_output.c, tcp_connect_queue_skb); answered by RST, which nothing limits
	syn  kind = iota
	udp       // unfinished where the device of the route offers to finish it (ip_append_data)
	soft      // UDP without a checksum (IPv4), or with one made by the CPU (IPv6)
	echo      // ICMP echo: made by the CPU (net/ipv4/ping.c, net/ipv6/raw.c); not limited either
	kinds
)

// maxWaves bounds a conversation in time; in small packets it is bounded to twice the count, 12 by default.
const maxWaves = 4

// ask is a wish to send a packet.
type ask struct {
	kind   kind
	marked bool
	full   bool // as long as the MTU allows
}

// conversation is what one peer answered to packets from one address.
type conversation struct {
	count       int  // losses in a row that make a verdict
	canMark     bool // SO_MARK is permitted
	canEcho     bool // an ICMP socket is permitted
	udpOffload  bool // UDP datagrams are known to be left unfinished
	askFull     bool // packets that fill the MTU are sent as well
	small, full [kinds][2]node.PathCount
	refused     string // why a packet could not be sent
}

func (c *conversation) record(a ask, answered bool) {
	counts := &c.small
	if a.full {
		counts = &c.full
	}
	n := &counts[a.kind][index(a.marked)]
	n.Sent++
	if answered {
		n.Answered++
	}
}

func index(marked bool) int {
	if marked {
		return 1
	}
	return 0
}

// sum adds up what is counted of small packets of some kinds.
func (c *conversation) sum(marked bool, of ...kind) (n node.PathCount) {
	for _, k := range of {
		n = plus(n, c.small[k][index(marked)])
	}
	return n
}

// both is sum of marked and unmarked packets.
func (c *conversation) both(of ...kind) node.PathCount {
	return plus(c.sum(false, of...), c.sum(true, of...))
}

func (c *conversation) total() node.PathCount { return c.both(syn, udp, soft, echo) }

func plus(a, b node.PathCount) node.PathCount {
	return node.PathCount{Sent: a.Sent + b.Sent, Answered: a.Answered + b.Answered}
}

// arrives: more are answered than lost, and more than one, which could be chance (a flow that is tracked already is not
// NATed anew).
func arrives(n node.PathCount) bool { return n.Answered >= 2 && n.Answered > n.Sent-n.Answered }

// offloaded is the kind whose checksum is left to offload: SYNs, or, where something drops these, UDP datagrams.
func (c *conversation) offloaded() kind {
	if c.both(syn).Answered == 0 && c.both(udp).Answered > 0 {
		return udp
	}
	return syn
}

// software is the kind of control to send: echoes, unless none was answered yet.
func (c *conversation) software(marked bool) kind {
	if n := c.small[echo][index(marked)]; c.canEcho && (n.Sent == 0 || n.Answered > 0) {
		return echo
	}
	return soft
}

// next is what to send in the given wave, counted from 0. Nothing: all is said.
func (c *conversation) next(wave int) []ask {
	asks, full := c.only(c.nextSmall(wave)), []ask(nil)
	if c.askFull {
		if full = c.nextFull(wave); len(full) > 0 && full[0].kind == soft && !slices.Contains(asks, ask{kind: soft}) {
			asks = append(asks, ask{kind: soft}) // a small one to compare with
		}
	}
	// Long ones first: where answers are limited, the small one shows that they were not.
	return append(full, asks[:min(len(asks), 2*c.count-c.total().Sent)]...)
}

func (c *conversation) nextSmall(wave int) []ask {
	switch {
	case wave == 0:
		asks := []ask{{kind: syn, marked: true}, {kind: syn, marked: true}, {kind: syn}}
		if c.askFull { // of one sender; for the others, and marked, it is sent when something is lost
			asks = append(asks, ask{kind: c.software(false)})
		}
		return asks
	case wave >= maxWaves, c.refused != "":
		return nil
	}
	plain, marked := c.sum(false, syn), c.sum(true, syn)
	switch {
	case arrives(marked), !c.canMark && arrives(plain):
		return nil
	case marked.Answered > 0, !c.canMark && plain.Answered > 0:
		return c.confirm(ask{kind: syn, marked: c.canMark})
	case plain.Answered > 0:
		return c.suspectNAT()
	default:
		return c.withoutTCP(wave)
	}
}

// confirm sends more of a kind of which some were answered.
func (c *conversation) confirm(a ask) []ask {
	n := c.small[a.kind][index(a.marked)]
	return repeat(a, min(max(1, n.Sent-n.Answered), c.count-n.Sent))
}

// suspectNAT sends more marked SYNs, each time with a plain one, and what is left open of the controls.
func (c *conversation) suspectNAT() []ask {
	left := c.count - c.sum(true, syn).Sent
	if left <= 0 {
		return nil
	}
	n := left
	if c.sum(true, syn).Sent == 2 {
		n = left / 2 // the rest in the wave after: what lasts for a moment must not look like a fault
	}
	asks := repeat(ask{kind: syn, marked: true}, n)
	for _, m := range []bool{true, false} {
		if c.sum(m, soft, echo).Answered == 0 {
			asks = append(asks, ask{kind: c.software(m), marked: m})
		}
	}
	if room := 2*c.count - c.total().Sent - len(asks); room > 0 {
		asks = append(asks, ask{kind: syn})
	}
	return asks
}

// withoutTCP asks by UDP where no SYN is answered: something may drop these.
func (c *conversation) withoutTCP(wave int) []ask {
	plain, marked := c.sum(false, udp), c.sum(true, udp)
	var asks []ask
	switch {
	case wave == 1:
		asks = append(repeat(ask{kind: udp, marked: true}, 2), ask{kind: udp}, ask{kind: soft, marked: true})
		if !c.canMark {
			asks = []ask{{kind: udp}, {kind: udp}, {kind: soft}}
		}
		if c.sum(false, echo, soft).Sent == 0 {
			asks = append(asks, ask{kind: c.software(false)})
		}
	case c.total().Answered == 0:
		asks = repeat(ask{kind: udp}, c.count-c.total().Sent)
	case wave > 2 || arrives(marked) || (!c.canMark && arrives(plain)):
	case c.both(soft).Answered == 0: // echoes at most are answered
	case plain.Answered > 0 && marked.Answered == 0:
		asks = append(repeat(ask{kind: udp, marked: true}, c.count-1-marked.Sent), ask{kind: soft, marked: true})
	case marked.Answered > 0:
		asks = c.confirm(ask{kind: udp, marked: true})
	case plain.Answered == 0:
		left := c.count - plain.Sent - marked.Sent
		half := 0
		if c.canMark {
			half = left / 2
		}
		asks = append(repeat(ask{kind: udp, marked: true}, half), append(repeat(ask{kind: udp}, left-half),
			ask{kind: soft})...)
	}
	return asks
}

// nextFull sends packets that fill the MTU by the kind of control that is answered when it is small: one, then three,
// then the rest.
func (c *conversation) nextFull(wave int) []ask {
	k := echo
	if !c.canEcho || (wave > 0 && c.sum(false, echo).Answered == 0) {
		k = soft
	}
	n := c.full[k][0]
	left := c.count - n.Sent
	if n.Answered > 0 || left <= 0 || wave >= maxWaves || c.refused != "" || (wave > 0 && c.total().Answered == 0) {
		return nil
	}
	if n.Sent == 0 { // most are answered; answers to UDP are limited
		return repeat(ask{kind: k, full: true}, 1)
	}
	if wave < maxWaves-1 {
		left = (left + 1) / 2
	}
	return repeat(ask{kind: k, full: true}, left)
}

// only leaves out what cannot be sent.
func (c *conversation) only(asks []ask) []ask {
	return slices.DeleteFunc(asks, func(a ask) bool { return a.marked && !c.canMark })
}

func repeat(a ask, n int) []ask { return slices.Repeat([]ask{a}, max(0, n)) }

// state is the verdict and the reason for it.
func (c *conversation) state() (node.PathState, string) {
	off := c.offloaded()
	plain, marked := c.sum(false, off), c.sum(true, off)
	plainSoft, markedSoft := c.sum(false, soft, echo), c.sum(true, soft, echo)
	name := map[kind]string{syn: "SYNs", udp: "UDP datagrams"}[off]
	switch total := c.total(); {
	case c.refused != "":
		return node.PathUnknown, c.refused
	case total.Answered == 0 && total.Sent >= c.count:
		return node.PathUnreachable, fmt.Sprintf("none of %d packets was answered", total.Sent)
	case c.spoiledByMark(off):
		return node.PathNAT,
			fmt.Sprintf("%d of %d marked %s with unfinished checksums were lost, and %d of %d unmarked ones answered, as were "+
				"marked packets with finished checksums",
				marked.Sent, marked.Sent, name, plain.Answered, plain.Sent)
	case c.spoiledByOffload():
		lost, software := c.both(udp).Sent, c.both(soft)
		return node.PathOffload,
			fmt.Sprintf("%d of %d UDP datagrams with unfinished checksums were lost, and %d of %d with finished ones answered",
				lost, lost, software.Answered, software.Sent)
	case c.tooLong():
		return node.PathMTU, "small packets are answered, those that fill the MTU are not"
	case arrives(marked) && off == udp && !c.udpOffload:
		return node.PathUnknown, "no SYN is answered, and whether UDP datagrams are sent with unfinished checksums " +
			"is not known"
	case arrives(marked):
		return node.PathOK, fmt.Sprintf("%d of %d marked %s with unfinished checksums were answered", marked.Answered,
			marked.Sent, name)
	case !c.canMark && arrives(plain):
		return node.PathUnknown, "unmarked packets are answered; marked ones could not be sent"
	case marked.Answered > 0:
		return node.PathUnknown, fmt.Sprintf("%d of %d marked %s were answered: the path loses packets", marked.Answered,
			marked.Sent, name)
	case plain.Answered > 0 && markedSoft.Answered == 0:
		return node.PathUnknown,
			fmt.Sprintf("all %d marked %s were lost, but no marked packet with a finished checksum was answered either: "+
				"spoiled or dropped for the mark", marked.Sent, name)
	case plain.Answered == 0 && plainSoft.Answered+markedSoft.Answered > 0:
		return node.PathUnknown, "only packets with finished checksums are answered, but none of a kind that can be " +
			"compared: a firewall may drop the others"
	default:
		return node.PathUnknown, "too few packets were answered"
	}
}

// spoiledByMark: marked unfinished packets are lost, the other three kinds arrive.
func (c *conversation) spoiledByMark(off kind) bool {
	plain, marked := c.sum(false, off), c.sum(true, off)
	enough, controls := c.count, 1
	plainSoft, markedSoft := c.sum(false, soft, echo), c.sum(true, soft, echo)
	if off == udp {
		enough, controls, markedSoft = c.count-1, 2, c.sum(true, soft)
	}
	return marked.Answered == 0 && marked.Sent >= enough && plain.Answered > 0 && markedSoft.Answered >= controls &&
		(off == udp || plainSoft.Answered > 0)
}

// spoiledByOffload: of UDP datagrams to one port those with unfinished checksums are lost, those with finished ones
// arrive. SYNs too are lost.
func (c *conversation) spoiledByOffload() bool {
	return c.both(syn, udp).Answered == 0 && c.both(udp).Sent >= c.count && c.sum(false, udp).Sent > 0 &&
		c.sum(false, soft).Answered > 0 && (!c.canMark || c.sum(true, soft).Answered > 0)
}

// tooLong: packets that fill the MTU are lost while small ones of the same kind arrive.
func (c *conversation) tooLong() bool {
	lost := func(k kind) bool { return c.full[k][0].Answered == 0 && c.full[k][0].Sent >= c.count }
	small := c.sum(false, soft)
	return (lost(echo) && c.sum(false, echo).Answered > 0) || (lost(soft) && small.Answered >= 2 && arrives(small))
}
