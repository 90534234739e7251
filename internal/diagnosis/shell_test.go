package diagnosis

import (
	"os/exec"
	"strings"
	"testing"

	"vxlan_exporter/test/fuzz/bound"
)

// TestShellWord asks the real shells what they make of each name: exactly the name, as one argument.
func TestShellWord(t *testing.T) {
	names := []string{
		"flannel.1", "vxlan-1@eth0", "", "a b", "a'b", `a"b`, "a;id", "$(id)", "`id`", "a&&id", "*", "~", "#x", "-n", "a\\b",
		"<b>", "{a,b}", "!1", "ünï",
		"x\ny", "\x1b[31m", "tab\tname", "\x7f", "\xff\xfe", "nul-free\x01" + "7", "'\x02'\\", "\u202egnp", "=x",
	}
	for _, name := range names {
		word := shellWord(name)
		shells := []string{"bash"}
		if !strings.HasPrefix(word, "$'") {
			shells = append(shells, "sh")
		}
		for _, shell := range shells {
			out, err := exec.Command(shell, "-c", `printf '%s|' `+word+` 2>&1`).CombinedOutput()
			if err != nil || string(out) != name+"|" {
				t.Errorf("%s reads %s as %q (%v), want %q", shell, word, out, err, name)
			}
		}
		for _, r := range word {
			if r < 0x20 || r == 0x7f || r == 0x202e {
				t.Errorf("%q shows a control character", word)
			}
		}
	}
}

func FuzzShellWord(f *testing.F) {
	f.Add("flannel.1")
	f.Add("a'b\x1b$(id)")
	f.Fuzz(func(t *testing.T, name string) {
		if strings.ContainsRune(name, 0) || len(name) > 64 {
			return
		}
		var word string
		bound.Read(t, len(name), 16, 0, func() { word = shellWord(name) }) // what the shell takes is its own affair
		out, err := exec.Command("bash", "-c", `printf '%s|' `+word).CombinedOutput()
		if err != nil || string(out) != name+"|" {
			t.Errorf("bash reads %s as %q (%v), want %q", word, out, err, name)
		}
	})
}
