package exporter

import (
	"net"

	"golang.org/x/net/netutil"
)

// What the kernel may hold for one connection, in bytes; it allows twice that for its own overhead (socket(7)). A
// request is small. With the kernel's defaults, unread bytes of a few hundred clients are more than the unit's memory.
const (
	readBuffer  = 16 << 10
	writeBuffer = 32 << 10
)

// LimitListener bounds the connections of a listener: at most n are open at once, the next ones wait in the kernel's
// queue.
func LimitListener(l net.Listener, n int) net.Listener {
	return netutil.LimitListener(smallBuffers{l}, n)
}

type smallBuffers struct{ net.Listener }

// Accept implements net.Listener.
func (l smallBuffers) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(readBuffer) // an error means that it is closed already
		_ = tcp.SetWriteBuffer(writeBuffer)
	}
	return conn, err
}
