// Package churn makes, renames and deletes VXLAN devices as fast as the kernel lets it. Everything about a device follows from its
// VNI, so that whoever reads the devices meanwhile can tell whether what was read ever existed.
package churn

import (
	"fmt"
	"slices"
	"strconv"
)

// Device is a device of a churn: its VNI, which no two of them share.
type Device uint32

// Fresh is the name until the features are set; then comes Settled, and at last Renamed, where IsRenamed. One device in seven has
// Reused as its settled name, which others had before it.
func (d Device) Fresh() string { return "f" + d.id() }

// Settled is the name of the device with all its settings.
func (d Device) Settled() string {
	if d%7 == 0 {
		return d.Reused()
	}
	return "s" + d.id()
}

// Reused is a name that other devices had before.
func (d Device) Reused() string { return "again" + strconv.Itoa(int(d/7%2)) }

// Renamed is the last name.
func (d Device) Renamed() string { return "r" + d.id() }

// IsRenamed tells whether it has a last name.
func (d Device) IsRenamed() bool { return d%3 == 0 }

func (d Device) id() string { return strconv.FormatUint(uint64(d), 36) }

// Names are all that it ever has.
func (d Device) Names() []string {
	names := []string{d.Fresh(), d.Settled()}
	if d.IsRenamed() {
		names = append(names, d.Renamed())
	}
	return names
}

// Port is its UDP port.
func (d Device) Port() uint16 { return 20000 + uint16(d%4) }

// IPv6 tells whether its underlay is IPv6.
func (d Device) IPv6() bool { return d%5 == 0 }

// Local is its outer address.
func (d Device) Local() string {
	if d.IPv6() {
		return fmt.Sprintf("fd00::%x", uint32(d%200+1))
	}
	return fmt.Sprintf("192.0.2.%d", d%200+1)
}

// UDPChecksum tells whether it fills in outer checksums over IPv4.
func (d Device) UDPChecksum() bool { return d%11 != 0 }

// TxChecksum tells whether tx-checksum-ip-generic is on once the device is settled. Of two devices that have a reused name one after
// the other, one has it on and the other off.
func (d Device) TxChecksum() bool { return d/14%2 == 0 }

// Had tells whether the device ever has this name.
func (d Device) Had(name string) bool { return slices.Contains(d.Names(), name) }
