package natrules

import (
	"bytes"
	"compress/gzip"
	"io"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/test/fuzz/bound"
	"vxlan_exporter/test/fuzz/memfile"
)

// FuzzIPSet asks about a set, of which the kernel gives forged answers. The seeds in testdata/fuzz were recorded from Linux 6.18.
func FuzzIPSet(f *testing.F) {
	peer := netip.MustParseAddr("192.168.77.2")
	outer := outerPacket(&fuzzPorts()[0], &Way{Source: peer, Peers: []netip.Addr{peer}}, false)
	f.Fuzz(func(t *testing.T, b []byte) {
		bound.Read(t, len(b), 256, 0, func() {
			s := newIPSets(t.Context(), func() (nl.Socket, error) { return &sameAnswer{answer: b}, nil }, nil)
			defer s.close()
			set := s.set("a")
			if !bytes.Contains(b, []byte(set.kind)) || set.kind != "" && s.failed != nil {
				t.Errorf("type %q, %v, of %x", set.kind, s.failed, b)
			}
			// What is in the set stands in the answer.
			got := s.contains("a", &machine{packet: outer, hook: hookPostrouting}, []string{"dst"})
			if got == yes && !bytes.Contains(b, []byte("hash:")) {
				t.Errorf("in the set: %v, of %x", got, b)
			}
		})
	})
}

// FuzzPolicies parses forged IPsec policies: what they are for stands in the message.
func FuzzPolicies(f *testing.F) {
	policy := make([]byte, 168, 400)
	policy[40], policy[42], policy[43], policy[160] = 2, 24, 16, 1
	f.Add(policy)
	f.Add(nl.Append(policy, 5, make([]byte, 64)))
	f.Add(policy[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		bound.Read(t, len(b), 64, 0, func() {
			s, err := parsePolicy(b)
			if err != nil {
				return
			}
			for k, r := range []ranges{s.dst, s.src} {
				a := numberOf(b[16*k:][:addrLen(s.ipv6)])
				if len(r) != 1 || r[0].first.compare(a) > 0 || r[0].last.compare(a) < 0 {
					t.Errorf("%v from %x", r, b)
				}
			}
		})
	})
}

// sameAnswer is a kernel that answers everything with the same message of the type that was asked for.
type sameAnswer struct {
	answer []byte
	asked  netlink.Header
}

func (s *sameAnswer) Send(m netlink.Message) (netlink.Message, error) {
	m.Header.Sequence++
	s.asked = m.Header
	return m, nil
}

func (s *sameAnswer) ReceiveIter() iter.Seq2[netlink.Message, error] {
	return func(yield func(netlink.Message, error) bool) {
		yield(netlink.Message{Header: s.asked, Data: s.answer}, nil)
	}
}

func (*sameAnswer) SetDeadline(time.Time) error { return nil }

func (*sameAnswer) Close() error { return nil }

// FuzzTableNames reads ip_tables_names and /proc/modules, as they are and as no kernel writes them.
func FuzzTableNames(f *testing.F) {
	for _, s := range []string{
		"nat\nmangle\nfilter\n", "", "nat", "\x00\n\n", strings.Repeat("n", 70000), strings.Repeat("t\n", 40),
		"nf_tables 376832 1 - Live 0x0000000000000000\nip_tables 28672 0 - Live 0x0000000000000000\n", "nf_tables",
	} {
		f.Add(s)
	}
	procNet, file := f.TempDir(), memfile.New(f)
	if err := os.Symlink(file.Path(), filepath.Join(procNet, "ip_tables_names")); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file.Hold(t, []byte(text))
		bound.Read(t, len(text), 4, 1<<17, func() {
			names, err := legacyNames(procNet, false, &gate{})
			for name := range names {
				if !strings.Contains(text, name) || strings.Contains(name, "\n") {
					t.Errorf("name %q", name)
				}
			}
			if len(names) > maxNames || err == nil && len(names) == 0 && strings.Trim(text, "\r\n") != "" {
				t.Errorf("%d names, %v", len(names), err)
			}
			there, err := anyLineOf(strings.NewReader(text), isModule("nf_tables"))
			if there && !strings.Contains(text, "nf_tables") {
				t.Errorf("listed, %v", err)
			}
		})
	})
}

// FuzzConfig reads /proc/config.gz: what is unpacked is bounded, whatever it claims to hold.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{"CONFIG_NF_TABLES=y\n", "# Linux\nCONFIG_NF_TABLES=y\n", "# Linux\nCONFIG_NF_TABLES=m\n"} {
		f.Add(gzipped(f, text))
	}
	f.Add([]byte("CONFIG_NF_TABLES=y\n"))
	proc, sys := configFolders(f)
	file := memfile.New(f)
	if err := os.Symlink(file.Path(), filepath.Join(proc, "config.gz")); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		file.Hold(t, packed)
		var available bool
		var err error
		// io.ReadAll grows its buffer by a quarter, so that all its buffers together are 5 times the last.
		bound.Read(t, len(packed), 16, 6*maxGateFile+1<<20, func() {
			g := &gate{proc: proc, sys: sys, boot: proc, modules: proc} // remembers what it has read
			available, err = g.nftables()
		})
		if !available {
			return
		}
		if err != nil {
			t.Errorf("available, and %v", err)
		}
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(io.LimitReader(z, maxGateFile))
		if !slices.Contains(strings.Split(string(text), "\n"), "CONFIG_NF_TABLES=y") {
			t.Errorf("built in by %.100q", text)
		}
	})
}

// What is unpacked is bounded also where it is a thousand times what was packed. Not a seed of FuzzConfig: it would take all of its time.
func TestConfigThatGrows(t *testing.T) {
	proc, sys := configFolders(t)
	packed := gzipped(t, strings.Repeat("\x00", 2*maxGateFile)+"\nCONFIG_NF_TABLES=y\n")
	if err := os.WriteFile(filepath.Join(proc, "config.gz"), packed, 0o600); err != nil {
		t.Fatal(err)
	}
	bound.Read(t, len(packed), 16, 6*maxGateFile, func() {
		g := &gate{proc: proc, sys: sys, boot: proc, modules: proc}
		if available, _ := g.nftables(); available {
			t.Error("read beyond the bound")
		}
	})
}

// configFolders are /proc, but for config.gz, and /sys of a kernel whose configuration alone says whether it has nf_tables.
func configFolders(t testing.TB) (proc, sys string) {
	t.Helper()
	proc, sys = t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(proc, "sys/kernel"), 0o750); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"modules": "", "sys/kernel/osrelease": "6.18.0\n"} {
		if err := os.WriteFile(filepath.Join(proc, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return proc, sys
}

func gzipped(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
