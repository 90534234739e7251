package e2e_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/net/html"

	"vxlan_exporter/collectors"
	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
)

// hostileNames are names that the kernel allows a device (net/core/dev.c, dev_valid_name: no slash, colon or white space, 15 bytes at
// most), for markup, scripts, templates, shells, terminals, logs and the exposition format.
func hostileNames() []string {
	return []string{
		`<b>&"x`, `"><svg>`, `'onload='a`, `<title><h1>`, `{{.Host}}`, `$(reboot)`, "`reboot`", `a;reboot`, `'or'1`, `x"}1`, `\n\"\\`,
		"\x1b[31mred", "\x9b31m", "\xc2\x9b31m", "a\xff\xfe", "\u202egnp", "a\x01\x7f", "level=ERROR", "\u00e9\u4e2d", "emp\u200bty",
	}
}

// Names that somebody with the right to make devices chose to do harm go through every output as what they are: names.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	ns := labtest.New(t, "names")
	const nic = `<i>&"nic`
	ns.Run("ip", "link", "add", "name", nic, "type", "veth", "peer", "name", "far")
	ns.Run("ip", "addr", "add", "192.168.77.1/24", "dev", nic)
	ns.Run("ip", "link", "set", "dev", nic, "up")
	for i, name := range hostileNames() {
		ns.Run("ip", "link", "add", "name", name, "type", "vxlan", "id", fmt.Sprint(i+1), "dstport", "8472", "local", "192.168.77.1", "nolearning")
		ns.Run("ip", "link", "set", "dev", name, "up")
	}
	if _, err := ns.NS.Run("ip", "link", "add", "name", "new\nline", "type", "dummy"); err == nil {
		t.Error("the kernel allows line feeds in names now: add one to the list")
	}
	ns.RunInput("*nat\n:<u>&x\x1b - [0:0]\n-A OUTPUT -j MARK --or-mark 0x4000\n-A POSTROUTING -j <u>&x\x1b\n-A <u>&x\x1b -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully\nCOMMIT\n", "iptables-nft-restore")
	e := labtest.StartExporter(t, ns.NS, labtest.Binary(t), "--collector.wire", "--log.level=debug")

	t.Run("metrics", func(t *testing.T) {
		body, err := e.Get(t.Context(), "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(body)) {
			if !regexp.MustCompile(`^(# (HELP|TYPE) |vxlan_|go_|process_)`).MatchString(line) {
				t.Errorf("a line of its own: %q", line)
			}
		}
		lint := exec.Command(labtest.Server(t, "promtool"), "check", "metrics")
		lint.Stdin = strings.NewReader(string(body))
		if out, err := lint.CombinedOutput(); err != nil {
			t.Errorf("promtool: %v\n%s", err, out)
		}
		m := e.Scrape()
		for i, name := range hostileNames() {
			info := scrape.Series("vxlan_device_info", map[string]string{
				"device": collectors.DeviceLabel(name), "vni": fmt.Sprint(i + 1), "port": "8472", "local": "192.168.77.1", "underlay": nic, "external": "false", "family": "ipv4",
			})
			if m[info] != 1 {
				t.Errorf("no series %s", info)
			}
		}
	})
	t.Run("page", func(t *testing.T) {
		body, err := e.Get(t.Context(), "/")
		if err != nil {
			t.Fatal(err)
		}
		text := pageText(t, string(body))
		harmless(t, text)
		for _, name := range []string{`<b>&"x`, `$(reboot)`, nic, `{{.Host}}`} {
			if !strings.Contains(text, name) {
				t.Errorf("the reader does not see %q", name)
			}
		}
	})
	t.Run("check", func(t *testing.T) {
		text := report(t, ns, "check", "--interval=0s")
		harmless(t, text)
		pasteable(t, text)
	})
	t.Run("json", func(t *testing.T) {
		text := report(t, ns, "check", "--interval=0s", "--output=json")
		var saved struct {
			Observation struct {
				Now struct{ Devices []struct{ Name string } }
			}
		}
		if err := json.Unmarshal([]byte(text), &saved); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, d := range saved.Observation.Now.Devices {
			names = append(names, d.Name)
		}
		for _, name := range hostileNames() {
			if !slices.Contains(names, strings.ToValidUTF8(name, "\ufffd")) && !slices.Contains(names, jsonString(name)) {
				t.Errorf("%q is not among %q", name, names)
			}
		}
		if i := strings.IndexFunc(text, func(r rune) bool { return r < 0x20 && r != '\n' }); i >= 0 {
			t.Errorf("a control character in %q", text[max(0, i-40):i+10])
		}
	})
	t.Run("log", func(t *testing.T) {
		for _, request := range []string{"GET /%0atime=x HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: \x1b[31m\r\n\r\n", "\x1b[31m\n\n", "GET /metrics?collect[]=%0alevel=ERROR HTTP/1.1\r\nHost: a\r\nX-Prometheus-Scrape-Timeout-Seconds: \x1b\r\n\r\n"} {
			conn, err := ns.DialContext(t.Context(), "tcp", scrape.Address)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte(request)); err != nil {
				t.Error(err)
			}
			_, _ = conn.Read(make([]byte, 100))
			_ = conn.Close()
		}
		log := e.Log()
		harmless(t, log)
		for line := range strings.Lines(log) {
			if !strings.HasPrefix(line, "time=") {
				t.Errorf("a line of its own: %q", line)
			}
		}
		if !strings.Contains(log, "level=INFO") {
			t.Errorf("nothing is logged: %q", log)
		}
	})
}

// report runs the check command, whose exit status tells the node's state.
func report(t *testing.T, ns *labtest.NS, args ...string) string {
	t.Helper()
	out, err := ns.NS.Run(append([]string{labtest.Binary(t)}, args...)...)
	if err != nil && !strings.Contains(err.Error(), "exit status") || out == "" {
		t.Fatal(err)
	}
	return out
}

// jsonString is a name as encoding/json hands it on.
func jsonString(name string) string {
	b, _ := json.Marshal(name) // strings can always be
	var s string
	_ = json.Unmarshal(b, &s)
	return s
}

// harmless fails on what a terminal obeys or what turns the direction of text.
func harmless(t *testing.T, text string) {
	t.Helper()
	for i, r := range text {
		if r != '\n' && !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			t.Errorf("%U in %q", r, text[max(0, i-40):min(len(text), i+20)])
			return
		}
	}
}

// pasteable hands every suggested ethtool command to a shell that prints its words instead: each must name a device that there is.
func pasteable(t *testing.T, text string) {
	t.Helper()
	commands := regexp.MustCompile(`(?m)^\s*(?:[$#] )?ethtool (-K .*)$`).FindAllStringSubmatch(text, -1)
	if len(commands) < len(hostileNames()) {
		t.Errorf("%d commands for %d devices:\n%s", len(commands), len(hostileNames()), text)
	}
	for _, m := range commands {
		out, err := exec.Command("bash", "--posix", "-c", `printf '%s\n' `+m[1]).Output()
		words := strings.Split(string(out), "\n")
		if err != nil || len(words) < 3 || words[0] != "-K" || !slices.Contains(hostileNames(), words[1]) || words[2] != "tx-checksum-ip-generic" {
			t.Errorf("%s is read as %q, %v", m[1], words, err)
		}
	}
}

// pageText is what a reader of the page sees. It fails when a name has become an element.
func pageText(t *testing.T, page string) string {
	t.Helper()
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return b.String()
		case html.TextToken:
			b.Write(z.Text())
		case html.StartTagToken, html.SelfClosingTagToken:
			tok := z.Token()
			if slices.Contains([]string{"b", "i", "u", "svg", "script", "img"}, tok.Data) {
				t.Errorf("an element of a name: %s", tok)
			}
			for _, a := range tok.Attr {
				if strings.HasPrefix(a.Key, "on") {
					t.Errorf("a handler in %s", tok)
				}
			}
		}
	}
}
