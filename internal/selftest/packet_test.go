package selftest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"vxlan_exporter/test/fuzz/bound"
)

// Outer frames as a 6.18 kernel sent them with udpcsum on and without NAT; the checksums are the kernel's.
func goodFrames(tb testing.TB) map[string][]byte {
	tb.Helper()
	frames := map[string][]byte{}
	for name, text := range map[string]string{
		"ipv4": "02000000000186876f1a877b080045000065703500004011864fc0000201c0000202c35012b50051d91808000000000001000200000000013af28f207d6e08004500003333d84000401178bac6120101c612010298d60009001f13d976786c616e5f6578706f727465722073656c6674657374",
		"ipv6": "02000000000186876f1a877b86dd600000000051114020010db800000000000000000000000120010db8000000000000000000000002c35012b500516837080000000000020002000000000142b1d5a5c99a080045000033809e4000401129f4c6120201c612020280680009001f2a4776786c616e5f6578706f727465722073656c6674657374",
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			tb.Fatal(err)
		}
		frames[name] = b
	}
	return frames
}

func TestParseOuter(t *testing.T) {
	for name, frame := range goodFrames(t) {
		got, ok := parseOuter(frame)
		if !ok || got.sourcePort != plainSource || got.field == 0 || got.field != got.correct || got.vni == 0 || got.vni > 8 {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
		if padded, ok := parseOuter(append(append([]byte(nil), frame...), 1, 2, 3)); !ok || padded != got {
			t.Errorf("%s with padding: %+v", name, padded)
		}
		for n := range frame {
			if got, ok := parseOuter(frame[:n]); ok {
				t.Errorf("%s cut to %d bytes: %+v", name, n, got)
			}
		}
		// A change of the source port alone makes the sum wrong by just that.
		changed := append([]byte(nil), frame...)
		binary.BigEndian.PutUint16(changed[map[string]int{"ipv4": ethernetLen + 20, "ipv6": ethernetLen + 40}[name]:], natPort)
		now, ok := parseOuter(changed)
		if deduced := (natPort + int(now.correct) - int(now.field) + 2*0xffff) % 0xffff; !ok || deduced != plainSource {
			t.Errorf("%s: %d deduced of %+v", name, deduced, now)
		}
	}
}

func TestParseOuterOthers(t *testing.T) {
	frame := goodFrames(t)["ipv4"]
	for name, f := range map[string]func(b []byte){
		"ethertype":   func(b []byte) { b[12] = 0x88 },
		"IP options":  func(b []byte) { b[14] = 0x46 },
		"TCP":         func(b []byte) { b[14+9] = 6 },
		"port":        func(b []byte) { b[14+20+3]++ },
		"too long":    func(b []byte) { b[14+20+4] = 0xff },
		"too short":   func(b []byte) { b[14+20+5] = 15 },
		"IPv6 header": func(b []byte) { b[12], b[13] = 0x86, 0xdd },
	} {
		b := append([]byte(nil), frame...)
		f(b)
		if got, ok := parseOuter(b); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestUDPChecksumZero(t *testing.T) {
	// A sum that comes out as 0 is sent as 0xffff (RFC 768): the last word is chosen so.
	addresses := make([]byte, 8)
	udp := []byte{0, 0, 0, 0, 0, 10, 0xaa, 0xaa, 0, 0}
	binary.BigEndian.PutUint16(udp[8:], 0xffff-protoUDP-10-10)
	if got := udpChecksum(addresses, udp); got != 0xffff {
		t.Errorf("0x%04x", got)
	}
}

func FuzzParseOuter(f *testing.F) {
	for _, frame := range goodFrames(f) {
		f.Add(frame)
		f.Add(frame[:40])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var got outer
		var ok bool
		bound.Read(t, len(b), 1, 0, func() { got, ok = parseOuter(b) })
		if ok && !bytes.Contains(b, binary.BigEndian.AppendUint16(nil, got.field)) {
			t.Errorf("field %#04x is not in %x", got.field, b)
		}
		if ok && (got.correct == 0 || got.vni >= 1<<24) || !ok && got != (outer{}) {
			t.Errorf("%+v, %v", got, ok)
		}
	})
}
