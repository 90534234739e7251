package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

// TestCurl asks an exporter that --web.config.file protects, with curl: what is answered, and what is refused.
func TestCurl(t *testing.T) {
	labtest.Need(t, "curl")
	dir, _ := webConfig(t)
	// natrules warns in a user namespace
	s := start(t, "--no-collector.natrules", "--web.config.file="+filepath.Join(dir, "web.yml"))
	trust := "--cacert " + filepath.Join(dir, "cert.pem")
	tests := []struct {
		name   string
		args   string
		status string // of HTTP; 000: there was none
		exit   int    // of curl: 0, 35 and 56 no connection by TLS, 60 the certificate is not trusted
	}{
		{"with the password", trust + " -u scraper:secret https://", "200", 0},
		{"over HTTP/1.1", trust + " --http1.1 -u scraper:secret https://", "200", 0},
		{"over HTTP/2", trust + " --http2 -u scraper:secret https://", "200", 0},
		{"without a password", trust + " https://", "401", 0},
		{"with a wrong password", trust + " -u scraper:wrong https://", "401", 0},
		{"with another name", trust + " -u root:secret https://", "401", 0},
		{"without TLS", "-u scraper:secret http://", "400", 0},
		{"without trust", "-u scraper:secret https://", "000", 60},
		{"with old TLS", trust + " --tls-max 1.1 --ciphers DEFAULT@SECLEVEL=0 -u scraper:secret https://", "000", 35},
	}
	for _, path := range []string{"/metrics", "/", "/-/healthy"} {
		for _, tt := range tests {
			command := strings.Fields(tt.args)
			url := command[len(command)-1] + s.addr + path
			cmd := exec.Command("curl", append([]string{"-sS", "--max-time", "20", "-w", "\n%{http_code}"},
				append(command[:len(command)-1], url)...)...)
			out, _ := cmd.Output() // its exit status is looked at
			text := string(out)
			code := text[strings.LastIndexByte(text, '\n')+1:]
			if code != tt.status || cmd.ProcessState.ExitCode() != tt.exit {
				t.Errorf("%s %s: status %s, exit status %d; want %s, %d", path, tt.name, code, cmd.ProcessState.ExitCode(),
					tt.status, tt.exit)
			}
			if code != "200" && strings.Contains(text, "vxlan_") {
				t.Errorf("%s %s: refused, but with metrics:\n%s", path, tt.name, text)
			}
		}
	}
	if code, log := s.stop(t); code != 0 || strings.Contains(log, "level=WARN") || strings.Contains(log, "secret") {
		t.Errorf("exit status %d\n%s", code, log)
	}
}
