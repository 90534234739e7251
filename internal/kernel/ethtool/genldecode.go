package ethtool

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
)

// decode reads a FEATURES_GET reply and returns the number of features.
func (b *bitmaps) decode(data []byte) (count int, err error) {
	*b = bitmaps{hw: b.hw[:0], wanted: b.wanted[:0], active: b.active[:0], never: b.never[:0]}
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errMalformed, err)
	}
	for ad.Next() {
		var to *[]uint32
		switch ad.Type() {
		case attrFeaturesHW:
			to = &b.hw
		case attrFeaturesWanted:
			to = &b.wanted
		case attrFeaturesActive:
			to = &b.active
		case attrFeaturesNoChange:
			to = &b.never
		default:
			continue
		}
		ad.Nested(func(ad *netlink.AttributeDecoder) error {
			n, err := decodeBitset(ad, to)
			if err == nil && count != 0 && n != count {
				err = errMalformed
			}
			count = n
			return err
		})
	}
	if err := ad.Err(); err != nil {
		return 0, fmt.Errorf("%w: %w", errMalformed, err)
	}
	for _, words := range [][]uint32{b.hw, b.wanted, b.active, b.never} {
		if count == 0 || len(words) != (count+31)/32 {
			return 0, fmt.Errorf("a bitmap is missing: %w", errMalformed)
		}
	}
	return count, nil
}

func decodeBitset(ad *netlink.AttributeDecoder, to *[]uint32) (size int, err error) {
	*to = (*to)[:0]
	for ad.Next() {
		switch ad.Type() {
		case attrBitsetSize:
			size = int(ad.Uint32())
		case attrBitsetValue:
			for b := ad.Bytes(); len(b) >= 4; b = b[4:] {
				*to = append(*to, binary.NativeEndian.Uint32(b))
			}
		}
	}
	if size <= 0 || size > maxFeatures || len(*to) != (size+31)/32 {
		return 0, fmt.Errorf("bitmap of %d bits in %d words: %w", size, len(*to), errMalformed)
	}
	return size, nil
}

// decodeNames reads a STRSET_GET reply.
func decodeNames(data []byte) ([]string, error) {
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	var names []string
	for ad.Next() {
		if ad.Type() != attrSets {
			continue
		}
		ad.Nested(func(ad *netlink.AttributeDecoder) error {
			for ad.Next() {
				if ad.Type() == attrSet {
					ad.Nested(func(ad *netlink.AttributeDecoder) (err error) {
						if n, e := decodeSet(ad); e != nil || n != nil {
							names, err = n, e
						}
						return err
					})
				}
			}
			return nil
		})
	}
	if err := ad.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no feature names: %w", errMalformed)
	}
	return names, nil
}

// decodeSet reads one string set; nil when it is not the features'.
func decodeSet(ad *netlink.AttributeDecoder) (names []string, err error) {
	id, count := uint32(0), uint32(0)
	var strings []byte
	for ad.Next() {
		switch ad.Type() {
		case attrSetID:
			id = ad.Uint32()
		case attrSetCount:
			count = ad.Uint32()
		case attrSetStrings:
			strings = ad.Bytes()
		}
	}
	if err := ad.Err(); err != nil || id != stringSet {
		return nil, err
	}
	if count == 0 || count > maxFeatures {
		return nil, fmt.Errorf("%d names: %w", count, errMalformed)
	}
	names = make([]string, count)
	sd, err := netlink.NewAttributeDecoder(strings)
	if err != nil {
		return nil, err
	}
	for sd.Next() {
		if sd.Type() != attrString {
			continue
		}
		sd.Nested(func(ad *netlink.AttributeDecoder) error {
			index, value := uint32(0), []byte(nil)
			for ad.Next() {
				switch ad.Type() {
				case attrStringIndex:
					index = ad.Uint32()
				case attrStringValue:
					value = cString(ad.Bytes())
				}
			}
			if index >= count {
				return fmt.Errorf("name %d of %d: %w", index, count, errMalformed)
			}
			setName(names, int(index), value)
			return nil
		})
	}
	return names, sd.Err()
}
