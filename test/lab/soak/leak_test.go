//go:build load

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "leak" {
		leak(os.Args[2])
		return
	}
	labtest.Enter()
	m.Run()
}

// leak is an exporter that loses something with every scrape.
func leak(what string) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector())
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	var lost [][]byte
	var open []*os.File
	http.HandleFunc("/metrics", func(w http.ResponseWriter, r *http.Request) {
		switch what {
		case "heap":
			b := make([]byte, 64<<10)
			for i := range b {
				b[i] = 1
			}
			lost = append(lost, b)
		case "goroutines":
			go func() { select {} }()
		case "open files":
			if f, err := os.Open("/dev/null"); err == nil {
				open = append(open, f)
			}
		}
		metrics.ServeHTTP(w, r)
	})
	http.HandleFunc("/-/ready", func(http.ResponseWriter, *http.Request) {})
	address := strings.TrimPrefix(os.Args[len(os.Args)-1], "--web.listen-address=")
	server := &http.Server{Addr: address, ReadHeaderTimeout: time.Minute}
	fmt.Fprintln(os.Stderr, server.ListenAndServe(), len(lost), len(open))
	os.Exit(1)
}

// An exporter that leaks fails the soak, and the line names what; one that does not, passes.
func TestLeaksAreFound(t *testing.T) {
	for _, what := range []string{"nothing", "heap", "goroutines", "open files"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e, err := scrape.Start(t.Context(), labtest.New(t, "leak").NS, os.Args[0], "leak", what)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = e.Stop() }() // it knows no SIGTERM
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			s, err := measure(ctx, e, 50*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			verdict := fmt.Sprint(s.judge(io.Discard))
			for _, q := range []string{"heap", "goroutines", "open files"} {
				if got := strings.Contains(verdict, q+": grows"); got != (q == what) {
					t.Errorf("a leak of %s: growth of %s found: %t\n%s", what, q, got, verdict)
				}
			}
		})
	}
}
