//go:build load

package load_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
)

// node is a namespace with two VXLAN devices and the rules of kube-proxy.
func node(t *testing.T) *labtest.NS {
	ns := labtest.New(t, "load")
	ns.RunInput(`link add eth0 type veth peer name peer
addr add 192.168.77.1/24 dev eth0
link set eth0 up
link set peer up
link add flannel.1 type vxlan id 1 dstport 8472 local 192.168.77.1 dev eth0 nolearning
link add vxlan.calico type vxlan id 4096 dstport 4789 local 192.168.77.1 dev eth0 nolearning
link set flannel.1 up
link set vxlan.calico up
`, "ip", "-batch", "-")
	ns.RunInput("*nat\n-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully\nCOMMIT\n",
		"iptables-nft-restore")
	return ns
}

// target is the exporter under load.
type target struct {
	*labtest.Exporter
	ns  *labtest.NS
	tls *tls.Config // how to speak HTTPS with it; nil: HTTP
}

// Addresses of clients: of those that make the load, and of others.
const (
	crowd   = "127.0.0.1"
	another = "127.0.0.2"
)

// client connects from an address, over one connection that it keeps or, with once, over a new one for each request.
func (x target) client(from string, once bool) *http.Client {
	return &http.Client{Timeout: scrapeTimeout, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return x.ns.DialFrom(ctx, netip.MustParseAddr(from), network, address)
		},
		TLSClientConfig: x.tls, MaxConnsPerHost: 1, DisableKeepAlives: once, TLSHandshakeTimeout: scrapeTimeout,
	}}
}

// load is what clients do until ctx ends. It returns when they have stopped and closed what they hold.
type load func(ctx context.Context, t *testing.T, x target)

// kind is a kind of load.
type kind struct {
	name   string
	served bool // honest scrapes over connections that are there already are all answered
	load   load
}

func TestLoad(t *testing.T) {
	u := shipped(t)
	ns := node(t)
	command := append(u.command(), labtest.Binary(t))
	x := target{Exporter: labtest.StartExporter(t, ns.NS, command[0], command[1:]...), ns: ns}
	underLoad(t, u, x, []kind{
		{"200 scrapers", true, manyScrapers},
		{"400 slow readers", true, func(ctx context.Context, t *testing.T, x target) { slowReaders(ctx, t, x, 400) }},
		{"oversized and slow headers", true, headers},
		{"4,000 idle connections", true, func(ctx context.Context, t *testing.T, x target) { idle(ctx, t, x, 4_000) }},
		{"all at once", true, func(ctx context.Context, t *testing.T, x target) {
			var wg sync.WaitGroup
			wg.Go(func() { scrapers(ctx, t, x, 100) })
			wg.Go(func() { slowReaders(ctx, t, x, 200) })
			wg.Go(func() { headers(ctx, t, x) })
			wg.Go(func() { idle(ctx, t, x, 4_000) })
			wg.Wait()
		}},
	})
}

// underLoad holds the exporter to its bounds under each kind of load, and afterwards.
func underLoad(t *testing.T, u unit, x target, kinds []kind) {
	x.Scrape()
	quiet := openFiles(t, x)
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			w := watched(t, x, k.served) // which can take a while
			ctx, cancel := context.WithTimeout(t.Context(), *loadTime)
			defer cancel()
			k.load(ctx, t, x)
			w.stop()
			w.within(u)
		})
	}
	// What the clients held is given back once they have gone, and the hashes of all guesses that wait are computed.
	var files int
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if files = openFiles(t, x); files <= quiet {
			break
		}
	}
	if files > quiet {
		t.Errorf("%d files open after the load, %d before", files, quiet)
	}
	if n := strings.Count(x.Log(), "\n"); n > 12 {
		t.Errorf("the clients caused %d lines of log:\n%s", n, x.Log())
	}
	x.Scrape()
}

func openFiles(t *testing.T, x target) int {
	t.Helper()
	n, err := x.OpenFiles()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// manyScrapers are fewer than there may be connections: they must be answered.
func manyScrapers(ctx context.Context, t *testing.T, x target) {
	const n = 200
	if answers := scrapers(ctx, t, x, n); answers < n/4 {
		t.Errorf("only %d answers", answers)
	}
}

// scrapers scrape as fast as they are answered, once at least, one in ten the page, half of them uncompressed. Each
// answer must be a whole one; on a busy machine some of so many are late.
func scrapers(ctx context.Context, t *testing.T, x target, n int) int64 {
	var answers, late atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			client := x.client(crowd, false)
			client.Transport.(*http.Transport).DisableCompression = i%2 == 0
			defer client.CloseIdleConnections()
			path, last := "/metrics", "vxlan_exporter_build_info"
			if i%10 == 9 {
				path, last = "/", "</html>"
			}
			for first := true; first || ctx.Err() == nil; first = false {
				body, err := fetch(client, x.URL()+path)
				switch {
				case os.IsTimeout(err):
					late.Add(1)
				case err != nil:
					t.Errorf("GET %s: %v", path, err)
					return
				case !strings.Contains(body, last):
					t.Errorf("GET %s: an answer of %d bytes without %s", path, len(body), last)
					return
				default:
					answers.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d scrapers: %d answers, %d out of time", n, answers.Load(), late.Load())
	return answers.Load()
}

func fetch(client *http.Client, url string) (string, error) { return fetchAs(client, url, "") }

func fetchAs(client *http.Client, url, accept string) (string, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Accept", accept)
	resp, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, b)
	}
	return string(b), err
}

// closedByServer tells a connection that the server closed, for want of a request in time, from any other failure.
func closedByServer(err error) bool {
	var op *net.OpError
	// what net/http says when that was before its first request
	if strings.Contains(err.Error(), "http: server closed idle connection") {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op) && !op.Timeout() &&
		op.Op != "dial"
}

// connections opens n connections on one thread of the namespace, calls use for each, and closes them when ctx ends,
// but not before all have been open for a second.
func connections(ctx context.Context, t *testing.T, ns *labtest.NS, n int, use func(conn *net.TCPConn) error) {
	var open []*net.TCPConn
	err := ns.NS.Do(func() error {
		for end := time.Now().Add(2 * time.Minute); len(open) < n; {
			if time.Now().After(end) {
				return fmt.Errorf("only %d of %d connections were opened in 2 minutes", len(open), n)
			}
			conn, err := net.Dial("tcp", scrape.Address)
			if err != nil {
				return err
			}
			open = append(open, conn.(*net.TCPConn))
			if err := use(conn.(*net.TCPConn)); err != nil && !closedByServer(err) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	time.Sleep(time.Second)
	<-ctx.Done()
	for _, conn := range open {
		_ = conn.Close()
	}
}

// slowReaders ask for the page, the largest answer, uncompressed, and read a byte a second, with as small a buffer as
// the system allows.
func slowReaders(ctx context.Context, t *testing.T, x target, n int) {
	connections(ctx, t, x.ns, n, func(conn *net.TCPConn) error {
		if err := conn.SetReadBuffer(1); err != nil {
			return err
		}
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: slow\r\n\r\n")
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		go func() {
			var b [1]byte
			for {
				if _, err := conn.Read(b[:]); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		return err
	})
}

// idle holds connections; every other one has made a request and keeps its connection.
func idle(ctx context.Context, t *testing.T, x target, n int) {
	i := 0
	connections(ctx, t, x.ns, n, func(conn *net.TCPConn) error {
		if i++; i%2 == 0 {
			return nil
		}
		_, err := io.WriteString(conn, "GET /-/healthy HTTP/1.1\r\nHost: idle\r\n\r\n")
		return err
	})
}

// headers sends headers larger than the limit, and others that come slowly and never end.
func headers(ctx context.Context, t *testing.T, x target) {
	var wg sync.WaitGroup
	wg.Go(func() {
		connections(ctx, t, x.ns, 200, func(conn *net.TCPConn) error {
			_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: slow\r\nX: "+strings.Repeat("x", 15<<10))
			context.AfterFunc(ctx, func() { _ = conn.Close() })
			go func() {
				for err == nil {
					time.Sleep(time.Second)
					_, err = io.WriteString(conn, "x")
				}
			}()
			return err
		})
	})
	var refused atomic.Int64
	for range 20 {
		wg.Go(func() {
			for ctx.Err() == nil {
				conn, err := x.ns.DialContext(ctx, "tcp", scrape.Address)
				if err != nil {
					continue // ctx has ended
				}
				_ = conn.SetDeadline(time.Now().Add(scrapeTimeout))
				// The server answers and closes before it has read all: the rest of the sending may fail.
				_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: large\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err == nil {
					resp.Body.Close()
					if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
						t.Errorf("a header of 1 MB: %s", resp.Status)
					}
					refused.Add(1)
				}
				_ = conn.Close()
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	if refused.Load() == 0 {
		t.Error("no oversized header was refused with 431")
	}
}
