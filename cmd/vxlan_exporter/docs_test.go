package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"vxlan_exporter/test/lab/labtest"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// programFlags are the flags of a command, without --no-.
func programFlags(t *testing.T, command ...string) map[string]bool {
	t.Helper()
	help, _, _ := runProgram(t, append(command, "--help")...)
	has := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--(?:\[no-\])?([a-z][a-z.0-9-]+)`).
		FindAllStringSubmatch(help, -1) {
		has[m[1]] = true
	}
	return has
}

// Every flag of the exporter is in FLAGS.md, and FLAGS.md has no flag that is not there.
func TestFlagsAreDocumented(t *testing.T) {
	for _, name := range []string{"docs/FLAGS.md", "docs/FLAGS.zh-CN.md"} {
		doc, has := readDoc(t, name), programFlags(t, "serve")
		for flag := range has {
			want := "`--" + flag + "`"
			if collector, ok := strings.CutPrefix(flag, "collector."); ok {
				want = "`" + collector + "`"
			}
			if !strings.HasPrefix(flag, "help") && flag != "version" && !strings.Contains(doc, want) {
				t.Errorf("%s does not have --%s", name, flag)
			}
		}
		for _, m := range regexp.MustCompile("(?m)^\\| `--([a-z][a-z.0-9-]+)`").FindAllStringSubmatch(doc, -1) {
			if !has[m[1]] {
				t.Errorf("%s has --%s, the program has not", name, m[1])
			}
		}
	}
}

// What the front page and the questions tell people to type is there.
func TestDocumentedCommandsExist(t *testing.T) {
	command := regexp.MustCompile("vxlan_exporter (check|metrics|probe|selftest|guard)([^`\n#]*)")
	for _, name := range []string{
		"README.md", "README.zh-CN.md", "docs/FAQ.md", "docs/FAQ.zh-CN.md",
		"docs/RUNBOOK.zh-CN.md",
	} {
		found := command.FindAllStringSubmatch(readDoc(t, name), -1)
		if len(found) == 0 {
			t.Errorf("%s: no command found", name)
		}
		for _, c := range found {
			has := programFlags(t, c[1])
			for _, m := range regexp.MustCompile(`--(?:no-)?([a-z][a-z.-]*[a-z])`).FindAllStringSubmatch(c[2], -1) {
				if !has[m[1]] {
					t.Errorf("%s: %q: no flag --%s", name, c[0], m[1])
				}
			}
		}
	}
}

// Every command of the front page is run by a test, and every target of make is there.
func TestReadmeCommandsAreRun(t *testing.T) {
	labtest.Need(t, "make")
	help, err := exec.Command("make", "--no-print-directory", "--directory=../..", "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	// The file that runs it, and what stands there. Longer commands first.
	runs := [][3]string{
		{"make run", "cmd/vxlan_exporter/docs_test.go", `"run", "ARGS=--version"`},
		{"make build", "test/test.mk", "deps build vet unit"},
		{"make package", "packaging/check-packages", "./packaging/package "},
		{"make image", "packaging/packaging.mk", "test-image: build image"},
		{"make install", "packaging/check-packages", `./packaging/install "$here"`},
		{"make rules", "prometheus/check", "./render "},
		{"make demo", "test/e2e/demo_test.go", "vxlan_exporter/test/lab/demo"},
		{"make e2e", "test/test.mk", " e2e\n"},
		{"make test", ".github/workflows/ci.yml", "run: make test"},
		{"make help", "cmd/vxlan_exporter/docs_test.go", `"help"`},
		{"dpkg -i ", "packaging/boot/checks.bash", "dpkg --install "},
		{"rpm --install ", "packaging/boot/checks.bash", "rpm --install "},
		{"tar -xf ", "packaging/check-packages", "tar -xf "},
		{"skopeo copy --all oci-archive:", "test/kubernetes/image_test.go", `"copy", "--all", "oci-archive:"`},
		{"helm install ", "test/kubernetes/apiserver_test.go", `"install", "vxlan-exporter", chart`},
		{"kubectl --namespace vxlan-exporter exec ", "test/kubernetes/image_test.go", `"/vxlan_exporter", "check"`},
		{"vxlan_exporter check", "packaging/boot/checks.bash", "vxlan_exporter check"},
		{"vxlan_exporter probe", "test/e2e/probe_test.go", `"probe"`},
		{"vxlan_exporter selftest", "test/kubernetes/image_test.go", `"selftest"`},
		{"vxlan_exporter guard", "packaging/boot/checks.bash", "vxlan_exporter-guard.service"},
		{"vxlan_exporter", "packaging/boot/checks.bash", "scrape()"},
		{"check --", "cmd/vxlan_exporter/docs_test.go", `"check", "--from=`},
		{"ethtool ", "test/e2e/names_test.go", "tx-checksum-ip-generic"},
	}
	for _, name := range []string{"README.md", "README.zh-CN.md"} {
		commands := regexp.MustCompile(`(?m)(?:^    |&& |`+"`"+`)(?:\./)?`+
			`((?:make|dpkg|rpm|tar|skopeo|helm|kubectl|vxlan_exporter|check|ethtool)(?: [^`+"`"+`\n#&]*|[^\w. `+"`"+`]))`).
			FindAllStringSubmatch(readDoc(t, name), -1)
		if len(commands) < 15 {
			t.Errorf("%s: only %d commands found", name, len(commands))
		}
		for _, c := range commands {
			i := slices.IndexFunc(runs, func(r [3]string) bool { return strings.HasPrefix(c[1], r[0]) })
			if i < 0 {
				t.Errorf("%s: %q: no test runs it", name, c[1])
			} else if !strings.Contains(readDoc(t, runs[i][1]), runs[i][2]) {
				t.Errorf("%s: %q: %s does not run it any more", name, c[1], runs[i][1])
			} else if target, ok := strings.CutPrefix(runs[i][0], "make "); ok &&
				!strings.Contains("\n"+string(help), "\n"+target+" ") {
				t.Errorf("%s: %q: no such target", name, c[1])
			}
		}
	}
}

func TestMakeRun(t *testing.T) {
	labtest.Need(t, "make")
	out, err := exec.Command("make", "--no-print-directory", "--directory=../..", "run", "ARGS=--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "vxlan_exporter, version ") {
		t.Errorf("error %v:\n%s", err, out)
	}
}

// The report on the front pages is what check says of an observation of the lab's failing node.
func TestReadmeShowsRealReport(t *testing.T) {
	report, _, status := runProgram(t, "check", "--from=testdata/failing.json")
	if status != 2 {
		t.Fatalf("status %d:\n%s", status, report)
	}
	for _, name := range []string{"README.md", "README.zh-CN.md"} {
		readme, rest := readDoc(t, name), report
		if n := strings.Count(readme, "\n"); n > 120 {
			t.Errorf("%s has %d lines, 120 is the limit", name, n)
		}
		_, block, _ := strings.Cut(readme, "\n    FAILING NOW\n")
		block, _, _ = strings.Cut("    FAILING NOW\n"+block, "\n\n!")
		if strings.Count(block, "\n") < 10 {
			t.Errorf("%s: no report", name)
		}
		for line := range strings.Lines(block) {
			line = strings.TrimSpace(line)
			if line == "…" || line == "" {
				continue
			}
			_, after, ok := strings.Cut(rest, line)
			if !ok {
				t.Fatalf("%s: check does not say %q (any more, or not there):\n%s", name, line, report)
			}
			rest = after
		}
	}
}

// Each of the twenty questions has a thread where it was asked, the same in both languages.
func TestQuestionsHaveThreads(t *testing.T) {
	thread := regexp.MustCompile(`https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+`)
	var first [][]string
	for _, name := range []string{"docs/FAQ.md", "docs/FAQ.zh-CN.md"} {
		var threads [][]string
		for _, section := range strings.Split(readDoc(t, name), "\n### ")[1:] {
			title, _, _ := strings.Cut(section, "\n")
			found := thread.FindAllString(section, -1)
			if len(found) == 0 {
				t.Errorf("%s: %s: no thread", name, title)
			}
			slices.Sort(found)
			threads = append(threads, found)
		}
		if len(threads) != 20 {
			t.Errorf("%s: %d questions", name, len(threads))
		}
		if first == nil {
			first = threads
		}
		if !slices.EqualFunc(first, threads, slices.Equal) {
			t.Errorf("%s has other threads than FAQ.md", name)
		}
	}
}

// Links within the repository lead somewhere, to the heading too.
func TestDocumentLinksResolve(t *testing.T) {
	var docs []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, found...)
	}
	for _, doc := range docs {
		data, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(string(data), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := doc
			if path != "" {
				target = filepath.Join(filepath.Dir(doc), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", doc, m[1], err)
			} else if anchor != "" && !slices.Contains(headings(t, target), anchor) {
				t.Errorf("%s: %s: no such heading", doc, m[1])
			}
		}
	}
}

// headings are the anchors that GitHub makes of a document's headings.
func headings(t *testing.T, file string) (anchors []string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(data), -1) {
		anchors = append(anchors, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return anchors
}
