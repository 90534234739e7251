package probe

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// capabilities are what this process may send.
type capabilities struct {
	mark error         // why packets cannot be marked; nil: they can
	echo [2]echoSocket // of IPv4 and IPv6
}

// permissions tries what is permitted and the targets need, without sending anything.
func permissions(mark uint32, targets []Target) (can capabilities) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		unix.Close(fd)
	}
	can.mark = err
	for _, t := range targets {
		six := t.Peer.Unmap().Is6()
		i := index(six)
		if can.echo[i] != noEcho {
			continue
		}
		for _, how := range []echoSocket{pingEcho, rawEcho} {
			if fd, _, err := socket(echo, six, how); err == nil {
				unix.Close(fd)
				can.echo[i] = how
				break
			}
		}
	}
	return can
}

// limits says what is out of reach.
func (c capabilities) limits() []string {
	if c.mark == nil {
		return nil
	}
	return []string{fmt.Sprintf("packets cannot be marked (SO_MARK: %v, needs CAP_NET_ADMIN): neither ok nor nat can be told", c.mark)}
}
