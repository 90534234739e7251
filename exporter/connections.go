package exporter

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// What the kernel may hold for one connection, in bytes; it allows twice that for its own overhead (socket(7)). A request is small, and
// an answer that does not fit waits in the outbox. Without this, unread bytes of a few hundred clients are more than the unit's memory.
const (
	readBuffer  = 16 << 10
	writeBuffer = 32 << 10
)

// tellAgain is how long a log line about the limit lasts: its clients must not be able to fill the log.
const tellAgain = 10 * time.Minute

// Connections bounds how many connections a server has open. A new one always gets in: beyond the limit another is closed for it, of the
// address that has most of them, the one that has sent no complete request for longest or, where all are being answered, that has been
// so for longest. Idle connections, which cost whoever holds them nothing, therefore shut nobody out; a client whose idle connection is
// closed opens another.
//
// That is done apart for known connections, over which a request was let in, and for strangers', which have half the room each where
// both are many: clients that have no password or end no handshake close none of those that have, and the other way round. Where there
// are no passwords, those are known over which a scrape was answered.
type Connections struct {
	limit  int
	logger *slog.Logger

	mu      sync.Mutex
	open    map[net.Conn]connection
	origins map[netip.Prefix]*origin
	strange int       // strangers' connections
	tick    uint64    // counts changes of state
	told    time.Time // when it was logged that the limit is reached

	closed atomic.Uint64 // connections
}

type connection struct {
	from   *origin
	known  bool
	active bool
	since  uint64
}

// origin is the address of clients.
type origin struct {
	address        netip.Prefix
	known, strange int // open connections
}

// rivals is how many connections of k's kind k's address has.
func (k connection) rivals() int {
	if k.known {
		return k.from.known
	}
	return k.from.strange
}

// NewConnections makes a bound of limit connections, which must be positive. Its Follow is a server's ConnState.
func NewConnections(limit int, logger *slog.Logger) *Connections {
	return &Connections{limit: limit, logger: logger, open: map[net.Conn]connection{}, origins: map[netip.Prefix]*origin{}}
}

// Follow is told of every connection's changes (http.Server.ConnState).
func (c *Connections) Follow(conn net.Conn, state http.ConnState) {
	if state == http.StateNew {
		// An error means that it is closed already, or a kind of connection that has no such buffers.
		if b, ok := below(conn).(interface {
			SetReadBuffer(bytes int) error
			SetWriteBuffer(bytes int) error
		}); ok {
			_ = b.SetReadBuffer(readBuffer)
			_ = b.SetWriteBuffer(writeBuffer)
		}
	}
	if h, ok := below(conn).(*handshaking); ok && state != http.StateNew {
		h.done()
	}
	if victim := c.follow(conn, state); victim != nil {
		_ = below(victim).Close() // of TLS this is not the Close that waits for the client
		// This is the goroutine that accepts. In a flood it would accept hundreds at once, and close those before they had their turn to
		// read the request that is there already. Not each time: those not yet accepted wait too.
		if c.closed.Add(1)%uint64(max(1, c.limit/8)) == 0 { //nolint:gosec // positive
			runtime.Gosched()
		}
	}
}

// below is the connection that TLS runs over, or the connection itself.
func below(conn net.Conn) net.Conn {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return conn
}

// follow returns the connection to close, if any.
func (c *Connections) follow(conn net.Conn, state http.ConnState) (victim net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tick++
	k, there := c.open[conn]
	switch {
	case state == http.StateClosed || state == http.StateHijacked:
		c.remove(conn)
		return nil
	case state == http.StateNew && len(c.open) >= c.limit:
		victim = c.dispensable(2*c.strange < len(c.open))
		c.remove(victim)
		if now := time.Now(); now.Sub(c.told) >= tellAgain {
			c.told = now
			c.logger.Warn("too many connections: for each new one another is closed", "limit", c.limit)
		}
	case state != http.StateNew && !there:
		return nil // it was closed here, and has not noticed yet
	}
	k.active, k.since = state == http.StateActive, c.tick
	if there {
		c.open[conn] = k
	} else {
		c.add(conn, k)
	}
	return victim
}

// let notes that a request over the connection was let in.
func (c *Connections) let(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, there := c.open[conn]; there && !k.known {
		c.remove(conn)
		k.known = true
		c.add(conn, k)
	}
}

// isKnown tells whether one was.
func (c *Connections) isKnown(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open[conn].known
}

func (c *Connections) add(conn net.Conn, k connection) {
	address := addressOf(conn)
	k.from = c.origins[address]
	if k.from == nil {
		k.from = &origin{address: address}
		c.origins[address] = k.from
	}
	c.tally(k, 1)
	c.open[conn] = k
}

func (c *Connections) remove(conn net.Conn) {
	k, there := c.open[conn]
	if !there {
		return
	}
	delete(c.open, conn)
	c.tally(k, -1)
	if k.from.known+k.from.strange == 0 {
		delete(c.origins, k.from.address)
	}
}

func (c *Connections) tally(k connection, n int) {
	if k.known {
		k.from.known += n
	} else {
		k.from.strange += n
		c.strange += n
	}
}

// dispensable finds the connection that is to go, among those that are known or those that are not.
func (c *Connections) dispensable(known bool) (found net.Conn) {
	var best connection
	for conn, k := range c.open {
		if k.known == known && (found == nil || k.before(best)) {
			found, best = conn, k
		}
	}
	return found
}

// before tells whether k goes rather than l.
func (k connection) before(l connection) bool {
	switch {
	case k.rivals() != l.rivals():
		return k.rivals() > l.rivals()
	case k.active != l.active:
		return l.active
	}
	return k.since < l.since
}

// addressOf is the client's address; of IPv6 the network of 64 bits, all of which one host can have. It is invalid of what has no address.
func addressOf(conn net.Conn) netip.Prefix {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	a, bits := tcp.AddrPort().Addr().Unmap(), 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.WithZone("").Prefix(bits) // an invalid address has none
	return p
}
