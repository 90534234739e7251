package conntracktest

import (
	"cmp"
	"encoding/binary"
	"os"
	"sync"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"

	"golang.org/x/sys/unix"
)

// Kernel answers requests as no kernel at hand does: an old one, a slow one, a hostile one. Its zero value has an empty
// table and honors filters.
type Kernel struct {
	Flows []Flow // what it tracks, with ids from 1 on

	IgnoreFilter bool                     // as before 5.8: everything of the family is sent, unmarked
	IDs          func(i int) uint32       // CTA_ID of the i-th flow
	Status       func(i int) uint32       // CTA_STATUS of the i-th flow; nil: IPS_CONFIRMED
	PerDatagram  int                      // entries in a datagram; 0: 15
	Reply        func(r Request) [][]byte // answers instead, unless it returns nil
	OnReceive    func(datagram int) error // called before each datagram of a reply is handed out
	Pause        func(datagram int)       // likewise

	mu       sync.Mutex
	requests []Request
	open     int
}

// Request is what was asked.
type Request struct {
	Type, Flags uint16
	Seq, PortID uint32
	Family      uint8
	UDP         bool   // CTA_FILTER names the protocol
	Port        uint16 // and the port
}

// Requests returns what was asked so far.
func (k *Kernel) Requests() []Request {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]Request(nil), k.requests...)
}

// SetReply sets Reply while scans go on.
func (k *Kernel) SetReply(reply func(r Request) [][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.Reply = reply
}

// Sockets is the number of sockets that are open.
func (k *Kernel) Sockets() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.open
}

// Open is a conntrack.Opener.
func (k *Kernel) Open() (conntrack.Socket, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open++
	return &kernelSocket{k: k, changed: make(chan struct{}, 1)}, nil
}

type kernelSocket struct {
	k       *Kernel
	queue   [][]byte
	n       int
	mu      sync.Mutex
	until   time.Time
	changed chan struct{}
}

// PortID is a fixed one.
func (*kernelSocket) PortID() uint32 { return 4711 }

func (s *kernelSocket) Close() error {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	s.k.open--
	return nil
}

func (s *kernelSocket) SetDeadline(t time.Time) error {
	s.mu.Lock()
	s.until = t
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return nil
}

func (s *kernelSocket) Send(request []byte) error {
	r := parseRequest(request)
	s.k.mu.Lock()
	s.k.requests = append(s.k.requests, r)
	reply := s.k.Reply
	s.k.mu.Unlock()
	s.n = 0
	if reply != nil {
		if q := reply(r); q != nil {
			s.queue = q
			return nil
		}
	}
	s.queue = s.k.Answer(r)
	return nil
}

func (s *kernelSocket) Receive(p []byte) (int, error) {
	if s.k.Pause != nil {
		s.k.Pause(s.n)
	}
	if s.k.OnReceive != nil {
		if err := s.k.OnReceive(s.n); err != nil {
			return 0, err
		}
	}
	s.n++
	for len(s.queue) == 0 { // as a kernel that does not answer
		s.mu.Lock()
		wait := time.Until(s.until)
		s.mu.Unlock()
		if wait <= 0 {
			return 0, os.ErrDeadlineExceeded
		}
		select {
		case <-time.After(wait):
		case <-s.changed:
		}
	}
	d := s.queue[0]
	s.queue = s.queue[1:]
	copy(p, d)
	return len(d), nil
}

// Answer is the reply of an ordinary kernel with k's flows.
func (k *Kernel) Answer(r Request) [][]byte {
	b := builder{seq: r.Seq, portID: r.PortID}
	if r.Flags&unix.NLM_F_DUMP != unix.NLM_F_DUMP {
		b.begin(msgNew|5, 0, 0) // IPCTNL_MSG_CT_GET_STATS
		b.end()
		return [][]byte{b.batch}
	}
	per := cmp.Or(k.PerDatagram, 15)
	var out [][]byte
	n := 0
	for i := range k.Flows {
		f := &k.Flows[i]
		family := f.family()
		if r.Family != unix.AF_UNSPEC && r.Family != family {
			continue
		}
		flags := uint16(unix.NLM_F_MULTI)
		if !k.IgnoreFilter {
			if r.Family != unix.AF_UNSPEC {
				flags |= unix.NLM_F_DUMP_FILTERED
			}
			if r.UDP && f.Proto != unix.IPPROTO_UDP || r.Port != 0 && r.Port != f.Destination.Port() {
				continue
			}
		}
		b.begin(msgNew, flags, family)
		b.tuples(f)
		id, status := uint32(i+1), uint32(8)
		if k.IDs != nil {
			id = k.IDs(i)
		}
		if k.Status != nil {
			status = k.Status(i)
		}
		b.be32(12, id)
		b.be32(3, status)
		if f.Timeout != 0 {
			b.be32(7, uint32(f.Timeout/time.Second))
		}
		b.zone(f)
		b.end()
		if n++; n%per == 0 {
			out, b.batch = append(out, b.batch), nil
		}
	}
	if len(b.batch) > 0 {
		out = append(out, b.batch)
	}
	return append(out, Done(r))
}

// Done ends the reply to r.
func Done(r Request) []byte {
	return Message(r, unix.NLMSG_DONE, unix.NLM_F_MULTI, []byte{0, 0, 0, 0})
}

// Refusal answers r with an error number.
func Refusal(r Request, errno unix.Errno) []byte {
	return Message(r, unix.NLMSG_ERROR, 0, binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno))))
}

// Message answers r with one message.
func Message(r Request, typ, flags uint16, payload []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(16+len(payload)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, r.Seq)
	b = binary.NativeEndian.AppendUint32(b, r.PortID)
	b = append(b, payload...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// parseRequest reads what this repository's scanner writes.
func parseRequest(b []byte) Request {
	r := Request{
		Type:   binary.NativeEndian.Uint16(b[4:]),
		Flags:  binary.NativeEndian.Uint16(b[6:]),
		Seq:    binary.NativeEndian.Uint32(b[8:]),
		PortID: binary.NativeEndian.Uint32(b[12:]),
		Family: b[16],
	}
	var walk func(b []byte, path int)
	walk = func(b []byte, path int) {
		for len(b) >= 4 {
			n := int(binary.NativeEndian.Uint16(b))
			typ := binary.NativeEndian.Uint16(b[2:])
			v := b[4:n]
			switch at := path*100 + int(typ&0x3fff); {
			case typ&nested != 0:
				walk(v, at)
			case at == 2501: // CTA_FILTER, CTA_FILTER_ORIG_FLAGS
				r.UDP = binary.NativeEndian.Uint32(v)&(1<<3) != 0
			case at == 10203: // CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT
				r.Port = binary.BigEndian.Uint16(v)
			}
			b = b[min((n+3)&^3, len(b)):]
		}
	}
	walk(b[20:], 0)
	return r
}

// DumpRequest asks for the entries of a family (unix.AF_UNSPEC: all), all of them or UDP only, to one port when it is
// not 0.
func DumpRequest(family uint8, udp bool, port uint16) []byte {
	b := builder{seq: 1}
	b.begin(msgNew|1, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, family) // IPCTNL_MSG_CT_GET
	if udp {
		flags := []byte{1 << 3, 0, 0, 0}
		b.nest(1, func() {
			b.nest(2, func() {
				b.attr(1, unix.IPPROTO_UDP)
				if port != 0 {
					flags[0] |= 1 << 5
					b.attr(3, byte(port>>8), byte(port))
				}
			})
		})
		b.nest(25, func() {
			b.attr(1, binary.NativeEndian.AppendUint32(nil, binary.LittleEndian.Uint32(flags))...)
		})
	}
	b.end()
	return b.batch
}
