package exporter

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// sendTimeout is how long a client may take to read an answer. Prometheus gives up a scrape after 10 s by default.
	sendTimeout = 10 * time.Second
	// maxUnsent bounds the answers that wait for their clients to read them, in bytes. A node with two devices answers with 25 KB.
	maxUnsent = 4 << 20
)

// answer renders an answer when its turn comes, and sends it. Rendering is what takes memory, so only a few are rendered at once; the
// turn ends before the first byte is sent, so that a client that reads slowly keeps nobody else waiting.
func (s *Server) answer(turn context.Context, w http.ResponseWriter, render func(http.ResponseWriter)) {
	b := rendered{header: w.Header(), status: http.StatusOK}
	if err := s.takeTurn(turn, func() { render(&b) }); err != nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, fmt.Sprintf("Limit of %d concurrent requests reached, and no turn came in time; try again later.", s.MaxRequests),
			http.StatusServiceUnavailable)
		return
	}
	s.outbox.send(w, &b)
}

// takeTurn calls f, first come, first served.
func (s *Server) takeTurn(ctx context.Context, f func()) error {
	if s.rendering != nil {
		select {
		case s.rendering <- struct{}{}:
			defer func() { <-s.rendering }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f()
	return nil
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

// outbox holds the answers that are being sent. When they are more than limit bytes, those that have taken longest are given up.
type outbox struct {
	limit int

	mu      sync.Mutex
	unsent  int
	sending []*letter // oldest first
}

// letter is an answer on its way.
type letter struct {
	bytes int
	to    *http.ResponseController
}

func (o *outbox) send(w http.ResponseWriter, b *rendered) {
	l := &letter{b.body.Len(), http.NewResponseController(w)}
	_ = l.to.SetWriteDeadline(time.Now().Add(sendTimeout)) // without it, the server's own WriteTimeout holds
	o.post(l)
	defer o.done(l)
	w.Header().Set("Content-Length", strconv.Itoa(l.bytes))
	w.WriteHeader(b.status)
	w.Write(b.body.Bytes())
}

func (o *outbox) post(l *letter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.unsent+l.bytes > o.limit && len(o.sending) > 0 {
		_ = o.sending[0].to.SetWriteDeadline(time.Unix(1, 0)) // its Write fails now
		o.remove(o.sending[0])
	}
	o.sending = append(o.sending, l)
	o.unsent += l.bytes
}

// done forgets an answer that was sent or given up. Nothing must use its connection after this.
func (o *outbox) done(l *letter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.remove(l)
}

func (o *outbox) remove(l *letter) {
	if i := slices.Index(o.sending, l); i >= 0 {
		o.sending = slices.Delete(o.sending, i, i+1)
		o.unsent -= l.bytes
	}
}
