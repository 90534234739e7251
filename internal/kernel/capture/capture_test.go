package capture_test

import (
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/capture"
)

// refusesRandom is a kernel without SKF_AD_RANDOM.
type refusesRandom struct{ capture.Socket }

func (s refusesRandom) SetFilter(program []bpf.RawInstruction) error {
	random, err := bpf.LoadExtension{Num: bpf.ExtRand}.Assemble()
	if err != nil {
		return err
	}
	if slices.Contains(program, random) {
		return os.NewSyscallError("setsockopt", unix.EINVAL)
	}
	return s.Socket.SetFilter(program)
}

// hostile is a socket that answers what it is told to.
type hostile struct {
	iface    capture.Interface
	ifaceErr error
	filter   error
	bind     error
	stats    error
	receive  func(m *capture.Message) error
	closed   int
	attached int

	bound    int // every Bind
	resting  bool
	ignored  int // every IgnoreOutgoing
	ignoring bool
	ignore   error
	takes    func() // time that Bind and Rest take
}

func (h *hostile) IgnoreOutgoing(b bool) error {
	h.ignored++
	if h.ignore == nil {
		h.ignoring = b
	}
	return h.ignore
}

func (h *hostile) Bind(int) error {
	if h.takes != nil {
		h.takes()
	}
	if h.bind != nil {
		return h.bind
	}
	h.resting = false
	h.bound++
	return nil
}

func (h *hostile) Rest(int) error {
	h.resting = true
	if h.takes != nil {
		h.takes()
	}
	return h.bind
}

func (h *hostile) Interface(string) (capture.Interface, error) { return h.iface, h.ifaceErr }
func (h *hostile) SetFilter([]bpf.RawInstruction) error        { h.attached++; return h.filter }
func (h *hostile) Stats() (uint32, uint32, error)              { return math.MaxUint32, 3, h.stats }
func (h *hostile) Close() error                                { h.closed++; return nil }
func (h *hostile) Receive(into []capture.Message) (int, error) {
	switch err := h.receive(&into[0]); {
	case errors.Is(err, errSwallowed):
		return 0, nil
	case err != nil:
		return 0, err
	}
	return 1, nil
}

func (h *hostile) open() (capture.Socket, error) { return h, nil }

// errSwallowed is an error that recvmmsg of RHEL 7 does not return.
var errSwallowed = errors.New("swallowed")

func TestCaptureClosesWhatItOpened(t *testing.T) {
	broken := errors.New("broken")
	for name, h := range map[string]*hostile{
		"interface": {ifaceErr: broken},
		"filter":    {filter: broken},
		"bind":      {bind: broken},
	} {
		if _, err := capture.NewCapture(capture.Config{Ratio: 1, Open: h.open}); !errors.Is(err, broken) || h.closed != 1 {
			t.Errorf("%s: %v, closed %d times", name, err, h.closed)
		}
	}
	refused := func() (capture.Socket, error) { return nil, os.NewSyscallError("socket", unix.EPERM) }
	if _, err := capture.NewCapture(capture.Config{Open: refused}); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
}

// TestCaptureHostileKernel: lengths that cannot be, garbage, and a queue that never empties are bounded and harmless.
func TestCaptureHostileKernel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	fill := func(b []byte) {
		for i := range b[:min(len(b), 400)] {
			b[i] = byte(rnd.Uint32())
		}
	}
	lengths := []int{-1, 0, 1, 9, 10, 11, 100, 1 << 30}
	calls := 0
	h := &hostile{iface: capture.Interface{Index: -7, MTU: -1, Up: true}}
	h.receive = func(m *capture.Message) error {
		calls++
		fill(m.Data)
		fill(m.Control)
		if calls%5 == 0 {
			return os.NewSyscallError("recvmmsg", unix.EINVAL)
		}
		m.Length, m.ControlLength, m.Outgoing = lengths[calls%len(lengths)], lengths[rnd.IntN(len(lengths))], rnd.IntN(2) == 0
		return nil
	}
	c, err := capture.NewCapture(capture.Config{Ports: []uint16{8472}, Ratio: 0.5, Open: h.open})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	b, err := c.Read(time.Now(), func(p capture.Packet) {
		seen++
		if v := capture.Judge(p.Frame, p.Meta); v.Kind == capture.Bad {
			t.Errorf("bad: %+v", v)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	s := c.State().Stats
	if calls > 5000 || s.Captured != uint64(seen) || s.Unreadable == 0 || s.Lost != 3 || b.Passed != calls+3 {
		t.Errorf("%d calls, %d packets, %+v, %+v", calls, seen, s, b)
	}
}

func TestCaptureErrors(t *testing.T) {
	for _, tt := range []struct {
		errno unix.Errno
		down  bool
	}{{unix.ENETDOWN, true}, {unix.ENODEV, true}, {unix.ENXIO, true}, {unix.ENOMEM, false}, {unix.EBADF, false}} {
		h := &hostile{iface: capture.Interface{Index: 1, MTU: 1500, Up: true}}
		h.receive = func(*capture.Message) error { return os.NewSyscallError("recvmmsg", tt.errno) }
		c, err := capture.NewCapture(capture.Config{Ratio: 1, Open: h.open})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Read(time.Now(), func(capture.Packet) {})
		if !errors.Is(err, tt.errno) || errors.Is(err, capture.ErrDown) != tt.down || c.State().Up == tt.down {
			t.Errorf("%v: %v, up %v", tt.errno, err, c.State().Up)
		}
		if err := c.Update(nil); err != nil || !c.State().Up {
			t.Errorf("%v: update: %v, up %v", tt.errno, err, c.State().Up)
		}
	}
}

// TestCaptureSwallowedError: no packet and no error means that the interface went away.
func TestCaptureSwallowedError(t *testing.T) {
	calls := 0
	h := &hostile{iface: capture.Interface{Index: 1, MTU: 1500, Up: true}}
	h.receive = func(*capture.Message) error { calls++; return errSwallowed }
	c, err := capture.NewCapture(capture.Config{Ratio: 1, Open: h.open})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(time.Now(), func(capture.Packet) {}); !errors.Is(err, capture.ErrDown) || c.State().Up || calls != 1 {
		t.Errorf("%v, up %v, after %d calls", err, c.State().Up, calls)
	}
}

// TestSetRatio: what is queued when the ratio changes counts under the ratio it was picked with.
func TestSetRatio(t *testing.T) {
	queued := 3
	h := &hostile{iface: capture.Interface{Index: 1, MTU: 1500, Up: true}}
	h.receive = func(m *capture.Message) error {
		if queued == 0 {
			return unix.EAGAIN
		}
		queued--
		m.Length = 100
		return nil
	}
	c, err := capture.NewCapture(capture.Config{Ratio: 1, Open: h.open})
	if err != nil {
		t.Fatal(err)
	}
	var ratios []float64
	if err := c.SetRatio(0.125, func(p capture.Packet) { ratios = append(ratios, p.Ratio) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ratios, []float64{1, 1, 1}) || c.State().Ratio != 0.125 || h.attached != 2 {
		t.Errorf("%v, now %v, %d filters", ratios, c.State().Ratio, h.attached)
	}
	if err := c.SetRatio(0.125, nil); err != nil || h.attached != 2 {
		t.Errorf("the same again: %v, %d filters", err, h.attached)
	}
}
