package ethtool

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Messages and attributes, include/uapi/linux/ethtool_netlink.h. An answer has another number where the enums have drifted apart.
const (
	msgLinkState         = 6  // ETHTOOL_MSG_LINKSTATE_GET, and _REPLY
	msgPrivateFlags      = 13 // ETHTOOL_MSG_PRIVFLAGS_GET
	msgPrivateFlagsReply = 14 // ETHTOOL_MSG_PRIVFLAGS_GET_REPLY

	attrLink  = 2 // ETHTOOL_A_LINKSTATE_LINK
	attrFlags = 2 // ETHTOOL_A_PRIVFLAGS_FLAGS

	attrBitsetBits = 3 // ETHTOOL_A_BITSET_BITS
	attrBit        = 1 // ETHTOOL_A_BITSET_BITS_BIT
	attrBitName    = 2 // ETHTOOL_A_BITSET_BIT_NAME
	attrBitValue   = 3 // ETHTOOL_A_BITSET_BIT_VALUE, there when the bit is set
)

// LinkUp reports whether the driver detects a link (ETHTOOL_MSG_LINKSTATE_GET). It needs no capability. The error satisfies
// errors.ErrUnsupported where neither kernel (before 5.6) nor driver has an answer, and fs.ErrNotExist where the device is gone.
func (c *Client) LinkUp(ctx context.Context, d Device) (up bool, err error) {
	data, err := c.genl.ask(ctx, d, msgLinkState, msgLinkState, compactBitsets)
	if err == nil {
		up, err = decodeLinkUp(data)
	}
	if err != nil {
		return false, fmt.Errorf("ethtool: link state of %q: %w", d.Name, gone(err))
	}
	return up, nil
}

// ChecksumFlags are the driver's private flags whose names speak of checksums (ETHTOOL_MSG_PRIVFLAGS_GET, 5.7). Its errors are those of
// LinkUp; a driver without private flags has no answer.
func (c *Client) ChecksumFlags(ctx context.Context, d Device) (flags map[string]bool, err error) {
	data, err := c.genl.ask(ctx, d, msgPrivateFlags, msgPrivateFlagsReply, 0) // a compact set has no names
	if err == nil {
		flags, err = decodeChecksumFlags(data)
	}
	if err != nil {
		return nil, fmt.Errorf("ethtool: private flags of %q: %w", d.Name, gone(err))
	}
	return flags, nil
}

// ask sends one question about a device.
func (r *genlReader) ask(ctx context.Context, d Device, cmd, reply uint8, flags uint32) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d.Index <= 0 {
		return nil, fmt.Errorf("index %d: %w", d.Index, unix.ENODEV)
	}
	stop, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	return r.execute(cmd, reply, flags, func(ae *netlink.AttributeEncoder) { ae.Uint32(attrHeaderIndex, uint32(d.Index)) }, nil)
}

// decodeLinkUp reads a LINKSTATE_GET reply, which is without the attribute where the driver cannot tell.
func decodeLinkUp(data []byte) (bool, error) {
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errMalformed, err)
	}
	known, up := false, false
	for ad.Next() {
		if ad.Type() == attrLink {
			known, up = true, ad.Uint8() != 0
		}
	}
	switch err := ad.Err(); {
	case err != nil:
		return false, fmt.Errorf("%w: %w", errMalformed, err)
	case !known:
		return false, fmt.Errorf("the driver does not say: %w", errors.ErrUnsupported)
	}
	return up, nil
}

// decodeChecksumFlags reads a PRIVFLAGS_GET reply.
func decodeChecksumFlags(data []byte) (map[string]bool, error) {
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	flags := make(map[string]bool)
	within := func(typ uint16, f func(ad *netlink.AttributeDecoder) error) func(ad *netlink.AttributeDecoder) error {
		return func(ad *netlink.AttributeDecoder) error {
			for ad.Next() {
				if ad.Type() == typ {
					ad.Nested(f)
				}
			}
			return nil
		}
	}
	bits := 0
	err = within(attrFlags, within(attrBitsetBits, within(attrBit, func(ad *netlink.AttributeDecoder) error {
		if bits++; bits > maxFeatures {
			return fmt.Errorf("more than %d flags", maxFeatures)
		}
		name, set := "", false
		for ad.Next() {
			switch ad.Type() {
			case attrBitName:
				name = strings.ToValidUTF8(string(cString(ad.Bytes())), "\uFFFD")
			case attrBitValue:
				set = true
			}
		}
		if lower := strings.ToLower(name); strings.Contains(lower, "csum") || strings.Contains(lower, "checksum") {
			flags[name] = set
		}
		return nil
	})))(ad)
	if err = errors.Join(err, ad.Err()); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return flags, nil
}
