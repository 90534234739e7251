package ethtool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// IoctlSocket asks the kernel by ioctl. The error of a device that is not there is ENODEV.
type IoctlSocket interface {
	// Ethtool passes a SIOCETHTOOL request. data starts with the command, and the kernel answers in it.
	Ethtool(name string, data []byte) error
	// Index is the index of the device that has this name now (SIOCGIFINDEX).
	Index(name string) (int, error)
	Close() error
}

// Sizes, include/uapi/linux/ethtool.h. What follows a command in a request is, in u32:
const (
	valueLen     = 8   // ETHTOOL_STXCSUM: data
	stringHeader = 12  // ETHTOOL_GSTRINGS: string_set, len, then len strings
	stringLen    = 32  // ETH_GSTRING_LEN
	setInfoLen   = 20  // ETHTOOL_GSSET_INFO: reserved, sset_mask (u64), then the length of each set
	ioctlHeader  = 8   // ETHTOOL_GFEATURES: size, then a block for each 32 features
	blockLen     = 16  // struct ethtool_get_features_block: available, requested, active, never_changed
	driverLen    = 196 // ETHTOOL_GDRVINFO: struct ethtool_drvinfo

	stringSet = 4 // ETH_SS_FEATURES
)

// spareStrings is room for features that a kernel would have gained between two calls: GSTRINGS writes as many as there
// are, whatever len says.
const spareStrings = 64

var (
	errMalformed = errors.New("malformed answer")
	errAlias     = fmt.Errorf("the ioctl takes a colon in a name for an alias: %w", errors.ErrUnsupported)
)

// call runs one request of n bytes in the buffer: the command, args, and zeros.
func (c *Client) call(name string, cmd uint32, n int, args ...uint32) ([]byte, error) {
	switch {
	case name == "" || len(name) >= unix.IFNAMSIZ || strings.IndexByte(name, 0) >= 0:
		return nil, fmt.Errorf("no such name can be: %w", unix.ENODEV)
	case strings.IndexByte(name, ':') >= 0:
		// dev_ioctl (net/core/dev_ioctl.c) cuts the name there. Names with a colon can be made on kernels before 4.4 only.
		return nil, errAlias
	}
	sock, err := c.socket()
	if err != nil {
		return nil, err
	}
	c.buf = slices.Grow(c.buf[:0], n)
	b := c.buf[:n]
	clear(b)
	binary.NativeEndian.PutUint32(b, cmd)
	for i, arg := range args {
		binary.NativeEndian.PutUint32(b[4+4*i:], arg)
	}
	if err := sock.Ethtool(name, b); err != nil {
		return nil, err
	}
	return b, nil
}

func (c *Client) features(d Device) (Features, error) {
	name := d.Name
	for range 2 {
		if c.names == nil {
			names, err := c.readNames(name)
			if err != nil {
				return nil, err
			}
			c.names = names
		}
		words := (len(c.names) + 31) / 32
		b, err := c.call(name, unix.ETHTOOL_GFEATURES, ioctlHeader+words*blockLen, uint32(words))
		if err != nil {
			return nil, fmt.Errorf("ETHTOOL_GFEATURES: %w", err)
		}
		// The kernel answers with the number of words it has, however many there was room for.
		if binary.NativeEndian.Uint32(b[4:]) != uint32(words) {
			c.names = nil
			continue
		}
		if err := c.still(d); err != nil {
			return nil, err
		}
		return readFeatures(b[ioctlHeader:], c.names), nil
	}
	return nil, fmt.Errorf("ETHTOOL_GFEATURES: number of features differs from ETHTOOL_GSSET_INFO: %w", errMalformed)
}

// still fails with ENODEV when the name is another device's by now: what was just read by it, or is about to be set,
// may be of that one.
func (c *Client) still(d Device) error {
	if d.Index == 0 {
		return nil
	}
	sock, err := c.socket()
	if err != nil {
		return err
	}
	index, err := sock.Index(d.Name)
	if err != nil {
		return fmt.Errorf("SIOCGIFINDEX: %w", err)
	}
	if index != d.Index {
		return fmt.Errorf("the name is that of device %d now, not of %d: %w", index, d.Index, unix.ENODEV)
	}
	return nil
}

// readNames reads the feature names. They are the same for every device.
func (c *Client) readNames(name string) ([]string, error) {
	mask := binary.NativeEndian.AppendUint64(nil, 1<<stringSet)
	low, high := binary.NativeEndian.Uint32(mask), binary.NativeEndian.Uint32(mask[4:])
	b, err := c.call(name, unix.ETHTOOL_GSSET_INFO, setInfoLen, 0, low, high)
	if err != nil {
		return nil, fmt.Errorf("ETHTOOL_GSSET_INFO: %w", err)
	}
	known, count := binary.NativeEndian.Uint64(b[8:]), int(binary.NativeEndian.Uint32(b[16:]))
	if known == 0 {
		return nil, fmt.Errorf("ETHTOOL_GSSET_INFO: no set of features: %w", errors.ErrUnsupported)
	}
	if known != 1<<stringSet || count <= 0 || count > maxFeatures {
		return nil, fmt.Errorf("ETHTOOL_GSSET_INFO: %d features: %w", count, errMalformed)
	}
	room := stringHeader + (count+spareStrings)*stringLen
	b, err = c.call(name, unix.ETHTOOL_GSTRINGS, room, stringSet, uint32(count))
	if err != nil {
		return nil, fmt.Errorf("ETHTOOL_GSTRINGS: %w", err)
	}
	if n := binary.NativeEndian.Uint32(b[8:]); n != uint32(count) {
		return nil, fmt.Errorf("ETHTOOL_GSTRINGS: %d names of %d features: %w", n, count, errMalformed)
	}
	names := make([]string, count)
	for i := range names {
		setName(names, i, cString(b[stringHeader+i*stringLen:][:stringLen]))
	}
	return names, nil
}

// driver reads struct ethtool_drvinfo: cmd, driver[32], version[32], fw_version[32], bus_info[32].
func (c *Client) driver(d Device) (Driver, error) {
	b, err := c.call(d.Name, unix.ETHTOOL_GDRVINFO, driverLen)
	if err != nil {
		return Driver{}, fmt.Errorf("ETHTOOL_GDRVINFO: %w", err)
	}
	if err := c.still(d); err != nil {
		return Driver{}, err
	}
	field := func(i int) string {
		return strings.ToValidUTF8(string(cString(b[4+i*32:][:32])), "\uFFFD")
	}
	return Driver{Name: field(0), Version: field(1), FirmwareVersion: field(2), Bus: field(3)}, nil
}

func cString(b []byte) []byte {
	s, _, _ := bytes.Cut(b, []byte{0})
	return s
}

// ioctlSocket is a UDP socket: SIOCETHTOOL works on any socket of the namespace it was opened in (netdevice(7)).
type ioctlSocket struct {
	fd  int
	req struct { // struct ifreq (include/uapi/linux/if.h) with ifr_data
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the rest of the union on 64 bits
	}
}

// OpenIoctl opens a socket in the network namespace of the calling thread.
func OpenIoctl() (IoctlSocket, error) {
	// Either family will do; a kernel or a sandbox may lack one of them.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		var err6 error
		if fd, err6 = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err6 != nil {
			return nil, errors.Join(err, err6)
		}
	}
	return &ioctlSocket{fd: fd}, nil
}

func (s *ioctlSocket) Ethtool(name string, data []byte) error {
	s.req.name = [unix.IFNAMSIZ]byte{}
	copy(s.req.name[:unix.IFNAMSIZ-1], name)
	s.req.data = unsafe.Pointer(unsafe.SliceData(data))
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&s.req)))
	s.req.data = nil
	if errno != 0 {
		return errno
	}
	return nil
}

// Index is read under RCU, without rtnl_lock (dev_ioctl, net/core/dev_ioctl.c).
func (s *ioctlSocket) Index(name string) (int, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, unix.ENODEV // no device has a name as long as that
	}
	if err := unix.IoctlIfreq(s.fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, err
	}
	return int(req.Uint32()), nil
}

func (s *ioctlSocket) Close() error { return unix.Close(s.fd) }
