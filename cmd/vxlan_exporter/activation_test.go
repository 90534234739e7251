package main

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

// TestActivatedWithTLS hands a listener to the exporter as systemd does (sd_listen_fds(3)), for it to speak TLS over.
func TestActivatedWithTLS(t *testing.T) {
	dir, trust := webConfig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`, labtest.Binary(t),
		"--web.config.file="+filepath.Join(dir, "web.yml"))
	cmd.ExtraFiles, cmd.Stderr = []*os.File{file}, &strings.Builder{}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The listener is there already: what connects waits until the exporter accepts.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust}}
	status, body, _ := fetch(t, client, "https://"+l.Addr().String()+"/metrics",
		func(r *http.Request) { r.SetBasicAuth("scraper", "secret") })
	if status != 200 || !strings.Contains(body, "vxlan_") {
		t.Errorf("status %d", status)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, cmd.Stderr)
	}
}
