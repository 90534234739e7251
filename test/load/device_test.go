//go:build load

package load_test

import (
	"fmt"
	"slices"
	"strconv"
)

// device is a device of a churn: its VNI, which no two of them share. Everything about it follows from the VNI, so that
// whoever reads the devices meanwhile can tell whether what was read ever existed.
type device uint32

// fresh is the name until the features are set; then comes settled, and at last renamed, where isRenamed. One device in
// seven has reused as its settled name, which others had before it.
func (d device) fresh() string { return "f" + d.id() }

// settled is the name of the device with all its settings.
func (d device) settled() string {
	if d%7 == 0 {
		return d.reused()
	}
	return "s" + d.id()
}

// reused is a name that other devices had before.
func (d device) reused() string { return "again" + strconv.Itoa(int(d/7%2)) }

// renamed is the last name.
func (d device) renamed() string { return "r" + d.id() }

// isRenamed tells whether it has a last name.
func (d device) isRenamed() bool { return d%3 == 0 }

func (d device) id() string { return strconv.FormatUint(uint64(d), 36) }

// names are all that it ever has.
func (d device) names() []string {
	names := []string{d.fresh(), d.settled()}
	if d.isRenamed() {
		names = append(names, d.renamed())
	}
	return names
}

// port is its UDP port.
func (d device) port() uint16 { return 20000 + uint16(d%4) }

// ipv6 tells whether its underlay is ipv6.
func (d device) ipv6() bool { return d%5 == 0 }

// local is its outer address.
func (d device) local() string {
	if d.ipv6() {
		return fmt.Sprintf("fd00::%x", uint32(d%200+1))
	}
	return fmt.Sprintf("192.0.2.%d", d%200+1)
}

// udpChecksum tells whether it fills in outer checksums over IPv4.
func (d device) udpChecksum() bool { return d%11 != 0 }

// txChecksum tells whether tx-checksum-ip-generic is on once the device is settled. Of two devices that have a reused
// name one after the other, one has it on and the other off.
func (d device) txChecksum() bool { return d/14%2 == 0 }

// had tells whether the device ever has this name.
func (d device) had(name string) bool { return slices.Contains(d.names(), name) }
