// Package ethtool reads offload features, driver and link state of network devices: over generic netlink where the kernel has it
// (5.7 and later), by the SIOCETHTOOL ioctl on every kernel.
package ethtool

// Feature is one offload feature of a device (include/linux/netdev_features.h; names from net/ethtool/common.c).
type Feature struct {
	Name      string `json:"name"`
	Available bool   `json:"available"` // hw_features: may be changed by the user
	Requested bool   `json:"requested"` // wanted_features
	Active    bool   `json:"active"`
	Fixed     bool   `json:"fixed"` // never_changed
}

// Features are all named features of a device, in the kernel's order.
type Features []Feature

// Get returns the feature called name; ok is false when this kernel has no such feature.
func (f Features) Get(name string) (feature Feature, ok bool) {
	for _, g := range f {
		if g.Name == name {
			return g, true
		}
	}
	return Feature{}, false
}

// Driver identifies a device's driver (ETHTOOL_GDRVINFO).
type Driver struct {
	Name            string `json:"name,omitempty"`
	Version         string `json:"version,omitempty"`
	FirmwareVersion string `json:"firmware_version,omitempty"`
	Bus             string `json:"bus,omitempty"`
}
