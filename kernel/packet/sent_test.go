package packet

import (
	"bytes"
	"encoding/binary"
	"testing"

	"vxlan_exporter/fuzz/bound"
)

// FuzzSent reads the counters of RTM_NEWLINK messages; the seeds in testdata/fuzz were recorded from Linux 6.18.
func FuzzSent(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		var n uint64
		var err error
		bound.Read(t, len(data), 2, 0, func() { n, err = sentPackets(data) })
		if err != nil && n != 0 {
			t.Errorf("%d with %v", n, err)
		}
		if err == nil && !bytes.Contains(data, binary.NativeEndian.AppendUint64(nil, n)) {
			t.Errorf("%d is not in the input", n)
		}
	})
}
