package kernelversion

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"vxlan_exporter/test/fuzz/bound"
)

const osRelease = "/etc/os-release" // this machine's own

// TestReadRunning compares with uname(1) and with the shell's own reading of os-release.
func TestReadRunning(t *testing.T) {
	info, err := Read("/proc", osRelease)
	if err != nil {
		t.Fatal(err)
	}
	for flag, got := range map[string]string{"-r": info.Release, "-v": info.Version, "-m": info.Machine} {
		out, err := exec.Command("uname", flag).Output()
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimSpace(string(out)); got != want {
			t.Errorf("uname %s: %q, want %q", flag, got, want)
		}
	}
	out, err := exec.Command("sh", "-c", `. /etc/os-release; printf %s "$ID|$VERSION_ID|$PRETTY_NAME"`).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := info.OS["ID"] + "|" + info.OS["VERSION_ID"] + "|" + info.OS["PRETTY_NAME"]; got != string(out) {
		t.Errorf("os-release: %q, want %q", got, out)
	}
}

func fixture(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestReadFixture(t *testing.T) {
	root := fixture(t, map[string]string{
		"sys/kernel/osrelease": "4.18.0-193.el8.x86_64\n",
		"sys/kernel/version":   "#1 SMP Fri May 8 10:59:10 UTC 2020\n",
		"lib/os-release": "NAME=\"CentOS Linux\"\nID=centos\n# ID=other\nVERSION_ID=\"8\"\nPRETTY_NAME='CentOS " +
			"\"8\"'\n",
	})
	info, err := Read(root, filepath.Join(root, "lib/os-release"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Release != "4.18.0-193.el8.x86_64" || info.Version != "#1 SMP Fri May 8 10:59:10 UTC 2020" {
		t.Errorf("%+v", info)
	}
	if want := map[string]string{"ID": "centos", "VERSION_ID": "8", "PRETTY_NAME": `CentOS "8"`}; !maps.Equal(info.OS,
		want) {
		t.Errorf("os-release: %v, want %v", info.OS, want)
	}

	if info, err = Read(root, filepath.Join(root, "none")); err != nil || info.OS != nil {
		t.Errorf("without os-release: %v, %v", info.OS, err)
	}
	if info, err = Read(root, root); err == nil || info.Release == "" {
		t.Errorf("os-release that is a directory: %+v, %v", info, err)
	}
	if _, err = Read(filepath.Join(root, "none"), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without /proc: %v", err)
	}
}

func TestReadHostile(t *testing.T) {
	root := fixture(t, map[string]string{
		"sys/kernel/osrelease": "6.1\x1b[31m" + strings.Repeat("a", 1<<20),
		"sys/kernel/version":   "\xff\xfe\n#2",
		"os-release":           strings.Repeat("x", 1<<20) + "\nID=late\n",
	})
	info, err := Read(root, filepath.Join(root, "os-release"))
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Release) > maxLine || strings.ContainsAny(info.Release, "\x1b") || !utf8.ValidString(info.Version) {
		t.Errorf("%q %q", info.Release, info.Version)
	}
	if info.OS != nil {
		t.Errorf("read past the limit: %v", info.OS)
	}
}

func FuzzOSRelease(f *testing.F) {
	for _, seed := range []string{
		"ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n", "ID='a'\"b\"",
		`PRETTY_NAME="a\"b\\c\$d"`, `ID="`, "ID=\x00", "=", "",
	} {
		f.Add(seed)
	}
	if b, err := os.ReadFile(osRelease); err == nil {
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, text string) {
		var kept map[string]string
		bound.Read(t, len(text), 16, 0, func() { kept = parseOSRelease(text) })
		for name, value := range kept {
			if !strings.Contains(text, name) || !strings.ContainsAny(value, "?\\\"`$") &&
				!strings.ContainsRune(value, utf8.RuneError) && !said(text, value) {
				t.Errorf("%s=%q of %q", name, value, text)
			}
			if name != "ID" && name != "VERSION_ID" && name != "PRETTY_NAME" {
				t.Errorf("kept %q", name)
			}
			if value == "" || len(value) > 3*maxOSValue || !utf8.ValidString(value) || strings.ContainsAny(value, "\n\x00\x1b") {
				t.Errorf("%s=%q", name, value)
			}
		}
	})
}

// said reports whether text holds value, but for backslashes that quoting put in.
func said(text, value string) bool { return strings.Contains(strings.ReplaceAll(text, `\`, ""), value) }
