package labtest

import (
	"os"
	"testing"
	"time"
)

// What these answer is true of the kernels that tests usually run on. test/kernels/test-kernels boots others, and says
// in the environment of the tests in what they differ: it built them so, and what the exporter says of them must not be
// the reason to believe it.

// ZeroChecksumBug reports whether NAT on this kernel fills in the checksum of a UDP packet that has none.
func ZeroChecksumBug() bool { return os.Getenv("VXLAN_TEST_ZERO_CHECKSUM") == "affected" }

// EthtoolNetlink reports whether this kernel has the generic netlink family "ethtool" (5.6).
func EthtoolNetlink() bool { return os.Getenv("VXLAN_TEST_ETHTOOL_NETLINK") != "absent" }

// RehashesAlways reports whether this kernel gives a connection of its own another path after the first SYN timeout
// (4.9, tcp_write_timeout) and has no net.core.txrehash (5.18) to stop that: there a TCP connection stalls for a
// second, as its second SYN leaves with another outer source port. A UDP socket keeps its path.
func RehashesAlways() bool { return os.Getenv("VXLAN_TEST_TXREHASH") == "always" }

// UDPTimeout is the connection tracking timeout of outer packets in tests that wait for the end of a stall. The
// kernel's own, 30 s, makes it last 63 s.
func UDPTimeout(t testing.TB) time.Duration {
	t.Helper()
	const short = 3 * time.Second
	text := os.Getenv("VXLAN_TEST_UDP_TIMEOUT")
	if text == "" {
		return short
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
