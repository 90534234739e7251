// Package ethtool reads offload features, driver and link state of network devices: by the SIOCETHTOOL ioctl, which every kernel
// has, and over the generic netlink family "ethtool" (5.6, features since 5.7).
//
// Both ways give the same answer for every feature of every device; the tests compare them, with each other and with ethtool(8).
// The ioctl is asked first because it costs a fifth per device and a sixth per look, opening and closing the socket included
// (BenchmarkFeatures, BenchmarkLook), and because it is the only one on the kernels most in need of a diagnosis. Generic netlink
// is asked where the ioctl is refused: by a sandbox, by the kernel, or because it cannot say the name. The one advantage of
// generic netlink is that it asks by index: a device renamed between the listing and the ioctl counts as gone until the next look, for
// which SIOCGIFINDEX is asked whether the name is still its own: 0.6 µs of the 2.4 µs that a device costs, on a 2-core VM.
//
// Nothing here needs a capability.
package ethtool
