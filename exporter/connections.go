package exporter

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
)

// What the kernel may hold for one connection, in bytes; it allows twice that for its own overhead (socket(7)). A request is small, and
// an answer that does not fit waits in the outbox. Without this, unread bytes of a few hundred clients are more than the unit's memory.
const (
	readBuffer  = 16 << 10
	writeBuffer = 32 << 10
)

// Connections bounds how many connections a server has open. A new one always gets in: beyond the limit, the one that has sent no
// complete request for longest is closed for it, and where all are being answered, the one that has been so for longest. Idle
// connections, which cost whoever holds them nothing, therefore shut nobody out; a client whose idle connection is closed opens another.
type Connections struct {
	limit  int
	logger *slog.Logger

	mu   sync.Mutex
	open map[net.Conn]connection
	tick uint64 // counts changes of state
	full bool   // it was logged that the limit is reached
}

type connection struct {
	active bool
	since  uint64
}

// NewConnections makes a bound of limit connections, which must be positive. Its Follow is a server's ConnState.
func NewConnections(limit int, logger *slog.Logger) *Connections {
	return &Connections{limit: limit, logger: logger, open: map[net.Conn]connection{}}
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
	if victim := c.follow(conn, state); victim != nil {
		_ = below(victim).Close() // of TLS this is not the Close that waits for the client
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
	_, known := c.open[conn]
	switch {
	case state == http.StateClosed || state == http.StateHijacked:
		delete(c.open, conn)
		c.full = c.full && len(c.open) > c.limit/2
		return nil
	case state == http.StateNew && len(c.open) >= c.limit:
		victim = c.longest()
		delete(c.open, victim)
		if !c.full {
			c.full = true
			c.logger.Warn("too many connections: the ones idle longest are closed", "limit", c.limit)
		}
	case state != http.StateNew && !known:
		return nil // it was closed here, and has not noticed yet
	}
	c.open[conn] = connection{active: state == http.StateActive, since: c.tick}
	return victim
}

// longest finds the connection that is to go.
func (c *Connections) longest() (found net.Conn) {
	var best connection
	for conn, k := range c.open {
		if found == nil || (best.active && !k.active) || (best.active == k.active && k.since < best.since) {
			found, best = conn, k
		}
	}
	return found
}
