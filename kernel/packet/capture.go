package packet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Packet is a captured packet. Frame is valid until the next one.
type Packet struct {
	Frame []byte
	Meta  Meta
	Ratio float64 // the part of all such packets that is seen: the sampling ratio, and the part of the time in which they are watched
}

// Stats counts since the Capture was made.
type Stats struct {
	Captured   uint64 // packets that were handed over
	Lost       uint64 // packets that passed the filter and found the queue full (PACKET_STATISTICS, tp_drops)
	Unreadable uint64 // packets the kernel cannot describe in a struct virtio_net_hdr and throws away when they are read (EINVAL)
}

// ErrDown means that the interface is down or gone; Update takes it up again when it is back.
var ErrDown = errors.New("interface is down or gone")

const (
	// maxBatch bounds what one Read hands over; the queue holds fewer.
	maxBatch = 4096
	// maxWhole is the longest packet handed over whole: any IP packet but a jumbogram.
	maxWhole = 1<<16 + etherHeader + maxVLANTags*vlanTag
	// While nothing comes, the queue is looked at idleLook times less often, and never more often than every minLook.
	idleLook = 2
	minLook  = 10 * time.Millisecond
	// defaultMTU is assumed for an interface that states none: the largest in common use.
	defaultMTU = 9000
)

// Capture watches one interface. Read is for one goroutine; all else may be called from any.
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

	binding  sync.Mutex // held while the socket is bound anew, which takes some 10 ms; never taken with mu held
	resting  bool       // bound so that it sees nothing
	ignoring bool       // of outgoing packets

	mu     sync.Mutex
	iface  Interface
	filter Filter // in force
	down   bool   // the kernel has said so; the socket must be bound again
	duty   Duty
	stats  Stats
}

// Config says what to capture.
type Config struct {
	Interface string
	Ports     []uint16 // VXLAN destination ports
	Ratio     float64  // sampling ratio to begin with; 1: all packets
	// Gather is how long packets are left to pile up: waking for each would cost more than judging it.
	Gather time.Duration
	Open   Opener // nil: Open
}

// NewCapture begins to watch an interface. The error of an interface that is not there satisfies fs.ErrNotExist, that of a missing
// privilege fs.ErrPermission.
func NewCapture(cfg Config) (*Capture, error) {
	if cfg.Open == nil {
		cfg.Open = Open
	}
	sock, err := cfg.Open()
	if err != nil {
		return nil, err
	}
	c := &Capture{name: cfg.Interface, gather: cfg.Gather, sock: sock, duty: always(), timer: time.NewTimer(0), closed: make(chan struct{})}
	if err := c.start(cfg.Ports, cfg.Ratio); err != nil {
		return nil, errors.Join(fmt.Errorf("capture on %s: %w", c.name, err), sock.Close())
	}
	return c, nil
}

func (c *Capture) start(ports []uint16, ratio float64) error {
	iface, err := c.sock.Interface(c.name)
	if err != nil {
		return err
	}
	// The filter before the binding: else the queue fills with what passes in between.
	if err := c.attach(filterFor(iface, ports, ratio, false)); err != nil {
		return err
	}
	if err := c.sock.Bind(iface.Index); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	c.iface, c.down = iface, !iface.Up
	return nil
}

func filterFor(i Interface, ports []uint16, ratio float64, noRandom bool) Filter {
	mtu := i.MTU
	if mtu <= 0 {
		mtu = defaultMTU
	}
	return Filter{Ports: slices.Clone(ports), Link: i.Link, MaxLength: min(MaxLength(i.Link, mtu), maxWhole), Ratio: ratio, NoRandom: noRandom}
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

// Update follows changes of the interface and takes over the ports. It returns ErrDown while the interface is down or gone.
func (c *Capture) Update(ports []uint16) error {
	c.binding.Lock()
	defer c.binding.Unlock()
	iface, err := c.sock.Interface(c.name)
	if errors.Is(err, fs.ErrNotExist) {
		return c.explain(fmt.Errorf("%w: %w", unix.ENODEV, err))
	}
	if err != nil {
		return fmt.Errorf("capture on %s: %w", c.name, err)
	}
	bind, err := c.update(iface, ports)
	if err != nil {
		return fmt.Errorf("capture on %s: %w", c.name, err)
	}
	if bind {
		if err := c.sock.Bind(iface.Index); err != nil {
			return c.explain(fmt.Errorf("bind: %w", err))
		}
		c.resting = false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.iface, c.down = iface, !iface.Up; c.down {
		return fmt.Errorf("capture on %s: %w", c.name, ErrDown)
	}
	return nil
}

// update takes over ports and properties, and reports whether the socket must be bound anew.
func (c *Capture) update(iface Interface, ports []uint16) (bind bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := filterFor(iface, ports, c.filter.Ratio, c.filter.NoRandom)
	if !slices.Equal(f.Ports, c.filter.Ports) || f.Link != c.filter.Link || f.MaxLength != c.filter.MaxLength {
		err = c.attach(f)
	}
	return c.down || iface.Index != c.iface.Index, err
}

// Up reports whether the interface was up when last seen.
func (c *Capture) Up() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.down
}

// Stats returns the counters.
func (c *Capture) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Duty is the part of the time in which packets are seen.
func (c *Capture) Duty() Duty {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.duty
}

func (c *Capture) setDuty(d Duty) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.duty = d
}

func (c *Capture) counts() (Counts, error) { return c.sock.Counts(c.index()) }

func (c *Capture) index() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.iface.Index
}

// see makes the socket see what comes in or not, and what goes out.
func (c *Capture) see(in, out bool) error {
	c.binding.Lock()
	defer c.binding.Unlock()
	if !in {
		if c.resting {
			return nil
		}
		if err := c.sock.Rest(c.index()); err != nil {
			return c.explain(fmt.Errorf("bind: %w", err))
		}
		c.resting = true
		return nil
	}
	if c.ignoring == out {
		if err := c.sock.IgnoreOutgoing(!out); err != nil {
			return c.explain(fmt.Errorf("PACKET_IGNORE_OUTGOING: %w", err))
		}
		c.ignoring = !out
	}
	if c.resting {
		if err := c.sock.Bind(c.index()); err != nil {
			return c.explain(fmt.Errorf("bind: %w", err))
		}
		c.resting = false
	}
	return nil
}

// Ratio is the sampling ratio in force.
func (c *Capture) Ratio() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.filter.EffectiveRatio()
}

// SetRatio changes the sampling ratio and hands over what is queued, which was picked under the one before. For the goroutine that
// reads.
func (c *Capture) SetRatio(ratio float64, each func(Packet)) error {
	c.mu.Lock()
	before := c.filter.EffectiveRatio()
	f := c.filter
	f.Ratio = ratio
	var err error
	if ratio != c.filter.Ratio {
		err = c.attach(f)
	}
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("capture on %s: %w", c.name, err)
	}
	_, err = c.drain(before, each)
	return err
}

// Batch is what one Read saw.
type Batch struct {
	Passed int           // packets that passed the filter, lost ones included
	Took   time.Duration // that the Read took, and as much of the time in which nothing is watched as belongs to it
}

// Read hands over the packets that are queued when it looks: once Gather has passed, and
// then again as long as there are none, but not after the deadline. The error is ErrDown when the interface went away,
// os.ErrClosed after Close.
func (c *Capture) Read(deadline time.Time, each func(Packet)) (b Batch, err error) {
	ratio, first, duty := c.Ratio(), time.Now(), c.Duty()
	for b.Passed == 0 {
		pause := c.gather
		if !c.flowing {
			pause = max(pause*idleLook, minLook)
		}
		// In a window, as many packets come as else in the whole cycle.
		pause = time.Duration(float64(pause) * duty.In)
		last := false
		// Half as long again is not worth a look of its own, and at rest nothing can come.
		if left := time.Until(deadline); !deadline.IsZero() && (left <= pause*3/2 || c.atRest()) {
			pause, last = left, true
		}
		if !c.sleep(pause) {
			return b, fmt.Errorf("capture on %s: %w", c.name, os.ErrClosed)
		}
		if b.Passed, err = c.drain(ratio, each); err != nil {
			return b, err
		}
		if c.flowing = b.Passed > 0; last {
			break
		}
	}
	_, drops, err := c.sock.Stats()
	if err != nil {
		return b, c.explain(fmt.Errorf("PACKET_STATISTICS: %w", err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Lost += uint64(drops)
	b.Passed += int(drops)
	b.Took = time.Duration(float64(time.Since(first)) / duty.In)
	return b, nil
}

func (c *Capture) atRest() bool {
	c.binding.Lock()
	defer c.binding.Unlock()
	return c.resting
}

// sleep returns false when the capture is closed before d has passed.
func (c *Capture) sleep(d time.Duration) bool {
	if d > 0 {
		c.timer.Reset(d)
		select {
		case <-c.timer.C:
		case <-c.closed:
		}
	}
	select {
	case <-c.closed:
		return false
	default:
		return true
	}
}

// drain hands over what is queued.
func (c *Capture) drain(ratio float64, each func(Packet)) (n int, err error) {
	for range maxBatch {
		got, err := c.receive(ratio, each)
		if errors.Is(err, unix.EAGAIN) {
			return n, nil
		}
		if err != nil {
			return n, c.explain(err)
		}
		if n += got; n >= maxBatch {
			break
		}
	}
	return n, nil
}

// receive takes packets from the queue. One that is unreadable counts.
func (c *Capture) receive(ratio float64, each func(Packet)) (got int, err error) {
	c.mu.Lock()
	iface, duty, longest := c.iface, c.duty, c.filter.MaxLength // the filter cuts off what is longer
	c.mu.Unlock()
	if c.room == nil || c.longest != longest {
		c.room, c.longest = newMessages(longest), longest
	}
	got, err = c.sock.Receive(c.room)
	switch {
	case errors.Is(err, unix.EINVAL):
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stats.Unreadable++
		return 1, nil
	case err != nil:
		return 0, err
	}
	for i := range c.room[:got] {
		p := c.room[i].packet()
		p.Meta.Link, p.Meta.MTU = iface.Link, iface.MTU
		if p.Ratio = ratio * duty.In; p.Meta.Outgoing {
			p.Ratio = ratio * duty.Out
		}
		each(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Captured += uint64(got) // now that they are counted by whoever reads
	return got, nil
}

// explain turns the kernel's word for an interface that went away into ErrDown.
func (c *Capture) explain(err error) error {
	if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		c.mu.Lock()
		c.down = true
		c.mu.Unlock()
		return fmt.Errorf("capture on %s: %w: %w", c.name, ErrDown, err)
	}
	return fmt.Errorf("capture on %s: %w", c.name, err)
}

// Close ends the capture; a Read that waits returns.
func (c *Capture) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.sock.Close()
}
