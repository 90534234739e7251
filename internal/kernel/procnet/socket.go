package procnet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Socket is one UDP socket that stands on a VXLAN port in /proc/net/udp or udp6 and belongs to root: the kernel's own
// VXLAN socket (uid 0, an inode, no process; net/ipv4/udp.c, udp4_format_sock).
type Socket struct {
	Family string `json:"family"` // ipv4 or ipv6
	Port   uint16 `json:"port"`   // host byte order
	Inode  uint64 `json:"inode"`  // changes when the device goes down and up, and Drops restarts at 0
	Drops  uint64 `json:"drops"`  // sk_drops
}

// Fields of a line of /proc/net/udp. The header cannot be used to find them: it names tx_queue and rx_queue, and tr and
// tm->when, apart, while the lines join each pair by a colon.
const (
	udpLocal  = 1  // ADDRESS:PORT, hexadecimal
	udpRemote = 2  // all zero on a socket that is not connected
	udpUID    = 7  // decimal
	udpInode  = 9  // decimal
	udpDrops  = 12 // decimal; since Linux 2.6.27
	udpFields = 13
)

// Sockets reads the VXLAN sockets on ports from /proc/net/udp or udp6, one line at a time: a node can have 100,000 UDP
// sockets. A malformed line that could be one of these makes an error, after the others have been read.
func Sockets(path, family string, ports []uint16) ([]Socket, error) {
	var found []Socket
	header := true
	err := eachLine(path, func(line []byte) error {
		if header {
			header = false
			if !bytes.Contains(line, []byte("local_address")) {
				return errors.New("no header")
			}
			return nil
		}
		s, ok, err := parseSocket(line, ports)
		if ok {
			s.Family = family
			found = append(found, s)
		}
		return err
	})
	return found, err
}

func parseSocket(line []byte, ports []uint16) (s Socket, ok bool, err error) {
	var f [udpFields][]byte
	n := 0
	for field := range bytes.FieldsSeq(line) {
		if n == udpFields {
			break
		}
		f[n] = field
		n++
	}
	if n <= udpLocal {
		return s, false, fmt.Errorf("line %.60q has no address", line)
	}
	_, hexPort, found := bytes.Cut(f[udpLocal], []byte(":"))
	port, err := strconv.ParseUint(string(hexPort), 16, 16)
	if !found || err != nil {
		return s, false, fmt.Errorf("local address %.50q has no port", f[udpLocal])
	}
	if !slices.Contains(ports, uint16(port)) {
		return s, false, nil
	}
	if n < udpFields {
		return s, false, fmt.Errorf("socket on port %d: %d fields instead of %d", port, n, udpFields)
	}
	if string(f[udpUID]) != "0" || len(bytes.Trim(f[udpRemote], "0:")) > 0 {
		return s, false, nil // a user's program, or a connected socket: not the kernel's
	}
	inode, err := strconv.ParseUint(string(f[udpInode]), 10, 64)
	if err != nil {
		return s, false, fmt.Errorf("socket on port %d: inode: %w", port, err)
	}
	drops, err := strconv.ParseUint(string(f[udpDrops]), 10, 64)
	if err != nil {
		return s, false, fmt.Errorf("socket on port %d: drops: %w", port, err)
	}
	return Socket{Port: uint16(port), Inode: inode, Drops: drops}, true, nil
}
