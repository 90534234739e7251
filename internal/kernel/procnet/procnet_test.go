package procnet

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/procfs"

	"vxlan_exporter/test/fuzz/bound"
	"vxlan_exporter/test/fuzz/memfile"
)

func write(t testing.TB, content string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTable(t *testing.T) {
	const good = "Tcp: RtoAlgorithm MaxConn InCsumErrors\nTcp: 1 -1 3\nUdp: InErrors InCsumErrors\nUdp: " +
		"18446744073709551615 42\n"
	tests := []struct {
		name, content    string
		tcp, udp, absent string // want, "" for nil
		err              string
	}{
		{"good", good, "3", "42", "", ""},
		{"no final newline", strings.TrimSuffix(good, "\n"), "3", "42", "", ""},
		{"empty", "", "", "", "", ""},
		{
			"half written: names without values", "Udp: InCsumErrors\nUdp: 7\nTcp: InCsumErrors\n", "", "7", "",
			"ends after the names",
		},
		{
			"too few values", "Tcp: A InCsumErrors\nTcp: 1\nUdp: InCsumErrors\nUdp: 7\n", "", "7", "",
			"Tcp: 2 names but 1 values",
		},
		{
			"too many values", "Tcp: InCsumErrors\nTcp: 1 2\nUdp: InCsumErrors\nUdp: 7\n", "", "7", "",
			"Tcp: 1 names but 2 values",
		},
		{"values of another protocol", "Tcp: InCsumErrors\nUdp: 1\nUdp: InCsumErrors\nUdp: 7\n", "", "7", "", "Tcp"},
		{"not a number", "Tcp: InCsumErrors\nTcp: x\nUdp: InCsumErrors\nUdp: 7\n", "", "7", "", "Tcp InCsumErrors"},
		{"negative", "Tcp: InCsumErrors\nTcp: -4\n", "", "", "", "Tcp InCsumErrors"},
		{"empty line", "\n\nUdp: InCsumErrors\nUdp: 7\n", "", "7", "", ""},
		{"not a header", "Udp InCsumErrors\nUdp 7\n", "", "", "", "not a header"},
		{"no field of that name", "Tcp: A\nTcp: 1\nUdp: B\nUdp: 1\n", "", "", "", ""},
		{"line too long", strings.Repeat("x", 2*maxLine), "", "", "", "too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var tcp, udp, absent *uint64
			err := Table(write(t, tt.content), Want{"Tcp InCsumErrors": &tcp, "Udp InCsumErrors": &udp, "Udp Unknown": &absent})
			check(t, "tcp", tcp, tt.tcp)
			check(t, "udp", udp, tt.udp)
			check(t, "absent", absent, tt.absent)
			checkErr(t, err, tt.err)
		})
	}
}

// procOf is a procfs of one process with these files.
func procOf(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "1/net"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("1", filepath.Join(root, "self")); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root, "1/net", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestReadSNMP(t *testing.T) {
	const four = "Tcp: MaxConn InCsumErrors\nTcp: -1 3\nUdp: InDatagrams NoPorts InErrors InCsumErrors\nUdp: 1 2 " +
		"18446744073709549568 4\n"
	for _, tt := range []struct {
		name, snmp, snmp6, tcp, udp, errors, udp6, err string
	}{
		{"both", four, "Udp6InCsumErrors  \t9\nOther x y z\n", "3", "4", "18446744073709549568", "9", ""},
		{"no IPv6", four, "", "3", "4", "18446744073709549568", "", ""},
		{"fields that the kernel does not have", "Udp: NoPorts\nUdp: 1\n", "Udp6NoPorts 1\n", "", "", "", "", ""},
		{"values are missing", "Udp: NoPorts InCsumErrors\nUdp: 1\n", "Udp6InCsumErrors 9\n", "", "", "", "9", "net/snmp"},
		{"names without values", "Udp: InCsumErrors", "Udp6InCsumErrors 9\n", "", "", "", "9", "net/snmp"},
		{
			"not a number", "Udp: InCsumErrors\nUdp: 4\nUdpLite: InCsumErrors\nUdpLite: x\n", "Udp6InCsumErrors y\n", "", "4",
			"", "", "net/snmp6",
		},
		{"negative", "Udp: InErrors InCsumErrors\nUdp: -3 4\n", "", "", "4", "", "", "Udp InErrors: -3"},
		{"no whole number", "Udp: InErrors InCsumErrors\nUdp: 1.5 NaN\n", "", "", "", "", "", "Udp InCsumErrors: NaN"},
		{"too large", "Udp: InErrors\nUdp: 1e30\n", "", "", "", "", "", "Udp InErrors"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"snmp": tt.snmp}
			if tt.snmp6 != "" {
				files["snmp6"] = tt.snmp6
			}
			s, err := ReadSNMP(procOf(t, files))
			check(t, "tcp", s.TCPInCsumErrors, tt.tcp)
			check(t, "udp", s.UDP4.InCsumErrors, tt.udp)
			check(t, "errors", s.UDP4.InErrors, tt.errors)
			check(t, "udp6", s.UDP6.InCsumErrors, tt.udp6)
			checkErr(t, err, tt.err)
		})
	}
	for name, proc := range map[string]string{"no file": procOf(t, nil), "no process": t.TempDir()} {
		if _, err := ReadSNMP(proc); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPerCPU(t *testing.T) {
	tests := []struct{ name, content, want, err string }{
		{"sum of hexadecimal numbers", "entries  searched invalid\n00000018  00000001 0000002a\n00000018  00000001 " +
			"00000010\n", "58", ""},
		{"another order", "invalid new\n00000001 00000018\n", "1", ""},
		{"beyond 32 bits in sum", "invalid\nffffffff\nffffffff\n", "8589934590", ""},
		{"no such column", "entries new\n1 2\n", "", ""},
		{"a CPU cut short", "entries invalid\n1 2\n1\n", "", "1 columns instead of 2"},
		{"not a number", "entries invalid\n1 zz\n", "", "invalid"},
		{"header only", "entries invalid\n", "", "no line for any CPU"},
		{"empty", "", "", "no line for any CPU"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := PerCPU(write(t, tt.content), "invalid")
			check(t, "invalid", got, tt.want)
			checkErr(t, err, tt.err)
		})
	}
}

const udpHeader = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode " +
	"ref pointer drops\n"

func TestSockets(t *testing.T) {
	line := func(local, remote, uid, rest string) string {
		return " 7100: " + local + " " + remote + " 07 00000000:00000000 00:00000000 00000000     " + uid + "        0 " +
			rest + "\n"
	}
	vxlan := line("00000000:2118", "00000000:0000", "0", "24032 2 00000000649743ba 6")
	tests := []struct {
		name, content string
		want          []Socket
		err           string
	}{
		{"the kernel's", udpHeader + vxlan, []Socket{{"ipv4", 8472, 24032, 6}}, ""},
		{
			"IPv6", udpHeader + line(strings.Repeat("0", 32)+":12B5", strings.Repeat("0", 32)+":0000", "0",
				"7 2 00000000649743ba 1"),
			[]Socket{{"ipv4", 4789, 7, 1}},
			"",
		},
		{
			"bound to an address", udpHeader + line("0100007F:2118", "00000000:0000", "0", "1 2 0 3"),
			[]Socket{{"ipv4", 8472, 1, 3}},
			"",
		},
		{"a user's program", udpHeader + line("00000000:2118", "00000000:0000", "1000", "1 2 0 3"), nil, ""},
		{"connected", udpHeader + line("00000000:2118", "0100007F:1234", "0", "1 2 0 3"), nil, ""},
		{"another port", udpHeader + line("00000000:0035", "00000000:0000", "0", "1 2 0 3"), nil, ""},
		{
			"line cut short, then a good one", udpHeader + " 7100: 00000000:2118\n" + vxlan,
			[]Socket{{"ipv4", 8472, 24032, 6}},
			"2 fields instead of 13",
		},
		{"line cut short, another port", udpHeader + " 7100: 00000000:0035\n", nil, ""},
		{"only a number", udpHeader + "7100:\n", nil, "has no address"},
		{"no port", udpHeader + line("00000000", "0:0", "0", "1 2 0 3"), nil, "has no port"},
		{"port too large", udpHeader + line("00000000:12118", "0:0", "0", "1 2 0 3"), nil, "has no port"},
		{"drops no number", udpHeader + line("00000000:2118", "00000000:0000", "0", "1 2 0 x"), nil, "drops"},
		{"inode no number", udpHeader + line("00000000:2118", "00000000:0000", "0", "-1 2 0 1"), nil, "inode"},
		{"no header", vxlan, nil, "no header"},
		{"empty", "", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Sockets(write(t, tt.content), "ipv4", []uint16{8472, 4789})
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			checkErr(t, err, tt.err)
		})
	}
}

// The library's reader of netstat must agree with ours, on this kernel and on the shape of an old one.
func TestAgainstProcfs(t *testing.T) {
	for _, root := range []string{
		"/proc", "../../../collectors/testdata/proc-3.10",
		"../../../collectors/testdata/proc-6.18",
	} {
		t.Run(filepath.Base(root), func(t *testing.T) {
			fs, err := procfs.NewFS(root)
			if err != nil {
				t.Fatal(err)
			}
			p, err := fs.Self()
			if err != nil {
				t.Fatal(err)
			}
			netstat, err := p.Netstat()
			if err != nil {
				t.Fatal(err)
			}
			var syn, timeouts *uint64
			if err := Table(filepath.Join(root, "net/netstat"),
				Want{"TcpExt TCPSynRetrans": &syn, "TcpExt TCPTimeouts": &timeouts}); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				name string
				ours *uint64
				lib  *float64
			}{{"TCPSynRetrans", syn, netstat.TCPSynRetrans}, {"TCPTimeouts", timeouts, netstat.TCPTimeouts}} {
				if (c.ours == nil) != (c.lib == nil) || (c.ours != nil && float64(*c.ours) != *c.lib) {
					t.Errorf("%s: %v, library %v", c.name, deref(c.ours), c.lib)
				}
			}
		})
	}
}

// noEnd is a file that does not end, of lines.
type noEnd struct{}

func (noEnd) Read(p []byte) (int, error) {
	return copy(p, bytes.Repeat([]byte("Name 1\n"), len(p)/7+1)), nil
}

func TestFileWithoutEnd(t *testing.T) {
	lines := 0
	err := scan(noEnd{}, "file", func([]byte) error {
		lines++
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "larger than 256 MiB") || lines == 0 {
		t.Errorf("%d lines, %v", lines, err)
	}
}

func FuzzFiles(f *testing.F) {
	for _, root := range []string{"proc-3.10", "proc-6.18", "proc-broken"} {
		for _, name := range []string{"netstat", "udp", "stat/nf_conntrack"} {
			b, err := os.ReadFile(filepath.Join("../../../collectors/testdata", root, "net", name))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	for _, name := range []string{"netstat", "udp", "udp6", "stat/nf_conntrack"} { // this kernel's own
		if b, err := os.ReadFile(filepath.Join("/proc/net", name)); err == nil {
			f.Add(b)
		}
	}
	file := memfile.New(f)
	path := file.Path()
	f.Fuzz(func(t *testing.T, content []byte) {
		file.Hold(t, content)
		// Whatever is told stood in the file, as a field of its own.
		said := func(what string, n *uint64, base int) {
			t.Helper()
			if n == nil {
				return
			}
			if !slices.ContainsFunc(bytes.Fields(content), func(field []byte) bool {
				v, err := strconv.ParseUint(string(field), base, 64)
				return err == nil && v == *n
			}) {
				t.Errorf("%s = %d is not in the file", what, *n)
			}
		}
		bound.Read(t, len(content), 64, 0, func() {
			var syn *uint64
			_ = Table(path, Want{"TcpExt TCPSynRetrans": &syn})
			said("TcpExt TCPSynRetrans", syn, 10)
			sum, err := PerCPU(path, "invalid")
			if sum != nil && err != nil {
				t.Error("a sum together with an error")
			}
			if bytes.Count(bytes.TrimRight(content, "\n"), []byte("\n")) == 1 { // one CPU
				said("invalid", sum, 16)
			}
			sockets, _ := Sockets(path, "ipv4", []uint16{8472})
			for _, s := range sockets {
				if s.Port != 8472 || s.Family != "ipv4" {
					t.Errorf("socket of another port: %+v", s)
				}
				said("inode", &s.Inode, 10)
				said("drops", &s.Drops, 10)
			}
			if len(sockets) > bytes.Count(content, []byte("\n"))+1 {
				t.Error("more sockets than lines")
			}
		})
	})
}

// FuzzSNMP reads snmp and snmp6, whose counters are numbers that stand in them.
func FuzzSNMP(f *testing.F) {
	for _, root := range []string{
		"/proc", "../../../collectors/testdata/proc-3.10",
		"../../../collectors/testdata/proc-broken",
	} {
		four, err := os.ReadFile(filepath.Join(root, "net/snmp"))
		six, err6 := os.ReadFile(filepath.Join(root, "net/snmp6"))
		if err := errors.Join(err, err6); err != nil {
			f.Fatal(err)
		}
		f.Add(four, six)
	}
	four, six := memfile.New(f), memfile.New(f)
	proc := procOf(f, nil)
	for name, file := range map[string]memfile.File{"snmp": four, "snmp6": six} {
		if err := os.Symlink(file.Path(), filepath.Join(proc, "1/net", name)); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, snmp, snmp6 []byte) {
		four.Hold(t, snmp)
		six.Hold(t, snmp6)
		s, _ := ReadSNMP(proc)
		for content, counters := range map[*[]byte][]*uint64{
			&snmp:  {s.UDP4.InDatagrams, s.UDP4.InErrors, s.UDP4.InCsumErrors, s.UDP4.NoPorts, s.TCPInCsumErrors},
			&snmp6: {s.UDP6.InDatagrams, s.UDP6.InErrors, s.UDP6.InCsumErrors, s.UDP6.NoPorts},
		} {
			for _, n := range counters {
				if n != nil && !slices.ContainsFunc(bytes.Fields(*content), func(field []byte) bool {
					v, err := strconv.ParseFloat(string(field), 64)
					return err == nil && uint64(v) == *n
				}) {
					t.Errorf("%d is not in the file", *n)
				}
			}
		}
	})
}

func BenchmarkSNMP(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadSNMP("/proc"); err != nil {
			b.Fatal(err)
		}
	}
}

func check(t *testing.T, name string, got *uint64, want string) {
	t.Helper()
	if g := deref(got); g != want {
		t.Errorf("%s = %q, want %q", name, g, want)
	}
}

func checkErr(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("unexpected error: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want one with %q", err, want)
	}
}

func deref(p *uint64) string {
	if p == nil {
		return ""
	}
	return strconv.FormatUint(*p, 10)
}

func TestProcessed(t *testing.T) {
	const rest = " 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n"
	for _, tt := range []struct {
		name, content string
		want          uint64
		err           string
	}{
		{"two CPUs", "0000000a" + rest + "ffffffff" + rest, 0x100000009, ""},
		{"not a number", "0000000a" + rest + "zz" + rest, 0, "invalid"},
		{"more than 32 bits", "100000000" + rest, 0, "out of range"},
		{"an empty line", "0000000a" + rest + "\n", 0, "columns"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proc := t.TempDir()
			for _, err := range []error{
				os.Mkdir(filepath.Join(proc, "net"), 0o700),
				os.WriteFile(filepath.Join(proc, "net/softnet_stat"), []byte(tt.content), 0o600),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			n, err := Processed(proc)
			if checkErr(t, err, tt.err); err == nil && n != tt.want {
				t.Errorf("%d, want %d", n, tt.want)
			}
		})
	}
	if n, err := Processed("/proc"); n == 0 || err != nil {
		t.Errorf("this machine: %d, %v", n, err)
	}
}
