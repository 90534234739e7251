package ethtool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
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

// Sizes and commands, include/uapi/linux/ethtool.h.
const (
	cmdDriver        = 0x03 // ETHTOOL_GDRVINFO
	cmdSetTxChecksum = 0x17 // ETHTOOL_STXCSUM: struct ethtool_value, cmd u32 and data u32
	cmdStrings       = 0x1b // ETHTOOL_GSTRINGS: cmd, string_set, len, then len strings
	cmdSetInfo       = 0x37 // ETHTOOL_GSSET_INFO: cmd, reserved, sset_mask u64, then one u32 per set
	// ETHTOOL_GFEATURES: cmd, size in words, then per word available, requested, active, never_changed
	cmdFeatures  = 0x3a
	stringSet    = 4   // ETH_SS_FEATURES
	stringLen    = 32  // ETH_GSTRING_LEN
	driverLen    = 196 // struct ethtool_drvinfo
	valueLen     = 8   // struct ethtool_value
	blockLen     = 16  // struct ethtool_get_features_block
	ioctlHeader  = 8   // cmd and size
	stringHeader = 12  // cmd, string_set and len
)

// spareStrings is room for features that a kernel would have gained between two calls: GSTRINGS writes as many as there
// are, whatever len says.
const spareStrings = 64

var (
	errMalformed = errors.New("malformed answer")
	errAlias     = fmt.Errorf("the ioctl takes a colon in a name for an alias: %w", errors.ErrUnsupported)
)

// call runs one request in the first n bytes of the buffer; prepare fills in what follows the command.
func (c *Client) call(name string, cmd uint32, n int, prepare func(b []byte)) ([]byte, error) {
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
	if cap(c.buf) < n {
		c.buf = make([]byte, n)
	}
	b := c.buf[:n]
	clear(b)
	binary.NativeEndian.PutUint32(b, cmd)
	if prepare != nil {
		prepare(b)
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
		b, err := c.call(name, cmdFeatures, ioctlHeader+words*blockLen, func(b []byte) {
			binary.NativeEndian.PutUint32(b[4:], uint32(words))
		})
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
	b, err := c.call(name, cmdSetInfo, 20, func(b []byte) { binary.NativeEndian.PutUint64(b[8:], 1<<stringSet) })
	if err != nil {
		return nil, fmt.Errorf("ETHTOOL_GSSET_INFO: %w", err)
	}
	mask, count := binary.NativeEndian.Uint64(b[8:]), int(binary.NativeEndian.Uint32(b[16:]))
	if bits.OnesCount64(mask) == 0 {
		return nil, fmt.Errorf("ETHTOOL_GSSET_INFO: no set of features: %w", errors.ErrUnsupported)
	}
	if mask != 1<<stringSet || count <= 0 || count > maxFeatures {
		return nil, fmt.Errorf("ETHTOOL_GSSET_INFO: %d features: %w", count, errMalformed)
	}
	b, err = c.call(name, cmdStrings, stringHeader+(count+spareStrings)*stringLen, func(b []byte) {
		binary.NativeEndian.PutUint32(b[4:], stringSet)
		binary.NativeEndian.PutUint32(b[8:], uint32(count))
	})
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
	b, err := c.call(d.Name, cmdDriver, driverLen, nil)
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
	fd       int
	req      ifreq
	indexReq indexReq
}

// ifreq is struct ifreq (include/uapi/linux/if.h) with ifr_data; the padding covers the rest of the union on 64 bits.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// indexReq is struct ifreq with ifr_ifindex.
type indexReq struct {
	name  [unix.IFNAMSIZ]byte
	index int32
	_     [20]byte
}

// OpenIoctl opens a socket in the network namespace of the calling thread.
func OpenIoctl() (IoctlSocket, error) {
	var errs []error
	// Either family will do; a kernel or a sandbox may lack one of them.
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			return &ioctlSocket{fd: fd}, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
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
	req := &s.indexReq
	*req = indexReq{}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SIOCGIFINDEX,
		uintptr(unsafe.Pointer(req))); errno != 0 {
		return 0, errno
	}
	return int(req.index), nil
}

func (s *ioctlSocket) Close() error { return unix.Close(s.fd) }
