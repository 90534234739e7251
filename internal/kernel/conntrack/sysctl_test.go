package conntrack

import (
	"strconv"
	"strings"
	"testing"

	"vxlan_exporter/test/fuzz/bound"
)

// FuzzSysctl: a number is what the file says, digit for digit, or an error that quotes it.
func FuzzSysctl(f *testing.F) {
	// As Linux 6.18 and 3.10 write them, and as no kernel does.
	for _, s := range []string{
		"262144\n", "0\n", "30\n", "65536\n", "", "\n", "-1\n", "18446744073709551615\n",
		"18446744073709551616\n", "12 34\n", "0x10\n", "1_000",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 32 {
			text = text[:32] // what is read at most
		}
		var n uint64
		var err error
		bound.Read(t, len(text), 16, 0, func() { n, err = parseNumber("file", []byte(text)) })
		digits := strings.TrimLeft(strings.TrimSpace(text), "0")
		switch {
		case err == nil && strconv.FormatUint(n, 10) != digits && (n != 0 || digits != ""):
			t.Errorf("%q is read as %d", text, n)
		case err != nil && (n != 0 || !strings.Contains(err.Error(), strconv.Quote(text))):
			t.Errorf("%q: %d, %v", text, n, err)
		}
	})
}
