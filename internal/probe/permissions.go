package probe

import "golang.org/x/sys/unix"

// capabilities are what this process may send.
type capabilities struct {
	mark error         // why packets cannot be marked; nil: they can
	echo [2]echoSocket // of IPv4 and IPv6
}

// permissions tries what is permitted, without sending anything.
func permissions(mark uint32) *capabilities {
	can := &capabilities{}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		unix.Close(fd)
	}
	can.mark = err
	for _, six := range []bool{false, true} {
		for _, how := range []echoSocket{rawEcho, pingEcho} { // the second is taken where it can be
			if fd, _, err := socket(echo, six, how); err == nil {
				unix.Close(fd)
				can.echo[index(six)] = how
			}
		}
	}
	return can
}
