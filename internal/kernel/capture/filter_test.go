package capture_test

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/net/bpf"

	"vxlan_exporter/internal/kernel/capture"
	"vxlan_exporter/test/fuzz/bound"
)

func machine(t testing.TB, f capture.Filter) *bpf.VM {
	t.Helper()
	vm, err := bpf.NewVM(f.Instructions())
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// agree checks that the filter passes exactly those frames that the judge finds a checksum in, on a port that is looked
// for.
func agree(t *testing.T, vm *bpf.VM, f capture.Filter, frame []byte) {
	t.Helper()
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	v := capture.Judge(frame, capture.Meta{Link: f.Link, Length: len(frame)})
	want := v.Reason != capture.NotUDP && v.Kind != capture.Zero && slices.Contains(f.Ports, v.Destination.Port())
	if (n > 0) != want {
		t.Fatalf("filter says %d, judge %+v\n% x", n, v, frame)
	}
	if whole := n >= len(frame); n > 0 && whole != (len(frame) <= max(f.MaxLength, 256)) {
		t.Fatalf("%d of %d bytes are handed over, whole up to %d", n, len(frame), f.MaxLength)
	}
}

// layouts are packets of all shapes.
func layouts() []layout {
	var all []layout
	for _, dport := range []uint16{8472, 4789, 53} {
		for _, field := range []func(uint16) uint16{nil, set(0), set(0xffff)} {
			for _, tags := range [][]uint16{
				nil,
				{0x8100},
				{0x88a8, 0x8100},
				{0x9100, 0x8100},
				{0x88a8, 0x8100, 0x8100},
				{0x0806},
			} {
				l := layout{sport: 40000, dport: dport, field: field, tags: tags, payload: 5}
				for options := range 11 {
					l.options = options
					all = append(all, l)
				}
				l.options = 0
				for _, fragment := range []uint16{0x2000, 0x4000, 0x0001, 0x2001, 0x1fff} {
					l.fragment = fragment
					all = append(all, l)
				}
				l.fragment, l.six = 0, true
				for _, extensions := range [][]byte{nil, {0}, {43}, {44}, {60}, {0, 60, 43, 44, 60}, {59}, {50}, {51}, {0, 6}} {
					l.extensions = extensions
					all = append(all, l)
				}
				l.extensions, l.payload = nil, 1600
				all = append(all, l)
			}
		}
	}
	return all
}

func TestFilterAgreesWithJudge(t *testing.T) {
	for _, ports := range [][]uint16{{8472}, {4789, 8472}, {}, manyPorts()} {
		f := capture.Filter{Ports: ports, MaxLength: 1522, Ratio: 1}
		vm := machine(t, f)
		for _, l := range layouts() {
			frame, _, _, _ := l.build()
			agree(t, vm, f, frame)
			if len(ports) != 1 {
				continue
			}
			for cut := range 120 {
				agree(t, vm, f, frame[:min(cut, len(frame))])
			}
		}
	}
}

func TestFilterAgreesWithJudgeWithoutLinkLayer(t *testing.T) {
	f := capture.Filter{Ports: []uint16{8472}, MaxLength: 1420, Ratio: 1, Link: capture.RawIP}
	vm := machine(t, f)
	for _, l := range layouts() {
		l.tags = nil
		frame, _, _, _ := l.build()
		agree(t, vm, f, frame[14:])
	}
}

// manyPorts are as many as a filter takes.
func manyPorts() []uint16 {
	ports := make([]uint16, 1024)
	for i := range ports {
		ports[i] = uint16(8000 + i)
	}
	return ports
}

func TestTooManyPorts(t *testing.T) {
	if _, err := (capture.Filter{Ports: append(manyPorts(), 9999), Ratio: 1}).Program(); err == nil {
		t.Error("1025 ports are taken")
	}
	raw, err := capture.Filter{Ports: manyPorts(), Ratio: 0.5}.Program()
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) > 4096 { // BPF_MAXINSNS
		t.Errorf("%d instructions", len(raw))
	}
}

// TestSampleWithoutRandom: the picking by fields comes near the ratio, for consecutive identifications and equal
// checksums too.
func TestSampleWithoutRandom(t *testing.T) {
	for _, ratio := range []float64{0.5, 0.1, 0.01} {
		f := capture.Filter{Ports: []uint16{8472}, MaxLength: 1522, Ratio: ratio, NoRandom: true}
		vm := machine(t, f)
		frame, udpAt, tcpAt, _ := layout{sport: 40000, dport: 8472, field: set(0xffff)}.build()
		const packets = 60000
		passed := 0
		for id := range packets {
			frame[tcpAt-16], frame[tcpAt-15] = byte(id>>8), byte(id) // inner IPv4 identification
			n, err := vm.Run(frame)
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				passed++
			}
		}
		_ = udpAt
		if got := float64(passed) / packets / f.EffectiveRatio(); got < 0.95 || got > 1.05 {
			t.Errorf("ratio %v: %d of %d passed", ratio, passed, packets)
		}
	}
}

// recordings are frames that real kernels made (testdata/*.pcap), every one of a short file and some of a long.
func recordings(f *testing.F) (frames [][]byte) {
	f.Helper()
	for name := range scenes() {
		all := readPcap(f, filepath.Join("testdata", name+".pcap"))
		for i := 0; i < len(all); i += 1 + len(all)/8 {
			frames = append(frames, all[i])
		}
	}
	return frames
}

func FuzzFilterAgreesWithJudge(f *testing.F) {
	for _, frame := range recordings(f) {
		f.Add(frame, false)
		f.Add(frame[14:], true)
	}
	for i, l := range layouts() {
		if i%97 == 0 {
			frame, _, _, _ := l.build()
			f.Add(frame, false)
		}
	}
	ethernet := capture.Filter{Ports: []uint16{8472}, MaxLength: 1522, Ratio: 1}
	raw := capture.Filter{Ports: []uint16{8472}, MaxLength: 1522, Ratio: 1, Link: capture.RawIP}
	etherVM, rawVM := machine(f, ethernet), machine(f, raw)
	f.Fuzz(func(t *testing.T, frame []byte, bare bool) {
		bound.Read(t, len(frame), 1, 0, func() {
			if bare {
				agree(t, rawVM, raw, frame)
			} else {
				agree(t, etherVM, ethernet, frame)
			}
		})
	})
}

// FuzzJudge: whatever comes, no panic, and bad only with all that makes it certain.
func FuzzJudge(f *testing.F) {
	unfinished := []byte{1, 0, 0, 0, 0, 0, 100, 0, 16, 0} // struct virtio_net_hdr with VIRTIO_NET_HDR_F_NEEDS_CSUM
	for _, frame := range recordings(f) {
		f.Add(frame, make([]byte, 10), []byte{}, uint16(0), uint16(0), false)
		f.Add(frame, unfinished, []byte{}, uint16(100), uint16(16), true)
	}
	for i, l := range layouts() {
		if i%97 == 0 {
			frame, _, tcpAt, _ := l.build()
			f.Add(frame, make([]byte, 10), []byte{}, uint16(tcpAt), uint16(16), false)
		}
	}
	f.Fuzz(func(t *testing.T, frame, vnet, oob []byte, start, offset uint16, outgoing bool) {
		m := capture.Describe(capture.Meta{
			Length: len(frame), MTU: 1500, Outgoing: outgoing, ChecksumStart: int(start), ChecksumOffset: int(offset),
		}, vnet, oob)
		var v capture.Verdict
		bound.Read(t, len(frame), 1, 0, func() { v = capture.Judge(frame, m) })
		if v.Kind == capture.Bad {
			inFrame(t, frame, v)
		}
		switch v.Kind {
		case capture.Unjudgeable:
			if v.Reason == "" {
				t.Errorf("no reason: %+v", v)
			}
		case capture.Bad:
			if v.Variant == "" || v.Field == 0 || v.Field == v.Correct || m.Verified || m.GSO || (m.NotReady && !outgoing) {
				t.Errorf("%+v of %+v", v, m)
			}
			if (v.Variant == capture.OffloadedChecksum) != (v.SourcePortPreNAT != 0) {
				t.Errorf("port before NAT: %+v", v)
			}
		case capture.OK, capture.CompletedOK:
			if v.Field != v.Correct {
				t.Errorf("%+v", v)
			}
		}
		if (v.Kind == capture.CompletedOK || v.Kind == capture.Partial) && !m.NotReady {
			t.Errorf("finished, but %+v", v)
		}
	})
}

// inFrame demands that what is told of a packet stands in it.
func inFrame(t *testing.T, frame []byte, v capture.Verdict) {
	t.Helper()
	for what, b := range map[string][]byte{
		"source": v.Source.Addr().AsSlice(), "destination": v.Destination.Addr().AsSlice(),
		"ports": binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, v.Source.Port()), v.Destination.Port()),
		"field": binary.BigEndian.AppendUint16(nil, v.Field),
	} {
		if !bytes.Contains(frame, b) {
			t.Errorf("%s % x is not in the frame: %+v", what, b, v)
		}
	}
}
