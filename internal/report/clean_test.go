package report

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"vxlan_exporter/test/fuzz/bound"
)

// FuzzClean: whatever a device is named, nothing reaches the terminal that it would obey, and nothing printable is
// lost.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"flannel.1", "a\xff\\\"b", "\x1b[2J", "\u202egnp.exe", "line\nline", "<b>\"x\"", "ünï"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		bound.Read(t, len(s), 40, 0, func() { got = clean(s) })
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is shown as %q", s, got)
		}
		if plain := printable(s); plain != (got == s) {
			t.Errorf("%q, printable %v, is shown as %q", s, plain, got)
		}
		if clean(got) != got {
			t.Errorf("%q is shown as %q, and that as %q", s, got, clean(got))
		}
	})
}
