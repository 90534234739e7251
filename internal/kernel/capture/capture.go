package capture

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Packet is a captured packet. Frame is valid until the next one.
type Packet struct {
	Frame []byte
	Meta  Meta
	Ratio float64 // the part of all such packets that is seen: the sampling ratio times the duty
}

// Stats counts since the Capture was made.
type Stats struct {
	Captured   uint64 // packets that were handed over
	Lost       uint64 // packets that passed the filter and found the queue full (PACKET_STATISTICS, tp_drops)
	Unreadable uint64 // packets that do not fit struct virtio_net_hdr; the kernel drops them when read (EINVAL)
}

// Add adds other counts.
func (s *Stats) Add(o Stats) {
	s.Captured, s.Lost, s.Unreadable = s.Captured+o.Captured, s.Lost+o.Lost, s.Unreadable+o.Unreadable
}

// State is what a Capture is doing.
type State struct {
	Stats
	Up      bool // the interface was when last seen
	Resting bool // nothing is seen, in a pause
	Duty    Duty
	Ratio   float64 // sampling ratio in force
}

// ErrDown means that the interface is down or gone; Update takes it up again when it is back.
var ErrDown = errors.New("interface is down or gone")

const (
	// maxWhole is the longest packet handed over whole: any IP packet but a jumbogram.
	maxWhole = 1<<16 + etherHeader + maxVLANTags*vlanTag
	// defaultMTU is assumed for an interface that states none: the largest in common use.
	defaultMTU = 9000
)

// Capture captures on one interface. Read is for one goroutine; all else may be called from any. Nothing may be called
// from a function that packets are handed to.
type Capture struct {
	name   string
	gather time.Duration
	sock   Socket

	room    []Message // for the packets of one receive
	longest int       // packet that there is room for
	flowing bool      // the last Read has seen packets
	timer   *time.Timer
	closed  chan struct{}
	closing sync.Once

	mu       sync.Mutex // also held while the socket is rebound, which takes some 10 ms
	iface    Interface
	filter   Filter // in force
	down     bool   // the kernel has said so; the socket must be bound again
	resting  bool   // bound so that it sees nothing
	ignoring bool   // of outgoing packets
	// this kernel cannot ignore outgoing packets (before 4.20); for the goroutine that reads
	seesOutgoing bool
	duty         Duty
	stats        Stats
}

// Config says what to capture.
type Config struct {
	Interface string
	Ports     []uint16 // VXLAN destination ports
	Ratio     float64  // sampling ratio to begin with; 1: all packets
	// Gather is how long packets are queued before they are read: waking for each would cost more than judging it.
	Gather time.Duration
	Open   Opener // nil: Open
}

// NewCapture starts a capture on an interface. The error of an interface that is not there satisfies fs.ErrNotExist,
// that of a missing privilege fs.ErrPermission.
func NewCapture(cfg Config) (*Capture, error) {
	if cfg.Open == nil {
		cfg.Open = Open
	}
	sock, err := cfg.Open()
	if err != nil {
		return nil, err
	}
	c := &Capture{
		name:   cfg.Interface,
		gather: cfg.Gather,
		sock:   sock,
		duty:   always(),
		timer:  time.NewTimer(0),
		closed: make(chan struct{}),
	}
	c.iface, err = sock.Interface(c.name)
	if err == nil { // the filter before the binding: else the queue fills with what passes in between
		err = c.attach(filterFor(c.iface, cfg.Ports, cfg.Ratio, false))
	}
	if err == nil {
		err = sock.Bind(c.iface.Index)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("capture on %s: %w", c.name, err), sock.Close())
	}
	c.down = !c.iface.Up
	return c, nil
}

func filterFor(i Interface, ports []uint16, ratio float64, noRandom bool) Filter {
	longest := maxLength(i.Link, cmp.Or(max(i.MTU, 0), defaultMTU))
	return Filter{
		Ports: slices.Clone(ports), Link: i.Link, MaxLength: min(longest, maxWhole), Ratio: ratio, NoRandom: noRandom,
	}
}

// attach puts f in force. The kernel changes from one program to the next without a gap.
func (c *Capture) attach(f Filter) error {
	program, err := f.Program()
	if err != nil {
		return err
	}
	err = c.sock.SetFilter(program)
	if errors.Is(err, unix.EINVAL) && f.Ratio < 1 && !f.NoRandom {
		f.NoRandom = true
		return c.attach(f)
	}
	if err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	c.filter = f
	return nil
}

// Update follows changes of the interface and takes over the ports. It returns ErrDown while the interface is down or
// gone.
func (c *Capture) Update(ports []uint16) error {
	iface, err := c.sock.Interface(c.name) // the kernel may take its time to answer
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		return c.explain(err)
	}
	f := filterFor(iface, ports, c.filter.Ratio, c.filter.NoRandom)
	if !slices.Equal(f.Ports, c.filter.Ports) || f.Link != c.filter.Link || f.MaxLength != c.filter.MaxLength {
		if err := c.attach(f); err != nil {
			return c.explain(err)
		}
	}
	if c.down || iface.Index != c.iface.Index {
		if err := c.bind(iface.Index); err != nil {
			return err
		}
	}
	if c.iface, c.down = iface, !iface.Up; c.down {
		return fmt.Errorf("capture on %s: %w", c.name, ErrDown)
	}
	return nil
}

// bind is called with mu held.
func (c *Capture) bind(index int) error {
	if err := c.sock.Bind(index); err != nil {
		return c.explain(err)
	}
	c.resting = false
	return nil
}

// State returns what the Capture is doing.
func (c *Capture) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return State{Stats: c.stats, Up: !c.down, Resting: c.resting, Duty: c.duty, Ratio: c.filter.EffectiveRatio()}
}

// setDuty changes the duty and hands over what is queued, which was seen under the one before.
func (c *Capture) setDuty(d Duty, each func(Packet)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.drain(c.filter.EffectiveRatio(), each)
	c.duty = d
	return err
}

// see makes the socket see what comes in or not, and what goes out, which it sees like the rest where the kernel cannot
// tell it apart. For the goroutine that reads.
func (c *Capture) see(in, out bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !in && !c.resting {
		if err := c.sock.Rest(c.iface.Index); err != nil {
			return c.explain(err)
		}
		c.resting = true
	}
	if !in {
		return nil
	}
	if c.ignoring == out && !c.seesOutgoing {
		err := c.sock.IgnoreOutgoing(!out)
		if c.seesOutgoing = errors.Is(err, unix.ENOPROTOOPT); err != nil && !c.seesOutgoing {
			return c.explain(fmt.Errorf("PACKET_IGNORE_OUTGOING: %w", err))
		}
		c.ignoring = !out
	}
	if c.resting {
		return c.bind(c.iface.Index)
	}
	return nil
}

// SetRatio changes the sampling ratio and hands over what is queued, which was picked under the one before. For the
// goroutine that reads.
func (c *Capture) SetRatio(ratio float64, each func(Packet)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.filter.EffectiveRatio()
	if f := c.filter; ratio != f.Ratio {
		f.Ratio = ratio
		if err := c.attach(f); err != nil {
			return c.explain(err)
		}
	}
	_, err := c.drain(before, each)
	return err
}

// explain turns the errors of an interface that went away into ErrDown. It is called with mu held.
func (c *Capture) explain(err error) error {
	if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		c.down = true
		return fmt.Errorf("capture on %s: %w: %w", c.name, ErrDown, err)
	}
	return fmt.Errorf("capture on %s: %w", c.name, err)
}

// Close ends the capture; a Read that waits returns.
func (c *Capture) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.sock.Close()
}
