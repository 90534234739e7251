package capture

import (
	"bytes"
	"encoding/binary"
	"testing"

	"vxlan_exporter/test/fuzz/bound"
)

// FuzzCounts reads the counters of RTM_NEWLINK messages; the seeds in testdata/fuzz were recorded from Linux 6.18.
func FuzzCounts(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		var n Counts
		var err error
		bound.Read(t, len(data), 2, 0, func() { n, err = packetCounts(data) })
		if err != nil && n != (Counts{}) {
			t.Errorf("%v with %v", n, err)
		}
		if err == nil && !bytes.Contains(data, binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, n.Received), n.Sent)) {
			t.Errorf("%v is not in the input", n)
		}
	})
}
