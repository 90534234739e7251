package ethtool

import (
	"encoding/binary"
	"fmt"
)

const cmdSetTxChecksum = 0x17 // ETHTOOL_STXCSUM: struct ethtool_value, cmd u32 and data u32

// SetTxChecksum switches every transmit checksum offload of a device that it can switch, as ethtool -K DEVICE tx on|off does
// (ethtool_set_one_feature, net/ethtool/ioctl.c). Kernels of all ages have it; it needs CAP_NET_ADMIN.
func SetTxChecksum(s IoctlSocket, name string, on bool) error {
	value := make([]byte, 8)
	binary.NativeEndian.PutUint32(value, cmdSetTxChecksum)
	if on {
		binary.NativeEndian.PutUint32(value[4:], 1)
	}
	if err := s.Ethtool(name, value); err != nil {
		return fmt.Errorf("ETHTOOL_STXCSUM: %w", err)
	}
	return nil
}
