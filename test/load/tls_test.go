//go:build load

package load_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
	"vxlan_exporter/test/lab/webconfig"
)

// TestLoadTLS does what TestLoad does to an exporter behind TLS, with a key that signs slowly, and a password of the
// usual cost.
func TestLoadTLS(t *testing.T) {
	u := shipped(t)
	ns := node(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	command := append(u.command(), labtest.Binary(t))
	e, client := labtest.StartExporterLocked(t, ns.NS, key, webconfig.UsualHash, command[0], command[1:]...)
	x := target{Exporter: e, ns: ns, tls: client}
	underLoad(t, u, x, []kind{
		{"200 scrapers", true, manyScrapers},
		{"200 clients, a handshake for each request", false, func(ctx context.Context, t *testing.T, x target) {
			strangers(ctx, t, x, 200, true, func(int64) string { return "" })
		}},
		{"200 clients with one wrong password", true, func(ctx context.Context, t *testing.T, x target) {
			strangers(ctx, t, x, 200, false, func(int64) string { return "wrong" })
		}},
		{"400 clients that guess passwords", false, func(ctx context.Context, t *testing.T, x target) {
			strangers(ctx, t, x, 400, false, func(i int64) string { return fmt.Sprint("guess ", i) })
		}},
		{"4,000 connections without a handshake", true, func(ctx context.Context, t *testing.T, x target) {
			connections(ctx, t, x.ns, 4_000, func(*net.TCPConn) error { return nil })
		}},
		{"4,000 handshakes that are never ended", true, func(ctx context.Context, t *testing.T, x target) {
			connections(ctx, t, x.ns, 4_000, func(conn *net.TCPConn) error {
				_, err := io.WriteString(conn, "\x16\x03\x01\x02\x00") // TLS record: handshake, 512 bytes to come
				return err
			})
		}},
	})
}

// strangers ask for the page without a right to it, once at least, as fast as they are refused: with the password for
// the i-th request, none if empty.
func strangers(ctx context.Context, t *testing.T, x target, n int, once bool, password func(i int64) string) {
	var asked, refused, unanswered atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			client := x.client(crowd, once)
			defer client.CloseIdleConnections()
			for first := true; first || ctx.Err() == nil; first = false {
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+scrape.Address+"/", nil)
				if err != nil {
					t.Error(err)
					return
				}
				if p := password(asked.Add(1)); p != "" {
					r.SetBasicAuth(webconfig.User, p)
				}
				resp, err := client.Do(r)
				if err != nil {
					unanswered.Add(1) // out of time, or ctx has ended
					continue
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode < 400 || strings.Contains(string(body), "vxlan") {
					t.Errorf("a stranger got %s: %.100s", resp.Status, body)
					return
				}
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	t.Logf("%d requests of %d strangers: %d refused, %d without an answer", asked.Load(), n, refused.Load(),
		unanswered.Load())
	if asked.Load() < int64(n) { // how many are answered is not said: beyond the limit of connections they wait
		t.Errorf("only %d requests: the test shows nothing", asked.Load())
	}
}
