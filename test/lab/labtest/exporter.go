package labtest

import (
	"context"
	"crypto"
	"crypto/tls"
	"net/netip"
	"testing"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/scrape"
	"vxlan_exporter/test/lab/webconfig"
)

// Exporter is an exporter that runs as long as the test.
type Exporter struct {
	*scrape.Exporter
	t testing.TB
}

// StartExporter runs the exporter in a namespace, as scrape.Start does.
func StartExporter(t testing.TB, n *lab.NS, program string, args ...string) *Exporter {
	t.Helper()
	return StartExporterAt(t, n, netip.MustParseAddrPort(scrape.Address), program, args...)
}

// StartExporterAt is StartExporter with an address to listen on.
func StartExporterAt(t testing.TB, n *lab.NS, address netip.AddrPort, program string, args ...string) *Exporter {
	t.Helper()
	e, err := scrape.StartAt(t.Context(), n, address.String(), program, args...)
	return running(t, e, err)
}

// StartExporterLocked is StartExporter behind TLS and a password, as scrape.StartLocked does; key is the server's and
// hash one of package webconfig's.
func StartExporterLocked(
	t testing.TB, n *lab.NS, key crypto.Signer, hash, program string, args ...string,
) (*Exporter, *tls.Config) {
	t.Helper()
	folder := t.TempDir()
	client, err := webconfig.Write(folder, key, hash)
	if err != nil {
		t.Fatal(err)
	}
	e, err := scrape.StartLocked(t.Context(), n, folder, client, program, args...)
	return running(t, e, err), client
}

func running(t testing.TB, e *scrape.Exporter, err error) *Exporter {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &Exporter{e, t}
}

// Scrape reads the exporter's metrics and fails the test when it cannot.
func (e *Exporter) Scrape() scrape.Metrics {
	e.t.Helper()
	m, err := e.Exporter.Scrape(context.WithoutCancel(e.t.Context()))
	if err != nil {
		e.t.Fatalf("%v\n%s", err, e.Log())
	}
	return m
}
