package ethtool_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"vxlan_exporter/internal/kernel/ethtool"

	"golang.org/x/sys/unix"
)

var d = ethtool.Device{Index: 7, Name: "vx0"}

// oldKernel answers the ioctls of a kernel that has the given features. Every feature is available and active.
type oldKernel struct {
	names  []string
	err    map[uint32]error           // by command
	spoil  func(cmd uint32, b []byte) // changes an answer
	calls  map[uint32]int
	closed int
}

func (k *oldKernel) Ethtool(_ string, b []byte) error {
	cmd := binary.NativeEndian.Uint32(b)
	if k.calls == nil {
		k.calls = make(map[uint32]int)
	}
	k.calls[cmd]++
	if err := k.err[cmd]; err != nil {
		return err
	}
	switch cmd {
	case 0x37:
		binary.NativeEndian.PutUint32(b[16:], uint32(len(k.names)))
	case 0x1b:
		binary.NativeEndian.PutUint32(b[8:], uint32(len(k.names)))
		for i, n := range k.names {
			copy(b[12+i*32:][:32], n)
		}
	case 0x3a:
		words := (len(k.names) + 31) / 32
		room := int(binary.NativeEndian.Uint32(b[4:]))
		binary.NativeEndian.PutUint32(b[4:], uint32(words))
		for i := range min(words, room) {
			binary.NativeEndian.PutUint32(b[8+i*16:], ^uint32(0))
			binary.NativeEndian.PutUint32(b[8+i*16+8:], ^uint32(0))
		}
	}
	if k.spoil != nil {
		k.spoil(cmd, b)
	}
	return nil
}

func (k *oldKernel) Index(string) (int, error) { return d.Index, nil }

func (k *oldKernel) Close() error {
	k.closed++
	return nil
}

func (k *oldKernel) open() (ethtool.IoctlSocket, error) { return k, nil }

func client(k *oldKernel) *ethtool.Client { return ethtool.NewClient(k.open) }

func names(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("feature-%d", i))
	}
	return list
}

func TestNamesAreReadOnceAndCheckedAlways(t *testing.T) {
	k := &oldKernel{names: names(40)}
	c := client(k)
	for range 5 {
		if _, err := c.Features(context.Background(), d); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if k.calls[0x1b] != 1 || k.calls[0x3a] != 5 || k.closed != 5 {
		t.Errorf("calls %v, closed %d", k.calls, k.closed)
	}
	k.names = names(70)
	if f, err := c.Features(context.Background(), d); err != nil || len(f) != 70 {
		t.Errorf("after the kernel gained features: %d, %v", len(f), err)
	}
}

func TestNamesThatRepeatOrAreOddOrEmpty(t *testing.T) {
	long := strings.Repeat("n", 40) // fills its field, without a NUL
	k := &oldKernel{names: []string{"a", "", "a", "b\xff\n", long, "z"}}
	f, err := client(k).Features(context.Background(), d)
	var got []string
	for _, g := range f {
		got = append(got, g.Name)
	}
	if want := []string{"a", "b\uFFFD\n", long[:32], "z"}; err != nil ||
		strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestHostileIoctl(t *testing.T) {
	put := func(at uint32, offset int, v uint32) func(uint32, []byte) {
		return func(cmd uint32, b []byte) {
			if cmd == at {
				binary.NativeEndian.PutUint32(b[offset:], v)
			}
		}
	}
	for name, spoil := range map[string]func(uint32, []byte){
		"no features":              put(0x37, 16, 0),
		"very many features":       put(0x37, 16, 1<<31),
		"another set":              put(0x37, 8, 1),
		"more names than features": put(0x1b, 8, 1<<30),
		"fewer names":              put(0x1b, 8, 1),
		"more words":               put(0x3a, 4, 1<<30),
		"no words":                 put(0x3a, 4, 0),
	} {
		f, err := client(&oldKernel{names: names(40), spoil: spoil}).Features(context.Background(), d)
		if err == nil || f != nil || !strings.Contains(err.Error(), "malformed") {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	no := func(cmd uint32, b []byte) {
		if cmd == 0x37 {
			clear(b[4:])
		}
	}
	if _, err := client(&oldKernel{names: names(40), spoil: no}).Features(context.Background(), d); !errors.Is(err,
		errors.ErrUnsupported) {
		t.Errorf("no set: %v", err)
	}
	c := ethtool.NewClient(func() (ethtool.IoctlSocket, error) { return nil, unix.EMFILE })
	if _, err := c.Features(context.Background(), d); !errors.Is(err, unix.EMFILE) {
		t.Errorf("open: %v", err)
	}
	if _, err := c.Driver(context.Background(), d); !errors.Is(err, unix.EMFILE) {
		t.Errorf("open: %v", err)
	}
}

func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := client(&oldKernel{names: names(3)})
	if _, err := c.Features(ctx, d); !errors.Is(err, context.Canceled) {
		t.Errorf("features: %v", err)
	}
	if _, err := c.Driver(ctx, d); !errors.Is(err, context.Canceled) {
		t.Errorf("driver: %v", err)
	}
}
