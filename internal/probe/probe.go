// Package probe asks the path to a peer whether packets survive it: small packets to a closed port of an overlay
// address, which the peer's kernel answers by itself. They differ in two things: whether they carry kube-proxy's
// masquerade mark, and whether their checksum is left to offload or finished by the CPU. Which of the four kinds are
// answered tells what spoils them. See rule.go.
package probe

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"vxlan_exporter/internal/node"
)

// Defaults of Options. Timeout stays below the first retransmission of a SYN after 1 s (RFC 6298, TCP_TIMEOUT_INIT):
// only the first one passes the nat table. Four waves of it end within 3 s.
const (
	DefaultMark    = 0x4000 // kube-proxy's iptables.masqueradeBit 14
	DefaultCount   = 6
	DefaultTimeout = 600 * time.Millisecond
	MaxTimeout     = 900 * time.Millisecond
	MinCount       = 3
	MaxCount       = 100
)

// port is where packets are sent: discard, which nobody serves any more (RFC 863).
const port = 9

// Target is a peer and the addresses of this node to ask it from, of which the first one also sends packets that fill
// the MTU. Of each of these, source and interface are known.
type Target struct {
	node.PathPeer
	UDPOffload bool // the device of the route is known to leave UDP checksums unfinished
}

// Options of a round.
type Options struct {
	Count   int           // packets lost in a row that make a verdict
	Timeout time.Duration // how long an answer is waited for
}

// Round asks targets side by side. It returns what is known when ctx ends.
func (f *Found) Round(ctx context.Context, targets []Target, o Options) node.Path {
	p := node.Path{Time: time.Now(), Mark: f.Mark, Unprobed: f.Unprobed}
	if f.can == nil {
		f.can = permissions(f.Mark)
	}
	if f.can.mark != nil {
		p.Limits = []string{fmt.Sprintf("packets cannot be marked (SO_MARK: %v, needs CAP_NET_ADMIN): neither ok nor nat "+
			"can be told", f.can.mark)}
	}
	var all []*exchange
	for i := range targets {
		for j := range targets[i].Senders {
			all = append(all, f.newExchange(&targets[i], j, o.Count))
		}
	}
	var waiting waiter
	for wave := range maxWaves {
		for _, e := range all {
			for _, a := range e.next(wave) {
				if p := e.send(a); p != nil {
					waiting.packets = append(waiting.packets, p)
				}
			}
		}
		if len(waiting.packets) == 0 {
			break
		}
		waiting.wait(ctx, o.Timeout)
		if ctx.Err() != nil {
			break
		}
	}
	for _, t := range targets {
		peer := t.PathPeer
		peer.Family, peer.Senders = node.Family(peer.Peer), nil
		for _, e := range all[:len(t.Senders)] {
			peer.Senders = append(peer.Senders, e.result())
			if e.askFull {
				peer.Full, peer.Size = plus(e.full[soft][0], e.full[echo][0]), e.size
			}
		}
		all = all[len(t.Senders):]
		p.Peers = append(p.Peers, peer)
	}
	p.Duration = time.Since(p.Time)
	return p
}

// exchange is a conversation and where it takes place.
type exchange struct {
	conversation
	found  *Found
	sender node.PathSender
	peer   netip.Addr
	six    bool
	size   int // of a packet that fills the MTU; known once one is sent
}

func (f *Found) newExchange(t *Target, sender, count int) *exchange {
	six := t.Peer.Unmap().Is6()
	return &exchange{
		found: f, sender: t.Senders[sender], peer: t.Peer, six: six,
		conversation: conversation{
			count: count, canMark: f.can.mark == nil, canEcho: f.can.echo[index(six)] != noEcho,
			udpOffload: t.UDPOffload, askFull: sender == 0,
		},
	}
}

func (e *exchange) result() node.PathSender {
	s := e.sender
	s.State, s.Reason = e.state()
	s.Plain, s.Marked = e.sum(false, syn, udp), e.sum(true, syn, udp)
	s.PlainSoftware, s.MarkedSoftware = e.sum(false, soft, echo), e.sum(true, soft, echo)
	return s
}

// refuse notes that a packet could not be sent; no verdict rests on what is left.
func (e *exchange) refuse(a ask, err error) {
	what := [kinds]string{"SYN", "UDP datagram", "UDP datagram with a finished checksum", "echo request"}[a.kind]
	if a.marked {
		what = "marked " + what
	}
	e.refused = fmt.Sprintf("a %s from %s could not be sent: %v", what, e.sender.Source, err)
}
