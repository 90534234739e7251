package collectors

import (
	"errors"

	"vxlan_exporter/internal/node"
)

// errDevicesUnknown is the failure of a collector that looks at what is below the devices.
var errDevicesUnknown = errors.New("which VXLAN devices there are could not be read (see the collector \"device\")")

// devicesUnknown tells "no device" from "could not look", for those that would otherwise take the first for an answer.
func devicesUnknown(known *node.Node) error {
	if r, ok := known.Results["device"]; ok && !r.Succeeded() && len(known.Devices) == 0 {
		return errDevicesUnknown
	}
	return nil
}
