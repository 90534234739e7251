package capture_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/internal/kernel/capture"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

var update = flag.Bool("update", false, "make testdata anew from live rigs")

// recorded is one packet of a corpus file: what the kernel said of it when it was captured, and what it is.
type recorded struct {
	Meta    capture.Meta
	Verdict capture.Verdict
}

// scenes are the rigs that the corpus comes from. Files are testdata/NAME.pcap and NAME.json.
func scenes() map[string]struct {
	options lab.Options
	nic     []string // ethtool -K of the underlay
	sender  bool     // captured on the sender
	bad     capture.Variant
} {
	type scene = struct {
		options lab.Options
		nic     []string
		sender  bool
		bad     capture.Variant
	}
	failure := func(change func(*lab.Options)) lab.Options {
		o := lab.LiveFailure()
		change(&o)
		return o
	}
	same := func(*lab.Options) {}
	six := func(o *lab.Options) { o.Family = lab.IPv6 }
	a := func(o *lab.Options) { o.UDPChecksum, o.ImitateA = false, true }
	a6 := func(o *lab.Options) { a(o); six(o) }
	fixed := func(o *lab.Options) { o.Rules = lab.RulesFixed }
	fixed6 := func(o *lab.Options) { fixed(o); six(o) }
	return map[string]scene{
		"offloaded-ipv4":           {options: failure(same), bad: capture.OffloadedChecksum},
		"offloaded-ipv6":           {options: failure(six), bad: capture.OffloadedChecksum},
		"zero-ipv4":                {options: failure(a), bad: capture.ZeroChecksum},
		"zero-ipv6":                {options: failure(a6), bad: capture.ZeroChecksum},
		"good-ipv4":                {options: failure(fixed)},
		"good-ipv6":                {options: failure(fixed6)},
		"good-ipv4-unfinished-in":  {options: failure(fixed), nic: []string{"tx", "on"}},
		"good-ipv4-unfinished-out": {options: failure(fixed), nic: []string{"tx", "on"}, sender: true},
		"good-ipv6-unfinished-out": {options: failure(fixed6), nic: []string{"tx", "on"}, sender: true},
		"offloaded-ipv4-unfinished": {
			options: failure(same), nic: []string{"tx", "on"}, sender: true,
			bad: capture.OffloadedChecksum,
		},
		"offloaded-ipv4-never-wired": {options: failure(same), nic: []string{"tx", "on"}},
	}
}

// TestCorpus judges packets that real kernels made.
func TestCorpus(t *testing.T) {
	for name, s := range scenes() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name)
			if *update {
				r := labtest.NewRig(t, s.options)
				record(t, r, path, s.nic, s.sender)
			}
			frames := readPcap(t, path+".pcap")
			var want []recorded
			b, err := os.ReadFile(path + ".json")
			if err == nil {
				err = json.Unmarshal(b, &want)
			}
			if err != nil || len(want) != len(frames) || len(frames) < 2 {
				t.Fatalf("%d frames, %d verdicts, %v (make them with -update)", len(frames), len(want), err)
			}
			vm := machine(t, capture.Filter{Ports: []uint16{8472}, MaxLength: 1522, Ratio: 1})
			bad := 0
			for i, frame := range frames {
				v := capture.Judge(frame, want[i].Meta)
				if v != want[i].Verdict {
					t.Errorf("packet %d: %+v, want %+v", i, v, want[i].Verdict)
				}
				if n, err := vm.Run(frame); err != nil || n < len(frame) {
					t.Errorf("packet %d: the filter says %d, %v", i, n, err)
				}
				if v.Kind == capture.Bad {
					bad++
					if v.Variant != s.bad {
						t.Errorf("packet %d: %+v, want %s", i, v, s.bad)
					}
				}
			}
			if (bad > 0) != (s.bad != "") {
				t.Errorf("%d bad packets", bad)
			}
			if s.nic == nil {
				agreesWithTcpdump(t, path+".pcap", frames, want)
			}
		})
	}
}

// agreesWithTcpdump compares with what tcpdump says of finished checksums: "[udp sum ok]" or "[bad udp cksum 0xffff ->
// 0x1234!]".
func agreesWithTcpdump(t *testing.T, path string, frames [][]byte, want []recorded) {
	t.Helper()
	labtest.NeedRoot(t, "tcpdump changes to a user of its own")
	labtest.Need(t, "tcpdump")
	out, err := exec.Command("tcpdump", "-nvvr", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	sums := regexp.MustCompile(`\[(udp sum ok|bad udp cksum 0x([0-9a-f]+) -> 0x([0-9a-f]+)!)\]`).
		FindAllStringSubmatch(string(out), -1)
	outer := make([]string, 0, len(sums))
	for _, m := range sums {
		outer = append(outer, m[1])
	}
	for i := range frames {
		v := want[i].Verdict
		said := "udp sum ok"
		if v.Kind == capture.Bad {
			said = "bad udp cksum 0x" + hex4(v.Field) + " -> 0x" + hex4(v.Correct) + "!"
		}
		if !slices.Contains(outer, said) {
			t.Errorf("packet %d: %+v: tcpdump never says %q: %q", i, v, said, outer)
		}
	}
	bad := 0
	for _, r := range want {
		if r.Verdict.Kind == capture.Bad {
			bad++
		}
	}
	if n := strings.Count(string(out), "bad udp cksum"); n != bad {
		t.Errorf("tcpdump calls %d packets bad, the judge %d:\n%s", n, bad, out)
	}
}

func hex4(v uint16) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[v>>12], digits[v>>8&15], digits[v>>4&15], digits[v&15]})
}

// record captures some queries through a rig.
func record(t *testing.T, r *lab.Rig, path string, nic []string, sender bool) {
	t.Helper()
	for _, n := range []*lab.NS{r.A, r.B} {
		if nic == nil {
			break
		}
		if _, err := n.Run(append([]string{"ethtool", "-K", lab.Underlay}, nic...)...); err != nil {
			t.Fatal(err)
		}
	}
	ns := r.B
	if sender {
		ns = r.A
	}
	var c *capture.Capture
	err := ns.Do(func() (err error) {
		c, err = capture.NewCapture(capture.Config{Interface: lab.Underlay, Ports: []uint16{r.Options().Port}, Ratio: 1})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		if _, err := r.Query(t.Context(), 1, 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	// A page over TCP as well: its SYN meets the failure too.
	page, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
	defer cancel()
	if _, err := r.Request(page); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && page.Err() == nil {
		t.Fatal(err)
	}
	// magic, version 2.4, zone, accuracy, length, LINKTYPE_ETHERNET: pcap-savefile(5)
	file := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	for _, v := range []uint32{4<<16 | 2, 0, 0, 65535, 1} {
		file = binary.LittleEndian.AppendUint32(file, v)
	}
	var all []recorded
	for {
		b, err := c.Read(time.Now().Add(aWhile), func(p capture.Packet) {
			for _, v := range []uint32{uint32(len(all)), 0, uint32(len(p.Frame)), uint32(p.Meta.Length)} {
				file = binary.LittleEndian.AppendUint32(file, v)
			}
			file = append(file, p.Frame...)
			all = append(all, recorded{p.Meta, capture.Judge(p.Frame, p.Meta)})
		})
		if err != nil {
			t.Fatal(err)
		}
		if b.Passed == 0 {
			break
		}
	}
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.MkdirAll(filepath.Dir(path), 0o755),
		os.WriteFile(path+".pcap", file, 0o644),
		os.WriteFile(path+".json", append(text, '\n'), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// readPcap reads the frames of a file that record wrote.
func readPcap(t testing.TB, path string) (frames [][]byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for b = b[min(24, len(b)):]; len(b) >= 16; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		frames = append(frames, b[16:16+n])
		b = b[16+n:]
	}
	return frames
}
