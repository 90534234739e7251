package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/webconfig"
)

func TestMain(m *testing.M) {
	labtest.Enter(labtest.BuildExporter)
	m.Run()
}

func runProgram(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, labtest.Binary(t), args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%v: still running after 20 s\n%s", args, e.String())
	}
	if _, ok := err.(*exec.ExitError); err != nil && !ok { //nolint:errorlint // only the very error of Run is meant
		t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// What is wrong at start-up is one clear line on stderr and exit status 1.
func TestStartErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	bad := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(bad, []byte("no_such_key: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, says string
		args       []string
	}{
		{"unknown flag", "unknown long flag '--no-such'", []string{"--no-such"}},
		{"unknown command", "unexpected nonsense", []string{"nonsense"}},
		{
			"occupied port", "address already in use (is another exporter running",
			[]string{"--web.listen-address=" + l.Addr().String()},
		},
		{"bad address", "listen tcp", []string{"--web.listen-address=127.0.0.1"}},
		{"missing web config", "--web.config.file", []string{"--web.config.file=/nonexistent/web.yml"}},
		{"bad web config", "no_such_key", []string{"--web.config.file=" + bad}},
		{"web config is a directory", "is a directory", []string{"--web.config.file=" + t.TempDir()}},
		{"telemetry path without slash", "--web.telemetry-path", []string{"--web.telemetry-path=metrics"}},
		{"telemetry path is the page", "--web.telemetry-path", []string{"--web.telemetry-path=/"}},
		{"telemetry path is taken", "--web.telemetry-path", []string{"--web.telemetry-path=/-/ready"}},
		{"port 0", "--vxlan.port=0", []string{"--vxlan.port=0"}},
		{"port too large", "--vxlan.port=65536", []string{"--vxlan.port=65536"}},
		{"bad pattern", "--device.feature-include", []string{"--device.feature-include=("}},
		{"bad mark bit", "--kube.masquerade-bit=32", []string{"--kube.masquerade-bit=32"}},
		{"bad strategy", "auto,full,filter", []string{"--conntrack.strategy=fast"}},
		{"bad timeout", "--conntrack.timeout", []string{"--conntrack.timeout=0s"}},
		{"negative interval", "--natrules.min-interval", []string{"--natrules.min-interval=-1s"}},
		{"bad sample rate", "--wire.sample-rate", []string{"--collector.wire", "--wire.sample-rate=2"}},
		{"no processors", "--runtime.gomaxprocs", []string{"--runtime.gomaxprocs=0"}},
		{"no systemd socket", "no socket activation", []string{"--web.systemd-socket"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, stderr, status := runProgram(t, tt.args...)
			if status != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, tt.says) ||
				!strings.Contains(stderr, programName+": ") {
				t.Errorf("status %d:\n%s", status, stderr)
			}
		})
	}
}

func TestCheckErrors(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage.json")
	if err := os.WriteFile(garbage, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"check", "--from=/nonexistent"},
		{"check", "--from=" + garbage},
		{"check", "--interval=-1s"},
		{"check", "--vxlan.port=x"},
	} {
		if stdout, stderr, status := runProgram(t, args...); status != 3 || strings.Count(stderr, "\n") != 1 || stdout != "" {
			t.Errorf("%v: status %d\n%s%s", args, status, stdout, stderr)
		}
	}
	stdout, stderr, status := runProgram(t, "check", "--output=nagios", "--from=/nonexistent")
	if status != 3 || !strings.HasPrefix(stdout, "VXLAN UNKNOWN: --from: ") || strings.Count(stdout, "\n") != 1 ||
		stderr == "" {
		t.Errorf("nagios: status %d\n%s%s", status, stdout, stderr)
	}
	stdout, stderr, status = runProgram(t, "check", "--output=nagios", "--from=testdata/failing.json")
	if status != 2 || !strings.HasPrefix(stdout, "VXLAN CRITICAL: NAT spoils the checksums") ||
		!strings.Contains(stdout, " | ") || stderr != "" {
		t.Errorf("nagios: status %d\n%s%s", status, stdout, stderr)
	}
}

// A self-test that tells nothing (here: it would have to load connection tracking on an old kernel) ends as a check
// that does.
func TestSelfTestTellsNothing(t *testing.T) {
	proc := t.TempDir()
	for name, text := range map[string]string{
		"osrelease": "3.10.0-1127.el7.x86_64", "version": "#1 SMP", "random/boot_id": "0a1b2c3d-0000-4000-8000-000000000001",
	} {
		path := filepath.Join(proc, "sys/kernel", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stdout, stderr, status := runProgram(t, "selftest", "--path.procfs="+proc)
	if status != 3 || stderr != "" || !strings.Contains(stdout, "connection tracking is not loaded") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
	// An init container that exits with anything else keeps the exporter from starting.
	for _, args := range [][]string{
		{"--path.procfs=" + proc},
		{"--write=/nonexistent/selftest.json", "--path.procfs=" + proc},
	} {
		if stdout, stderr, status := runProgram(t, append([]string{"selftest", "--exit-zero"}, args...)...); status != 0 ||
			stdout+stderr == "" {
			t.Errorf("%v: status %d\n%s%s", args, status, stdout, stderr)
		}
	}
}

func TestVersionAndHelp(t *testing.T) {
	if stdout, stderr, status := runProgram(t, "--version"); status != 0 ||
		!strings.Contains(stdout+stderr, programName+", version") {
		t.Errorf("--version: %d %q %q", status, stdout, stderr)
	}
	stdout, _, status := runProgram(t, "--help")
	for _, want := range []string{"check", "selftest", "guard", "--path.procfs", "--[no-]collector.conntrack"} {
		if status != 0 || !strings.Contains(stdout, want) {
			t.Errorf("--help: status %d, without %q:\n%s", status, want, stdout)
		}
	}
}

// started is a running exporter.
type started struct {
	cmd  *exec.Cmd
	addr string
	log  *bytes.Buffer
	done chan struct{}
}

// start runs the exporter on a free port and waits until it listens.
func start(t *testing.T, args ...string) *started { t.Helper(); return startUnder(t, nil, args...) }

// startUnder is start by another program, one that runs what its arguments end with in its own place.
func startUnder(t *testing.T, under []string, args ...string) *started {
	t.Helper()
	command := slices.Concat(under, []string{labtest.Binary(t), "--web.listen-address=127.0.0.1:0"}, args)
	cmd := exec.Command(command[0], command[1:]...)
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &started{cmd: cmd, log: &bytes.Buffer{}, done: make(chan struct{})}
	listening := make(chan string, 1)
	go func() {
		defer close(s.done)
		lines := bufio.NewScanner(pipe)
		for lines.Scan() {
			fmt.Fprintln(s.log, lines.Text())
			if m := regexp.MustCompile(`msg="Listening on" address=(\S+)`).FindStringSubmatch(lines.Text()); m != nil {
				listening <- m[1]
			}
		}
	}()
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			<-s.done
			_ = cmd.Wait()
		}
	})
	select {
	case s.addr = <-listening:
	case <-s.done:
		t.Fatalf("it ended:\n%s", s.log)
	case <-time.After(10 * time.Second):
		t.Fatal("not listening after 10 s")
	}
	return s
}

// stop sends SIGTERM and returns the exit status and the log.
func (s *started) stop(t *testing.T) (int, string) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		t.Fatal("still running 10 s after SIGTERM")
	}
	_ = s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode(), s.log.String()
}

func fetch(t *testing.T, client *http.Client, url string, edit func(*http.Request)) (int, string, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(r)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestServe(t *testing.T) {
	s := start(t)
	for path, want := range map[string]string{
		"/-/healthy": "Healthy", "/-/ready": "Ready", "/metrics": `vxlan_scrape_collector_success{collector="device"} 1`,
		"/": "<!DOCTYPE html>",
	} {
		status, body, header := fetch(t, http.DefaultClient, "http://"+s.addr+path, nil)
		if status != 200 || !strings.Contains(strings.ToLower(body), strings.ToLower(want)) {
			t.Errorf("%s: %d %.300s", path, status, body)
		}
		if path == "/" && !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("no content security policy: %v", header)
		}
	}
	if status, log := s.stop(t); status != 0 || strings.Contains(log, "level=ERROR") {
		t.Errorf("status %d after SIGTERM:\n%s", status, log)
	}
}

func TestCollectorsCanBeSwitchedOff(t *testing.T) {
	s := start(t, "--no-collector.device", "--no-collector.natrules", "--no-collector.underlay", "--web.telemetry-path=/m",
		"--vxlan.port=4790")
	_, body, _ := fetch(t, http.DefaultClient, "http://"+s.addr+"/m", nil)
	for _, gone := range []string{
		`collector="device"`, `collector="natrules"`, `collector="underlay"`,
		"vxlan_device_exposure",
	} {
		if strings.Contains(body, gone) {
			t.Errorf("%s is there", gone)
		}
	}
	if !strings.Contains(body, `collector="host"`) ||
		!strings.Contains(body, `vxlan_conntrack_flows{family="ipv6",port="4790"}`) {
		t.Errorf("what is on is missing:\n%s", body)
	}
}

// webConfig writes a web configuration with TLS and basic auth, and returns its folder and what a client needs.
func webConfig(t *testing.T) (dir string, client *tls.Config) {
	t.Helper()
	dir = t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if client, err = webconfig.Write(dir, key, webconfig.CheapHash); err != nil {
		t.Fatal(err)
	}
	return dir, client
}

// TLS and basic auth of --web.config.file, with Go's client.
func TestWebConfig(t *testing.T) {
	dir, trust := webConfig(t)
	s := start(t, "--web.config.file="+filepath.Join(dir, "web.yml"))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust}}
	url := "https://" + s.addr + "/metrics"
	if status, _, _ := fetch(t, client, url, nil); status != 401 {
		t.Errorf("without a password: %d", status)
	}
	if status, _, _ := fetch(t, client, url, func(r *http.Request) { r.SetBasicAuth("scraper", "wrong") }); status != 401 {
		t.Errorf("with a wrong password: %d", status)
	}
	if status, body, _ := fetch(t, client, url,
		func(r *http.Request) { r.SetBasicAuth("scraper", "secret") }); status != 200 || !strings.Contains(body, "vxlan_") {
		t.Errorf("with the password: %d", status)
	}
	if status, _, _ := fetch(t, http.DefaultClient, "http://"+s.addr+"/metrics", nil); status != 400 {
		t.Errorf("without TLS: %d", status)
	}
	if status, _ := s.stop(t); status != 0 {
		t.Errorf("status %d after SIGTERM", status)
	}
}
