package exporter

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// sendTimeout is how long a client may take to read an answer. Prometheus gives up a scrape after 10 s by default.
	sendTimeout = 10 * time.Second
	// maxUnsent bounds the answers that are being sent, in bytes. A node with two devices answers with 25 KB.
	maxUnsent = 16 << 20
)

// answer renders an answer into memory, then sends it. At most MaxRequests are rendered at once, since rendering is
// what takes memory; a client that reads slowly keeps nobody from being rendered. ctx bounds the wait.
func (s *Server) answer(ctx context.Context, w http.ResponseWriter, render func(http.ResponseWriter)) {
	b := rendered{header: http.Header{}, status: http.StatusOK}
	if s.renderWithinLimit(ctx, func() { render(&b) }) != nil {
		unavailable(w, fmt.Sprintf("Limit of %d concurrent requests reached; try again later.", s.MaxRequests))
		return
	}
	size := int64(b.body.Len())
	defer s.unsent.Add(-size)
	if s.unsent.Add(size) > maxUnsent {
		unavailable(w, "Too many clients read their answers slowly; try again later.")
		return
	}
	// without it, the server's own WriteTimeout holds
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(sendTimeout))
	maps.Copy(w.Header(), b.header)
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	w.WriteHeader(b.status)
	w.Write(b.body.Bytes())
}

func (s *Server) renderWithinLimit(ctx context.Context, render func()) error {
	if s.rendering != nil {
		select {
		case s.rendering <- struct{}{}:
			defer func() { <-s.rendering }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	render()
	return nil
}

func unavailable(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, why, http.StatusServiceUnavailable)
}

// rendered is an answer in memory.
type rendered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (b *rendered) Header() http.Header         { return b.header }
func (b *rendered) WriteHeader(status int)      { b.status = status }
func (b *rendered) Write(p []byte) (int, error) { return b.body.Write(p) }

// What the kernel may hold for one connection, in bytes; it allows twice that for its own overhead (socket(7)). A
// request is small. With the kernel's defaults, unread bytes of a few hundred clients are more than the unit's memory.
const (
	readBuffer  = 16 << 10
	writeBuffer = 32 << 10
)

// LimitListener bounds the connections of a listener: at most n are open at once, the next ones wait in the kernel's
// queue.
func LimitListener(l net.Listener, n int) net.Listener {
	return netutil.LimitListener(smallBuffers{l}, n)
}

type smallBuffers struct{ net.Listener }

// Accept implements net.Listener.
func (l smallBuffers) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(readBuffer) // an error means that it is closed already
		_ = tcp.SetWriteBuffer(writeBuffer)
	}
	return conn, err
}
