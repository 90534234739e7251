package exporter

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// handshakeWait is how long a handshake waits for its turn. The server gives a handshake up after about as long.
const handshakeWait = 5 * time.Second

// Handshakes lets only so many TLS handshakes compute at once, and gives the addresses turns, one after the other. Each handshake costs
// milliseconds of CPU for signing, and for the certificate, which exporter-toolkit reads anew: hundreds at once would be in front of
// every step of an honest scrape, over connections that are there already, too.
//
// What a handshake computes is between two reads or writes of its connection, so that is where turns begin and end.
type Handshakes struct {
	limit int

	mu      sync.Mutex
	busy    int
	waiting map[netip.Prefix][]chan struct{}
	order   []netip.Prefix // addresses that have some waiting, whose turn comes first in front
}

// NewHandshakes makes a bound of limit handshakes, which must be positive.
func NewHandshakes(limit int) *Handshakes {
	return &Handshakes{limit: limit, waiting: map[netip.Prefix][]chan struct{}{}}
}

// Of makes a listener whose connections take turns. Connections.Follow must be told of their changes: it ends a handshake.
func (h *Handshakes) Of(l net.Listener) net.Listener { return handshakeListener{l, h} }

type handshakeListener struct {
	net.Listener
	handshakes *Handshakes
}

// Accept implements net.Listener.
func (l handshakeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	tcp, ok := conn.(*net.TCPConn)
	if err != nil || !ok {
		return conn, err
	}
	return &handshaking{TCPConn: tcp, handshakes: l.handshakes, from: addressOf(tcp), gone: make(chan struct{})}, nil
}

// handshaking is a connection that may be in its handshake.
type handshaking struct {
	*net.TCPConn
	handshakes *Handshakes
	from       netip.Prefix
	gone       chan struct{} // closed with the connection

	mu     sync.Mutex
	turn   bool // it has one
	over   bool // the handshake, or the connection
	closed bool
}

// Read implements net.Conn. What it has read is handed over when the connection's turn has come.
func (c *handshaking) Read(b []byte) (int, error) {
	c.leave(false)
	n, err := c.TCPConn.Read(b)
	if n == 0 || c.isOver() {
		return n, err
	}
	if !c.handshakes.enter(c.from, c.gone) {
		return 0, os.ErrDeadlineExceeded
	}
	c.mu.Lock()
	c.turn = !c.over
	given := c.turn
	c.mu.Unlock()
	if !given {
		c.handshakes.leave()
	}
	return n, err
}

// Write implements net.Conn.
func (c *handshaking) Write(b []byte) (int, error) {
	c.leave(false)
	return c.TCPConn.Write(b)
}

// Close implements net.Conn.
func (c *handshaking) Close() error {
	c.leave(true)
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.gone)
	}
	c.mu.Unlock()
	return c.TCPConn.Close()
}

// done says that the handshake has ended.
func (c *handshaking) done() { c.leave(true) }

func (c *handshaking) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

func (c *handshaking) leave(over bool) {
	c.mu.Lock()
	had := c.turn
	c.turn, c.over = false, c.over || over
	c.mu.Unlock()
	if had {
		c.handshakes.leave()
	}
}

// enter waits for a turn. It is false when none came within handshakeWait, or the connection is gone.
func (h *Handshakes) enter(from netip.Prefix, gone <-chan struct{}) bool {
	h.mu.Lock()
	if h.busy < h.limit {
		h.busy++
		h.mu.Unlock()
		return true
	}
	mine := make(chan struct{})
	if len(h.waiting[from]) == 0 {
		h.order = append(h.order, from)
	}
	h.waiting[from] = append(h.waiting[from], mine)
	h.mu.Unlock()
	timer := time.NewTimer(handshakeWait)
	defer timer.Stop()
	select {
	case <-mine:
		return true
	case <-timer.C:
	case <-gone:
	}
	if !h.giveUp(from, mine) {
		h.leave() // its turn came at that moment
	}
	return false
}

// giveUp takes who waits out of the queue; it is false when nobody waits there any more.
func (h *Handshakes) giveUp(from netip.Prefix, mine chan struct{}) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.waiting[from]
	for i, w := range all {
		if w == mine {
			h.keep(from, append(all[:i:i], all[i+1:]...))
			return true
		}
	}
	return false
}

// keep sets who of an address waits. h.mu is held.
func (h *Handshakes) keep(from netip.Prefix, all []chan struct{}) {
	if len(all) > 0 {
		h.waiting[from] = all
		return
	}
	delete(h.waiting, from)
	for i, o := range h.order {
		if o == from {
			h.order = append(h.order[:i:i], h.order[i+1:]...)
			return
		}
	}
}

// leave ends a turn: it goes to who waits longest of the address whose turn is next.
func (h *Handshakes) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.order) == 0 {
		h.busy--
		return
	}
	from := h.order[0]
	all := h.waiting[from]
	close(all[0])
	h.order = append(h.order[1:len(h.order):len(h.order)], from)
	h.keep(from, all[1:])
}
