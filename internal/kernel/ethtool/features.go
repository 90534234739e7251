package ethtool

import "encoding/binary"

// Feature is one offload feature of a device (include/linux/netdev_features.h; names from net/ethtool/common.c).
type Feature struct {
	Name      string `json:"name"`
	Available bool   `json:"available"` // hw_features: the device lets the user change it
	Requested bool   `json:"requested"` // wanted_features
	Active    bool   `json:"active"`    // features
	// cannot be changed: not in hw_features, or never_changed; what ethtool -k calls [fixed]
	Fixed bool `json:"fixed"`
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

// readFeatures reads the struct ethtool_get_features_block of each 32 features: available, requested, active and
// never_changed, a bit for each. A bit without a name is a feature that this kernel reserves but does not have.
func readFeatures(blocks []byte, names []string) Features {
	f := make(Features, 0, len(names))
	for i, name := range names {
		at := i / 32 * blockLen
		if name == "" || len(blocks) < at+blockLen {
			continue
		}
		set := func(offset int) bool {
			return binary.NativeEndian.Uint32(blocks[at+offset:])&(1<<(i%32)) != 0
		}
		available := set(0)
		f = append(f, Feature{
			Name:      name,
			Available: available,
			Requested: set(4),
			Active:    set(8),
			Fixed:     !available || set(12),
		})
	}
	return f
}
