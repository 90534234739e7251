package ethtool

// Feature is one offload feature of a device (include/linux/netdev_features.h; names from net/ethtool/common.c).
type Feature struct {
	Name      string `json:"name"`
	Available bool   `json:"available"` // hw_features: the device lets the user change it
	Requested bool   `json:"requested"` // wanted_features
	Active    bool   `json:"active"`    // features
	Fixed     bool   `json:"fixed"`     // cannot be changed: not in hw_features, or never_changed; what ethtool -k calls [fixed]
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

// bitmaps are the four bitmaps of a device's features, in words of 32.
type bitmaps struct{ hw, wanted, active, never []uint32 }

// resize makes every bitmap n words of zero, on the memory it has.
func (b *bitmaps) resize(n int) {
	for _, p := range []*[]uint32{&b.hw, &b.wanted, &b.active, &b.never} {
		if cap(*p) < n {
			*p = make([]uint32, n)
		}
		*p = (*p)[:n]
		clear(*p)
	}
}

// features joins the bitmaps to the names. Bits without a name are features that this kernel reserves but does not have.
func (b *bitmaps) features(names []string) Features {
	f := make(Features, 0, len(names))
	for i, name := range names {
		word, mask := i/32, uint32(1)<<(i%32)
		if name == "" || word >= len(b.active) {
			continue
		}
		available := b.hw[word]&mask != 0
		f = append(f, Feature{
			Name:      name,
			Available: available,
			Requested: b.wanted[word]&mask != 0,
			Active:    b.active[word]&mask != 0,
			Fixed:     !available || b.never[word]&mask != 0,
		})
	}
	return f
}
