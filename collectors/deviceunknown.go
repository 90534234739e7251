package collectors

import (
	"errors"

	"vxlan_exporter/internal/node"
)

// errDevicesUnknown is the failure of a collector that observes the underlays of the devices.
var errDevicesUnknown = errors.New("which VXLAN devices there are could not be read (see the collector \"device\")")

// devicesUnknown distinguishes "no device" from "not read", for collectors that would otherwise take both for "none".
func devicesUnknown(known *node.Node) error {
	if r, ok := known.Results["device"]; ok && !r.Succeeded() && len(known.Devices) == 0 {
		return errDevicesUnknown
	}
	return nil
}
