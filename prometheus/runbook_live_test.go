package prometheus_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// What the runbook tells to type, typed on the live failure: what confirms it confirms it, and what is to stop it stops
// it and can be undone.
func TestRunbookOnTheLiveFailure(t *testing.T) {
	t.Parallel()
	labtest.NeedRoot(t, "tcpdump changes to a user of its own")
	s := &sufferer{Rig: labtest.NewRig(t, lab.LiveFailure()), t: t, path: programs(t)}

	page := confirm(t, "VxlanChecksumFailure")
	s.fails()
	s.expect(s.A, page[0], "FAILING NOW", "sent through flannel.1")
	s.expect(s.B, page[1], s.NodeA.String()+".", "> "+s.UnderlayB.String()+".8472: [bad udp cksum 0x")
	nat := confirm(t, "VxlanOuterNat")
	s.expect(s.A, nat[0], "dport=8472", "[UNREPLIED]", "src="+s.UnderlayB.String())
	s.expect(s.A, nat[1], "NATed: "+s.NodeA.String(), "--random-fully")
	guard := confirm(t, "VxlanMasqueradeMarkKept")
	s.expect(s.A, guard[0], "kept")
	s.expect(s.A, strings.Replace(guard[1], "iptables-save", "iptables-legacy-save", 1), "-A KUBE-POSTROUTING",
		"-j MASQUERADE --random-fully")

	for what, stop := range map[string][2]string{
		"offload off": {"ethtool -K flannel.1 tx-checksum-ip-generic off", "ethtool -K flannel.1 tx-checksum-ip-generic on"},
		"no tracking": {
			"iptables -t raw -I OUTPUT -p udp --dport 8472 -j NOTRACK",
			"iptables -t raw -D OUTPUT -p udp --dport 8472 -j NOTRACK",
		},
	} {
		if commands := runbookCommands(part(t, "VxlanChecksumFailure", "**Fix now**", "**Fix for good**")); !slices.Contains(
			commands, stop[0]) {
			t.Fatalf("%s: %q is not what the runbook says: %q", what, stop[0], commands)
		}
		before := s.run(s.A, "ethtool -k flannel.1")
		s.run(s.A, stop[0])
		s.run(s.A, "conntrack -D -p udp --dport 8472")
		s.answers(what)
		s.run(s.A, stop[1])
		if after := s.run(s.A, "ethtool -k flannel.1"); after != before {
			t.Errorf("%s is not undone by %q: %s", what, stop[1], after)
		}
		s.fails()
	}

	if err := s.SetReceiver(lab.ReceiverFirewalld); err != nil {
		t.Fatal(err)
	}
	s.expect(s.B, page[1], "> "+s.UnderlayB.String()+".8472: [bad udp cksum 0x")
}

// sufferer is a rig on which commands are typed.
type sufferer struct {
	*lab.Rig

	t    *testing.T
	path string
}

// programs is a search path that has the exporter in it.
func programs(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.Symlink(labtest.Binary(t), filepath.Join(folder, "vxlan_exporter")); err != nil {
		t.Fatal(err)
	}
	return folder + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin"
}

// queries are answered, all of them, or none.
func (s *sufferer) queries(n int) (answered int) {
	s.t.Helper()
	answered, err := s.Query(s.t.Context(), n, 100*time.Millisecond)
	if err != nil {
		s.t.Fatal(err)
	}
	return answered
}

func (s *sufferer) fails() {
	s.t.Helper()
	s.run(s.A, "conntrack -D -p udp --dport 8472 || true")
	if n := s.queries(3); n != 0 {
		s.t.Fatalf("%d queries answered; want none", n)
	}
}

func (s *sufferer) answers(after string) {
	s.t.Helper()
	if n := s.queries(3); n != 3 {
		s.t.Errorf("%s: %d of 3 queries answered", after, n)
	}
}

// run types a command on a node. A minute of looking is cut short.
func (s *sufferer) run(n *lab.NS, command string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	command = strings.Replace(command, "timeout 60 ", "timeout 6 ", 1)
	out, err := n.Cmd(ctx, "env", "PATH="+s.path, "sh", "-c", command).Output()
	if err != nil && !strings.HasPrefix(command, "vxlan_exporter check") { // whose status is the verdict
		s.t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// expect types a command that must say something, while packets are being spoiled.
func (s *sufferer) expect(n *lab.NS, command string, want ...string) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = s.Query(ctx, 1000, 100*time.Millisecond) // ends with the context
	}()
	out := s.run(n, command)
	cancel()
	<-ended
	for _, w := range want {
		if !strings.Contains(out, w) {
			s.t.Errorf("%s: does not say %q:\n%s", command, w, out)
		}
	}
}

// confirm are the commands that confirm an alert: those of the blocks, which are to be typed. The text may name others.
func confirm(t *testing.T, alert string) (commands []string) {
	t.Helper()
	for line := range strings.Lines(part(t, alert, "**Confirm**", "**Fix")) {
		if c := regexp.MustCompile(`^ {4}([a-z].*\S)`).FindStringSubmatch(line); c != nil {
			commands = append(commands, c[1])
		}
	}
	return commands
}

// part is what stands between two headings of an alert's section in the runbook.
func part(t *testing.T, alert, from, to string) string {
	t.Helper()
	_, section, ok := strings.Cut(read(t, "../docs/RUNBOOK.md"), "\n## "+alert+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, section, found := strings.Cut(section, from)
	if !ok || !found {
		t.Fatalf("docs/RUNBOOK.md: %s has no %s", alert, from)
	}
	section, _, _ = strings.Cut(section, to)
	return section
}

// Somebody half asleep types two commands, not five; and what is changed at night can be paid for and undone.
func TestRunbookIsShort(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range readRules(t) {
		if r.Alert == "" || seen[r.Alert] {
			continue
		}
		seen[r.Alert] = true
		commands := confirm(t, r.Alert)
		if len(commands) > 2 {
			t.Errorf("%s: %d commands confirm it: %q", r.Alert, len(commands), commands)
		}
		for _, c := range commands {
			if strings.Contains(c, "tcpdump -") && (!strings.Contains(c, "timeout 60") || !strings.Contains(c, "-Q in")) {
				t.Errorf("%s: %q runs on, or sees what the node sends", r.Alert, c)
			}
		}
		if section := part(t, r.Alert, "**Confirm**", "\n## "); strings.Contains(section, "**Fix now**") {
			fix := part(t, r.Alert, "**Fix now**", "**Fix for good**")
			if !strings.Contains(fix, "cost") || !strings.Contains(strings.ToLower(fix), "undo") {
				t.Errorf("%s: what Fix now costs, and how it is undone: %s", r.Alert, fix)
			}
		}
	}
}
