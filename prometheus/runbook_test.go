package prometheus_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What somebody is to paste at 3 a.m. must be there: commands and flags of the program, metrics, features, and the
// other programs.
func TestRunbookCommandsExist(t *testing.T) {
	t.Parallel()
	runbook := read(t, "../docs/RUNBOOK.md")
	manual := strings.ReplaceAll(read(t, "../packaging/vxlan_exporter.8"), `\-`, "-")
	commands := runbookCommands(runbook)
	if len(commands) < 25 {
		t.Fatalf("only %d commands found: %q", len(commands), commands)
	}
	programs := []string{
		"vxlan_exporter", "ethtool", "conntrack", "tcpdump", "iptables", "iptables-save", "nft", "nstat", "sysctl", "sleep",
		"dmesg", "grep",
		"timeout", "systemctl", "journalctl", "curl", "promtool", "amtool", "kubectl",
	}
	for _, c := range commands {
		if program := strings.Fields(c)[0]; !slices.Contains(programs, program) {
			t.Errorf("%q: no program that a node has", c)
		}
	}
	for _, flag := range regexp.MustCompile(`--(collector|interval|conntrack|vxlan|wire|output|no-collector)[a-z.-]*`).
		FindAllString(runbook, -1) {
		// mdoc writes one hyphen
		if !strings.Contains(manual, " "+flag[1:]+" ") && !strings.Contains(manual, " "+flag[1:]+"\n") {
			t.Errorf("%s is not in the manual page", flag)
		}
	}
	for _, command := range regexp.MustCompile(`vxlan_exporter (check|probe|selftest|guard|[a-z]+)`).
		FindAllStringSubmatch(strings.Join(commands, "\n"), -1) {
		if !slices.Contains([]string{"check", "probe", "selftest", "guard"}, command[1]) &&
			!strings.Contains(command[0], "-n") {
			t.Errorf("%q is no command of the program", command[0])
		}
	}
}

func TestRunbookNamesExist(t *testing.T) {
	t.Parallel()
	runbook := read(t, "../docs/RUNBOOK.md")
	documented := read(t, "../docs/METRICS.md")
	metrics, recorded := metricNames(runbook)
	for _, m := range metrics {
		if strings.HasPrefix(documented, m) || strings.Contains(documented, "`"+m) || strings.Contains(runbook, m+"-") ||
			strings.Contains(runbook, m+".") {
			continue
		}
		t.Errorf("%s is not in docs/METRICS.md", m)
	}
	rules := readRules(t)
	for _, name := range recorded {
		if !slices.ContainsFunc(rules, func(r rule) bool { return r.Record == name }) {
			t.Errorf("%s: no rule records it", name)
		}
	}
	scrape := read(t, "../cmd/vxlan_exporter/testdata/metrics.txt")
	for _, feature := range regexp.MustCompile(`tx-[a-z_-]+`).FindAllString(runbook, -1) {
		if !strings.Contains(scrape, `feature="`+feature+`"`) {
			t.Errorf("%s: the exporter shows no such feature", feature)
		}
	}
	findings := read(t, "../docs/DIAGNOSIS.md")
	for _, finding := range []string{
		"nat_could_spoil", "exposed_rules_unread", "result_missing", "wire_bad_packets",
		"inner_tcp_checksum_errors",
	} {
		if !strings.Contains(runbook, "`"+finding+"`") || !strings.Contains(findings, "### `"+finding+"`") {
			t.Errorf("finding %s: not in the runbook, or not in docs/DIAGNOSIS.md", finding)
		}
	}
}

// The Chinese runbook has the same alerts and tells people to type the same.
func TestRunbookTranslation(t *testing.T) {
	t.Parallel()
	english, _, _ := strings.Cut(read(t, "../docs/RUNBOOK.md"), "\n## Thresholds\n")
	chinese := read(t, "../docs/RUNBOOK.zh-CN.md")
	alerts := regexp.MustCompile(`(?m)^## Vxlan\w+$`)
	if want, has := alerts.FindAllString(english, -1), alerts.FindAllString(chinese, -1); !slices.Equal(has, want) {
		t.Errorf("docs/RUNBOOK.zh-CN.md has sections %q; want %q", has, want)
	}
	has := runbookCommands(chinese)
	for _, c := range runbookCommands(english) {
		if !slices.Contains(has, c) {
			t.Errorf("docs/RUNBOOK.zh-CN.md does not have %q", c)
		}
	}
}

// Every alert has the parts that somebody looks for.
func TestRunbookSectionsAreComplete(t *testing.T) {
	t.Parallel()
	_, sections, _ := strings.Cut(read(t, "../docs/RUNBOOK.md"), "\n## VxlanChecksumFailure\n")
	sections, _, _ = strings.Cut("\n## VxlanChecksumFailure\n"+sections, "\n## Thresholds\n")
	for _, section := range strings.Split(sections, "\n## ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		for _, part := range []string{"**Confirm**", "**Fix", "**False alarm**"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s: no %s", name, part)
			}
		}
	}
}

// runbookCommands are the lines and spans of code that are commands: those of an indented block that are not its
// output, which is indented further, and spans that begin with a program.
func runbookCommands(markdown string) (commands []string) {
	for line := range strings.Lines(markdown) {
		line = strings.TrimRight(line, "\n")
		if c, ok := strings.CutPrefix(line, "    "); ok && regexp.MustCompile(`^[a-z][a-z_-]+ [^(]+$`).MatchString(c) &&
			!strings.Contains(c, "  ") {
			commands = append(commands, c)
		}
		for _, span := range regexp.MustCompile("`([a-z_-]+ [^`]+)`").FindAllStringSubmatch(line, -1) {
			if regexp.MustCompile(
				`^(vxlan_exporter|ethtool|conntrack|tcpdump|iptables|iptables-save|nft|nstat|sysctl|timeout|` +
					`systemctl|journalctl|curl|promtool|amtool) `).
				MatchString(span[1]) {
				commands = append(commands, span[1])
			}
		}
	}
	return commands
}
