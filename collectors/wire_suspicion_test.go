package collectors

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWireSuspicion(t *testing.T) {
	now := time.Unix(1000, 0)
	var count uint64
	var failed error
	s := &wireSuspicion{errors: func() (uint64, error) { return count, failed }}
	// over lets time pass, with bad datagrams arriving at the end of each second, and returns the part of it under
	// suspicion.
	over := func(d time.Duration, errorsPerSecond uint64) float64 {
		suspected := 0
		for range int(d / time.Second) {
			now = now.Add(time.Second)
			if s.suspected(now) {
				suspected++
			}
			count += errorsPerSecond
		}
		return float64(suspected) / d.Seconds()
	}
	count = 5 // from before
	if part := over(time.Minute, 0); part != 0 {
		t.Errorf("suspicion without cause for %v of the time", part)
	}
	count++
	if part := over(30*time.Second, 0); part != 1 {
		t.Errorf("after an error: %v of the time", part)
	}
	if over(20*time.Second, 0); s.suspected(now) {
		t.Error("an error is suspicious for more than 40 s")
	}
	s.bad(now)
	if part := over(59*time.Second, 0); part != 1 {
		t.Errorf("after a bad packet: %v of the time", part)
	}
	over(20*time.Second, 0)
	// Bad datagrams of somebody else, without end.
	if part := over(10*time.Hour, 1); part < 0.05 || part > 0.2 {
		t.Errorf("errors that nothing comes of: suspicion for %v of the time", part)
	}
	// A bad packet makes them count again.
	s.bad(now)
	if over(75*time.Second, 1); !s.suspected(now) {
		t.Error("no suspicion after a bad packet and errors")
	}
	over(10*time.Minute, 0)
	// What rose while nobody looked is no news.
	now, count = now.Add(time.Hour), count+100
	if s.suspected(now) {
		t.Error("old errors are taken for new ones")
	}
	failed, count = errors.New("no such file"), count+1
	if over(10*time.Second, 1) != 0 {
		t.Error("suspicion without counters")
	}
}

func TestUDPChecksumErrors(t *testing.T) {
	proc := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Join(proc, "net"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, "net", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"self": "1", "1": "."} { // procfs reads /proc/self/net
		if err := os.Symlink(target, filepath.Join(proc, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := udpChecksumErrors(proc); err == nil {
		t.Error("no error without a file")
	}
	write("snmp", "Udp: InDatagrams InCsumErrors\nUdp: 9 3\n")
	if n, err := udpChecksumErrors(proc); n != 3 || err != nil {
		t.Errorf("without IPv6: %d, %v", n, err)
	}
	write("snmp6", "Udp6InErrors 8\nUdp6InCsumErrors 4\n")
	if n, err := udpChecksumErrors(proc); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	write("snmp6", "Udp6InCsumErrors x\n")
	if n, err := udpChecksumErrors(proc); n != 0 || err == nil {
		t.Errorf("%d, %v", n, err)
	}
}
