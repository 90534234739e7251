package selftest

import (
	"fmt"

	"vxlan_exporter/internal/kernel/ethtool"
)

// finishChecksums switches off the checksum offloads of a device, so that the stack finishes every checksum before a frame leaves.
func finishChecksums(device string) error {
	s, err := ethtool.OpenIoctl()
	if err != nil {
		return fmt.Errorf("socket for ethtool: %w", err)
	}
	defer func() { _ = s.Close() }()
	return ethtool.SetTxChecksum(s, device, false)
}
