package lab

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"vxlan_exporter/test/fuzz/bound"
)

func TestParseFlow(t *testing.T) {
	f, err := parseFlow("udp      17 29 src=192.168.77.1 dst=192.168.77.2 sport=41234 dport=8472 [UNREPLIED] " +
		"src=192.168.77.2 dst=192.168.77.1 sport=8472 dport=5032 mark=0 use=1\n")
	if err != nil {
		t.Fatal(err)
	}
	want := Flow{
		netip.MustParseAddrPort("192.168.77.1:41234"), netip.MustParseAddrPort("192.168.77.2:8472"),
		netip.MustParseAddrPort("192.168.77.2:8472"), netip.MustParseAddrPort("192.168.77.1:5032"),
	}
	if f != want || !f.SourceNATed() {
		t.Errorf("got %+v, NATed %t; want %+v, NATed", f, f.SourceNATed(), want)
	}
	for _, line := range []string{
		"", "udp 17 29 src=1.2.3.4",
		"icmp src=a dst=b sport=1 dport=2 src=c dst=d sport=1 dport=2",
	} {
		if f, err := parseFlow(line); err == nil {
			t.Errorf("%q: accepted as %+v", line, f)
		}
	}
}

func FuzzParseFlow(f *testing.F) {
	f.Add("udp 17 29 src=fd77::1 dst=fd77::2 sport=1 dport=8472 src=fd77::2 dst=fd77::1 sport=8472 dport=1")
	f.Add("src= dst= sport= dport= src= dst= sport= dport=")
	f.Fuzz(func(t *testing.T, line string) {
		var flow Flow
		var err error
		bound.Read(t, len(line), 64, 0, func() { flow, err = parseFlow(line) })
		if err == nil && !flow.Source.IsValid() {
			t.Errorf("%q: accepted without a source", line)
		}
	})
}

// datagram is an Ethernet frame with a UDP datagram from port 1000 to port 8472 over IPv4.
func datagram(field uint16, payload string) []byte {
	b := append(make([]byte, 12), 0x08, 0x00)
	b = append(b, 0x45, 0, 0, byte(28+len(payload)), 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2)
	for _, v := range []uint16{1000, 8472, uint16(8 + len(payload)), field} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return append(b, payload...)
}

func TestJudge(t *testing.T) {
	// 0xc000 + 0x0201 + 0xc000 + 0x0202 + 17 + 11 + 1000 + 8472 + 11 + 0x6162 + 0x6300, folded and complemented.
	const right = 0x9271
	padded := append(datagram(right, "abc"), make([]byte, 10)...) // to the 60 bytes of an Ethernet frame
	w := &Wire{port: 8472}
	for _, frame := range [][]byte{datagram(right, "abc"), padded, datagram(0, "abc"), datagram(right+1, "abc")} {
		w.judge(frame, time.Time{})
	}
	if w.seen.Packets != 4 || w.seen.Zero != 1 || len(w.seen.Bad) != 1 || w.seen.Bad[0].Correct != right {
		t.Errorf("%+v; want 4 packets, one without a checksum, one bad that should be %#04x", w.seen, right)
	}
	other := &Wire{port: 4789}
	other.judge(datagram(1, "abc"), time.Time{})
	if other.seen.Packets != 0 {
		t.Errorf("a packet to another port was counted: %+v", other.seen)
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(datagram(1, "abc"))
	f.Add(append(append(make([]byte, 12), 0x86, 0xdd), bytes.Repeat([]byte{0x11}, 60)...))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var w *Wire
		bound.Read(t, len(frame), 4, 0, func() {
			w = &Wire{port: 8472}
			w.judge(frame, time.Time{})
		})
		if w.seen.Packets > 1 || len(w.seen.Bad)+w.seen.Zero > w.seen.Packets {
			t.Errorf("one frame gave %+v", w.seen)
		}
	})
}
