package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/test/lab/labtest"

	"github.com/mdlayher/genetlink"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what takes a millisecond on an idle machine.
const patience = 10 * time.Second

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// site is a namespace with a guard in it.
type site struct {
	*labtest.NS
	t      *testing.T
	links  *netlink.Handle
	client *ethtool.Client
	log    logBuffer
	vni    int
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{NS: labtest.New(t, "guard"), t: t}
	s.Do(func() (err error) {
		if s.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		s.client = ethtool.NewClient(nil)
		_, _ = s.client.Features(t.Context(), ethtool.Device{Index: 1, Name: "lo"}) // opens its socket here
		return nil
	})
	t.Cleanup(func() {
		s.links.Close()
		if err := s.client.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// guard runs a guard until the returned function is called, which returns what Run returned. It is ready when guard
// returns.
func (s *site) guard(c Config) (stop func() error) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	c.Logger = slog.New(slog.NewTextHandler(&s.log, nil))
	c.Ready = func() { close(ready) }
	go func() { ended <- s.NS.NS.Do(func() error { return Run(ctx, c) }) }()
	select {
	case <-ready:
	case err := <-ended:
		s.t.Fatalf("the guard ended: %v", err)
	case <-time.After(patience):
		s.t.Fatal("the guard did not become ready")
	}
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("the guard did not stop")
		}
	})
	s.t.Cleanup(func() {
		if err := stop(); err != nil {
			s.t.Error(err)
		}
	})
	return stop
}

// vxlan makes a VXLAN device and returns its index.
func (s *site) vxlan(name string) int {
	s.t.Helper()
	s.vni++
	l := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: name}, VxlanId: s.vni, Port: 8472}
	s.must(s.links.LinkAdd(l), "add "+name)
	got, err := s.links.LinkByName(name)
	s.must(err, name)
	return got.Attrs().Index
}

func (s *site) delete(index int) {
	s.t.Helper()
	s.must(s.links.LinkDel(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Index: index}}), "delete")
}

// deleter deletes devices beside the test: each deletion waits for some 15 ms in the kernel, without its lock
// (netdev_run_todo).
func (s *site) deleter() (remove func(index int), wait func()) {
	s.t.Helper()
	queue := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		var h *netlink.Handle
		s.Do(func() (err error) { h, err = netlink.NewHandle(unix.NETLINK_ROUTE); return err })
		wg.Go(func() {
			defer h.Close()
			for index := range queue {
				if err := h.LinkDel(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Index: index}}); err != nil {
					s.t.Errorf("delete %d: %v", index, err)
				}
			}
		})
	}
	return func(index int) { queue <- index }, func() { close(queue); wg.Wait() }
}

// vanishes waits until no device has the name.
func (s *site) vanishes(name string) {
	s.t.Helper()
	start := time.Now()
	for {
		if _, err := s.client.Features(s.t.Context(), ethtool.Device{Name: name}); errors.Is(err, fs.ErrNotExist) {
			return
		}
		if time.Since(start) > patience {
			s.t.Fatalf("%s is still there", name)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func (s *site) rename(index int, name string) {
	s.t.Helper()
	s.must(s.links.LinkSetName(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Index: index}}, name), "rename to "+name)
}

func (s *site) must(err error, what string) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// on reads the feature.
func (s *site) on(index int, name string) bool {
	s.t.Helper()
	f, err := s.client.Features(s.t.Context(), ethtool.Device{Index: index, Name: name})
	s.must(err, "features")
	g, ok := f.Get(Feature)
	if !ok {
		s.t.Fatalf("%s has no %s", name, Feature)
	}
	return g.Active
}

// becomes waits until the feature is as wanted and returns how long it took.
func (s *site) becomes(index int, name string, on bool) time.Duration {
	s.t.Helper()
	start := time.Now()
	for s.on(index, name) != on {
		if time.Since(start) > patience {
			s.t.Fatalf("%s (index %d) did not become %v; the guard's log:\n%s", name, index, on, &s.log)
		}
		time.Sleep(100 * time.Microsecond)
	}
	return time.Since(start)
}

// ethtoolSays reads the feature of all devices with ethtool(8).
func (s *site) ethtoolSays() map[string]string {
	s.t.Helper()
	all, err := s.links.LinkList()
	s.must(err, "list")
	says := map[string]string{}
	var script strings.Builder
	for _, l := range all {
		fmt.Fprintf(&script, "echo device %[1]s; ethtool -k %[1]s\n", l.Attrs().Name)
	}
	device := ""
	for line := range strings.Lines(s.RunInput(script.String(), "sh", "-e")) {
		if name, ok := strings.CutPrefix(line, "device "); ok {
			device = strings.TrimSpace(name)
		}
		if state, ok := strings.CutPrefix(strings.TrimSpace(line), Feature+": "); ok {
			says[device] = state
		}
	}
	return says
}

// changes counts the kernel's own notifications of changed features (ETHTOOL_MSG_FEATURES_NTF), by index. The returned
// function ends the counting. Kernels without the family "ethtool" notify nobody: there the log, the waiting and the
// final states must do.
func (s *site) changes() func() map[int]int {
	s.t.Helper()
	if !labtest.EthtoolNetlink() {
		return func() map[int]int { return nil }
	}
	var conn *genetlink.Conn
	s.Do(func() error {
		c, err := genetlink.Dial(nil)
		if err != nil {
			return err
		}
		conn = c
		_ = c.SetReadBuffer(64 << 20)
		f, err := c.GetFamily(unix.ETHTOOL_GENL_NAME)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(f.Groups,
			func(g genetlink.MulticastGroup) bool { return g.Name == unix.ETHTOOL_MCGRP_MONITOR_NAME })
		return c.JoinGroup(f.Groups[i].ID)
	})
	counted := map[int]int{}
	done := make(chan error, 1)
	go func() {
		for {
			msgs, _, err := conn.Receive()
			if err != nil {
				done <- err
				return
			}
			for _, m := range msgs {
				if m.Header.Command == unix.ETHTOOL_MSG_FEATURES_NTF {
					counted[headerIndex(m.Data)]++
				}
			}
		}
	}()
	return func() map[int]int {
		s.t.Helper()
		time.Sleep(50 * time.Millisecond) // the last notification is on its way
		s.must(conn.SetReadDeadline(time.Unix(1, 0)), "deadline")
		if err := <-done; errors.Is(err, unix.ENOBUFS) {
			s.t.Fatal("the test itself lost notifications")
		}
		s.must(conn.Close(), "close")
		return counted
	}
}

func headerIndex(data []byte) (index int) {
	ad, err := mdnetlink.NewAttributeDecoder(data)
	if err != nil {
		return -1
	}
	for ad.Next() {
		if ad.Type() == 1 /* ETHTOOL_A_FEATURES_HEADER */ {
			ad.Nested(func(h *mdnetlink.AttributeDecoder) error {
				for h.Next() {
					if h.Type() == 1 /* ETHTOOL_A_HEADER_DEV_INDEX */ {
						index = int(h.Uint32())
					}
				}
				return nil
			})
		}
	}
	return index
}

func TestNoDeviceIsMissedAndNoOtherTouched(t *testing.T) {
	s := newSite(t)
	s.Run("ip", "link", "add", "veth-a", "type", "veth", "peer", "name", "veth-b")
	s.Run("ip", "link", "add", "flannel.bridge", "type", "bridge") // its name matches, its kind does not
	before := s.vxlan("flannel.before")
	for name, state := range s.ethtoolSays() {
		if !strings.HasPrefix(state, "on") && name != "lo" {
			t.Fatalf("%s is %s at first", name, state)
		}
	}
	count := s.changes()
	s.guard(Config{Devices: []string{"flannel.*", "cali[0-9]*"}})
	if s.on(before, "flannel.before") {
		t.Error("a device that was there before is on when the guard says it is ready")
	}

	const rounds = 1000 // devices made; each is renamed and most are deleted
	guarded := map[int]bool{before: true}
	var waits []time.Duration
	var old []int
	remove, wait := s.deleter()
	for i := range rounds {
		switch i % 5 {
		case 0: // never has a name that matches
			index := s.vxlan(fmt.Sprintf("other.%d", i))
			s.rename(index, fmt.Sprintf("another.%d", i))
			old = append(old, index)
		case 1: // gets its matching name later
			name := fmt.Sprintf("cali%d", i)
			index := s.vxlan(fmt.Sprintf("tmp%d", i))
			s.rename(index, name)
			guarded[index] = true
			waits = append(waits, s.becomes(index, name, false))
			old = append(old, index)
		case 2: // the name of a device that was there a moment ago
			index := s.vxlan("flannel.again")
			guarded[index] = true
			waits = append(waits, s.becomes(index, "flannel.again", false))
			remove(index)
			s.vanishes("flannel.again")
		default:
			name := fmt.Sprintf("flannel.%d", i)
			index := s.vxlan(name)
			guarded[index] = true
			waits = append(waits, s.becomes(index, name, false))
			s.rename(index, fmt.Sprintf("flannel.r%d", i))
			old = append(old, index)
		}
		// A namespace with some thirty devices, the oldest going all the time.
		if len(old) > 30 {
			remove(old[0])
			old = old[1:]
		}
	}
	slices.Sort(waits)
	t.Logf("%d devices waited for: median %s, last %s", len(waits), waits[len(waits)/2], waits[len(waits)-1])

	wait()
	touched := count()
	for index := range guarded {
		if touched[index] == 0 && labtest.EthtoolNetlink() {
			t.Errorf("device %d was missed", index)
		}
		if touched[index] > 1 {
			t.Errorf("device %d was changed %d times", index, touched[index])
		}
		delete(touched, index)
	}
	for index, n := range touched {
		t.Errorf("device %d is none of the guard's and was changed %d times", index, n)
	}
	for name, state := range s.ethtoolSays() {
		wantOff := (strings.HasPrefix(name, "flannel.") || strings.HasPrefix(name, "cali")) && name != "flannel.bridge"
		if name != "lo" && strings.HasPrefix(state, "off") != wantOff {
			t.Errorf("%s: ethtool says %s", name, state)
		}
	}
	// Each change stands in the log, with before and after.
	lines := regexp.MustCompile(`(?m)^.*msg="feature turned off".* before=on after=off .*$`).FindAllString(s.log.String(),
		-1)
	if len(lines) != len(guarded) {
		t.Errorf("%d changes logged of %d", len(lines), len(guarded))
	}
}

func TestStormWithLostEvents(t *testing.T) {
	s := newSite(t)
	slow := &slowEvents{hold: make(chan struct{})}
	s.guard(Config{Devices: []string{"flannel.*"}, Recheck: time.Hour, Listen: func() (rtnl.Events, error) {
		c, err := mdnetlink.Dial(unix.NETLINK_ROUTE, &mdnetlink.Config{Groups: unix.RTMGRP_LINK})
		if err != nil {
			return nil, err
		}
		slow.Events = c
		return slow, c.SetReadBuffer(4096)
	}})
	// Nobody reads while these come, so the socket's buffer runs over.
	var indexes []int
	for i := range 100 {
		indexes = append(indexes, s.vxlan(fmt.Sprintf("flannel.%d", i)))
	}
	close(slow.hold)
	for i, index := range indexes {
		s.becomes(index, fmt.Sprintf("flannel.%d", i), false)
	}
	if !strings.Contains(s.log.String(), "link events were lost") {
		t.Errorf("no event was lost, the test shows nothing; log:\n%s", &s.log)
	}
}

// slowEvents does not read before hold is closed.
type slowEvents struct {
	rtnl.Events
	hold chan struct{}
}

func (s *slowEvents) Receive() ([]mdnetlink.Message, error) {
	<-s.hold
	return s.Events.Receive()
}

func TestFeatureTurnedOnAgain(t *testing.T) {
	s := newSite(t)
	s.guard(Config{Devices: []string{"flannel.1"}, Recheck: time.Hour})
	index := s.vxlan("flannel.1")
	s.becomes(index, "flannel.1", false)
	for range 20 {
		// By ioctl, ethtool(8) looks again after it has turned a feature on, and fails when the guard was faster.
		_, err := s.NS.NS.Run("ethtool", "-K", "flannel.1", Feature, "on")
		if err != nil &&
			(labtest.EthtoolNetlink() || !strings.Contains(err.Error(), "Could not change any device features")) {
			t.Fatal(err)
		}
		s.becomes(index, "flannel.1", false)
	}
}

func TestRestore(t *testing.T) {
	for _, restore := range []bool{true, false} {
		s := newSite(t)
		was := s.vxlan("flannel.off")
		s.Run("ethtool", "-K", "flannel.off", Feature, "off")
		stop := s.guard(Config{Devices: []string{"flannel.*"}, Restore: restore})
		kept, gone, renamed := s.vxlan("flannel.1"), s.vxlan("flannel.2"), s.vxlan("flannel.3")
		for i, index := range []int{kept, gone, renamed} {
			s.becomes(index, fmt.Sprintf("flannel.%d", i+1), false)
		}
		s.delete(gone)
		s.rename(renamed, "other")
		if err := stop(); err != nil {
			t.Error(err)
		}
		for name, want := range map[string]bool{"flannel.1": restore, "other": restore, "flannel.off": false} {
			if got := strings.HasPrefix(s.ethtoolSays()[name], "on"); got != want {
				t.Errorf("restore %v: %s is on: %v", restore, name, got)
			}
		}
		if n := strings.Count(s.log.String(), `msg="feature restored"`); (n == 2) != restore {
			t.Errorf("restore %v: %d lines of it:\n%s", restore, n, &s.log)
		}
		if s.on(was, "flannel.off") {
			t.Error("what somebody else turned off was turned on")
		}
	}
}

// The end of ctx, which ends the reading of events as well, is no error, whichever is seen first.
func TestStopIsNoError(t *testing.T) {
	s := newSite(t)
	for range 20 {
		if err := s.guard(Config{Devices: []string{"none"}})(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	s := newSite(t)
	count := s.changes()
	s.guard(Config{Devices: []string{"*"}, DryRun: true, Restore: true, Recheck: time.Millisecond})
	index := s.vxlan("flannel.1")
	for deadline := time.Now().Add(patience); !strings.Contains(s.log.String(), "would turn"); {
		if time.Now().After(deadline) {
			t.Fatal("nothing was logged")
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // some more passes
	if n := strings.Count(s.log.String(), "would turn"); n != 1 {
		t.Errorf("told %d times:\n%s", n, &s.log)
	}
	if !s.on(index, "flannel.1") {
		t.Error("it was turned off")
	}
	if n := count(); len(n) != 0 {
		t.Errorf("features changed: %v", n)
	}
}

func TestExposedDevicesOnly(t *testing.T) {
	s := newSite(t)
	var mu sync.Mutex
	var asked int
	names, failure := []string(nil), errors.New("no rules could be read")
	set := func(n []string, err error) {
		mu.Lock()
		defer mu.Unlock()
		names, failure = n, err
	}
	s.guard(Config{Recheck: 20 * time.Millisecond, Exposed: func(context.Context) ([]string, error) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		return names, failure
	}})
	time.Sleep(50 * time.Millisecond)
	mu.Lock()
	if asked != 0 {
		t.Errorf("asked %d times with no device there", asked)
	}
	mu.Unlock()
	one, two := s.vxlan("one"), s.vxlan("two")
	time.Sleep(3 * judgeGap)
	if !s.on(one, "one") || !s.on(two, "two") {
		t.Error("changed without a judgment")
	}
	if n := strings.Count(s.log.String(), "cannot tell"); n != 1 {
		t.Errorf("%d lines of one lasting error:\n%s", n, &s.log)
	}
	mu.Lock()
	if asked < 2 || asked > 6 {
		t.Errorf("asked %d times in three gaps of %s", asked, judgeGap)
	}
	mu.Unlock()
	set([]string{"two", "gone"}, nil)
	s.becomes(two, "two", false)
	if !s.on(one, "one") {
		t.Error("the device that is not exposed was changed")
	}
}

// readOnly is a socket by which nothing can be set.
type readOnly struct{ ethtool.IoctlSocket }

func (s readOnly) Ethtool(name string, data []byte) error {
	if data[0] == 0x17 { // ETHTOOL_STXCSUM
		return unix.EBADF
	}
	return s.IoctlSocket.Ethtool(name, data)
}

func TestDeviceThatCannotBeChanged(t *testing.T) {
	s := newSite(t)
	s.guard(Config{Devices: []string{"*"}, Recheck: 5 * time.Millisecond, Ioctl: func() (ethtool.IoctlSocket, error) {
		socket, err := ethtool.OpenIoctl()
		return readOnly{socket}, err
	}})
	s.vxlan("flannel.1")
	time.Sleep(100 * time.Millisecond)
	if n := strings.Count(s.log.String(), "level=ERROR"); n != 1 ||
		!strings.Contains(s.log.String(), "bad file descriptor") {
		t.Errorf("%d errors, want 1 that says why:\n%s", n, &s.log)
	}
}

func TestConfigThatGuardsNothing(t *testing.T) {
	for _, c := range []Config{{}, {Devices: []string{"flannel.["}}} {
		if err := Run(t.Context(), c); err == nil {
			t.Errorf("%+v was accepted", c.Devices)
		}
	}
}
