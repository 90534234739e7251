package conntrack_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
	"vxlan_exporter/test/fuzz/bound"

	"golang.org/x/sys/unix"
)

// attr is one attribute with the length it claims.
func attr(typ uint16, claim int, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(claim))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// nest is one attribute around others.
func nest(typ uint16, inner ...[]byte) []byte {
	var v []byte
	for _, i := range inner {
		v = append(v, i...)
	}
	return attr(typ|0x8000, 4+len(v), v...)
}

// vxlanTuple is a sound tuple, with attributes added to its proto part.
func vxlanTuple(typ uint16, proto ...[]byte) []byte {
	return nest(typ,
		nest(1, attr(1, 8, 10, 0, 0, 1), attr(2, 8, 10, 0, 0, 2)),
		nest(2, append([][]byte{attr(1, 5, 17), attr(2, 6, 0x80, 0), attr(3, 6, 0x21, 0x18)}, proto...)...))
}

func entry(attrs ...[]byte) []byte {
	b := []byte{unix.AF_INET, 0, 0, 0}
	for _, a := range attrs {
		b = append(b, a...)
	}
	return b
}

func TestHostileReplies(t *testing.T) {
	const newEntry = 0x0100
	for name, c := range map[string]struct {
		reply func(r conntracktest.Request) []byte
		want  string // part of the error; empty: the reply is sound, or harmless
		flows int
	}{
		"sound": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2, entry(vxlanTuple(1), vxlanTuple(2)))
		}, "", 1},
		"unknown attributes": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2, entry(attr(99, 7, 1, 2, 3), vxlanTuple(1, attr(77, 4)),
				nest(88, attr(1, 4))))
		}, "", 1},
		"no attributes": {
			func(r conntracktest.Request) []byte { return conntracktest.Message(r, newEntry, 2, entry()) }, "",
			0,
		},
		"no-op": {
			func(r conntracktest.Request) []byte { return conntracktest.Message(r, unix.NLMSG_NOOP, 0, nil) },
			"", 0,
		},
		"only ports": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2,
				entry(nest(1, nest(2, attr(1, 5, 17), attr(2, 6, 1, 1), attr(3, 6, 0x21, 0x18)))))
		}, "malformed", 0},
		"empty":         {func(conntracktest.Request) []byte { return []byte{} }, "empty datagram", 0},
		"half a header": {func(r conntracktest.Request) []byte { return conntracktest.Done(r)[:10] }, "left over", 0},
		"short length": {
			func(r conntracktest.Request) []byte { return patched(conntracktest.Done(r), 0, 3) },
			"a message of 3 bytes", 0,
		},
		"long length": {
			func(r conntracktest.Request) []byte { return patched(conntracktest.Done(r), 0, 4000) },
			"a message of 4000 bytes", 0,
		},
		"huge length": {
			func(r conntracktest.Request) []byte { return patched(conntracktest.Done(r), 0, 0xffffffff) },
			"a message of", 0,
		},
		"other sequence": {
			func(r conntracktest.Request) []byte { r.Seq += 9; return conntracktest.Done(r) },
			"answers request", 0,
		},
		"other port": {
			func(r conntracktest.Request) []byte { r.PortID++; return conntracktest.Done(r) },
			"of port 4712", 0,
		},
		"unknown type": {
			func(r conntracktest.Request) []byte { return conntracktest.Message(r, 0x0a00, 0, nil) },
			"message type 0xa00", 0,
		},
		"overrun": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, unix.NLMSG_OVERRUN, 0,
				nil)
		}, "message type", 0},
		"acknowledgement": {
			func(r conntracktest.Request) []byte { return conntracktest.Refusal(r, 0) },
			"acknowledgement", 0,
		},
		"error without code": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, unix.NLMSG_ERROR, 0,
				nil)
		}, "error message of 0 bytes", 0},
		"mad error code": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, unix.NLMSG_ERROR, 0, []byte{0, 0, 0, 0x80})
		}, "error number", 0},
		"error at the end": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, unix.NLMSG_DONE, 2, binary.NativeEndian.AppendUint32(nil, ^uint32(unix.ENOMEM)+1))
		}, "cannot allocate memory", 0},
		"short entry": {
			func(r conntracktest.Request) []byte { return conntracktest.Message(r, newEntry, 2, []byte{2}) },
			"malformed", 0,
		},
		"attribute too long": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2, entry(attr(1, 100, 0)))
		}, "malformed", 0},
		"attribute too short": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2, entry(attr(1, 3, 0)))
		}, "malformed", 0},
		"attribute of no size": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2,
				entry(attr(1, 0)))
		}, "malformed", 0},
		"nested lie": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2, entry(nest(1, nest(2, attr(1, 40, 17)))))
		}, "malformed", 0},
		"wide port": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2, entry(vxlanTuple(1, attr(3, 8, 1, 2, 3, 4))))
		}, "malformed", 0},
		"wide protocol": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2, entry(vxlanTuple(1, attr(1, 6, 1, 2))))
		}, "malformed", 0},
		"narrow address": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2, entry(nest(1, nest(1, attr(1, 6, 1, 2)))))
		}, "malformed", 0},
		"narrow status": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2, entry(vxlanTuple(1), attr(3, 6, 1, 2)))
		}, "malformed", 0},
		"narrow id": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2, entry(vxlanTuple(1), attr(12, 5, 1)))
		}, "malformed", 0},
		"narrow zone": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2, entry(vxlanTuple(1), attr(18, 5, 1)))
		}, "malformed", 0},
		"lying reply": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2, entry(vxlanTuple(1), nest(2, attr(1, 9, 1))))
		}, "malformed", 0},
		"lie behind": {func(r conntracktest.Request) []byte {
			return conntracktest.Message(r, newEntry, 2, entry(vxlanTuple(1), attr(3, 90, 1)))
		}, "malformed", 0},
		"IPv6 addresses in an IPv4 entry": {func(r conntracktest.Request) []byte {
			six := make([]byte, 16)
			return conntracktest.Message(r, newEntry, 2,
				entry(nest(1, nest(1, attr(3, 20, six...), attr(4, 20, six...)), nest(2, attr(1, 5, 17), attr(2, 6, 1, 1),
					attr(3, 6, 0x21, 0x18)))))
		}, "malformed", 0},
		"another family": {func(r conntracktest.Request) []byte {
			e := entry(vxlanTuple(1))
			e[0] = 200
			return conntracktest.Message(r, newEntry, 2, e)
		}, "", 0},
		"too large": {func(conntracktest.Request) []byte { return make([]byte, 1<<20) }, "a datagram of", 0},
	} {
		t.Run(name, func(t *testing.T) {
			k := &conntracktest.Kernel{Reply: func(r conntracktest.Request) [][]byte {
				return [][]byte{
					c.reply(r),
					conntracktest.Done(r),
				}
			}}
			s := conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: procfs(t, 5, 64)})
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			var v flows
			_, err := s.Scan(ctx, v4, &v)
			if c.want == "" {
				if err != nil || len(v.all) != c.flows {
					t.Errorf("%d flows, error %v; want %d flows", len(v.all), err, c.flows)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if k.Sockets() != 0 {
				t.Errorf("%d sockets left open after an error", k.Sockets())
			}
		})
	}
}

func patched(b []byte, at int, v uint32) []byte {
	binary.NativeEndian.PutUint32(b[at:], v)
	return b
}

// FuzzReply hands the scanner any two datagrams, with the right address on the first message of each. It must end, with
// an answer or an error, and tell no flow that was not in them. The seeds in testdata/fuzz were recorded from Linux
// 6.18. counted says whether there are entries to be dumped; else it asks for nothing but totals.
func FuzzReply(f *testing.F) {
	r := conntracktest.Request{Type: 0x0101, Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP, Seq: 1, PortID: 4711}
	for _, d := range (&conntracktest.Kernel{Flows: mixed(), PerDatagram: 3}).Answer(r) {
		f.Add(d, conntracktest.Done(r), true)
	}
	f.Add(conntracktest.Refusal(r, unix.EPERM), []byte{}, true)
	f.Add(conntracktest.Refusal(r, unix.EPERM), []byte{}, false)
	f.Add(conntracktest.Message(r, 0x0100, 2, entry(vxlanTuple(1), attr(3, 90, 1))), []byte{}, true)
	full, empty := procfs(f, 5, 64), procfs(f, 0, 64)
	f.Fuzz(func(t *testing.T, one, two []byte, counted bool) {
		k := &conntracktest.Kernel{Reply: func(r conntracktest.Request) [][]byte {
			replies := [][]byte{slices.Clone(one), slices.Clone(two), conntracktest.Done(r)}
			for _, d := range replies[:2] {
				if len(d) >= 16 {
					patched(patched(d, 8, r.Seq), 12, r.PortID)
				}
			}
			if len(two) == 0 {
				replies = slices.Delete(replies, 1, 2)
			}
			return replies
		}}
		proc := full
		if !counted {
			proc = empty
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var v flows
		var stats conntrack.Stats
		var err error
		// Buffers of up to 128 KiB for each of several attempts, and this test's own copies of the datagrams for each.
		bound.Read(t, len(one)+len(two), 64, 2<<20, func() {
			v = flows{}
			stats, err = conntrack.NewScanner(conntrack.Config{Open: k.Open, Proc: proc}).Scan(ctx, v4v6, &v)
		})
		if errors.Is(err, context.DeadlineExceeded) {
			return // a machine that is too busy, or an answer that the fake kernel does not end
		}
		if err == nil && uint64(len(v.all)) > stats.Entries {
			t.Errorf("%d flows of %d entries", len(v.all), stats.Entries)
		}
		if !counted && len(v.all) > 0 {
			t.Errorf("flows in an empty table: %+v", v.all)
		}
		if err != nil && k.Sockets() != 0 {
			t.Errorf("%d sockets left open after an error", k.Sockets())
		}
		for i := range v.all {
			fl := &v.all[i]
			if !fl.Source.IsValid() || !fl.Destination.IsValid() || fl.Destination.Port() != port {
				t.Errorf("flow %+v", fl)
			}
			for _, end := range []netip.AddrPort{fl.Source, fl.Destination, fl.ReplySource, fl.ReplyDestination} {
				said := end.Addr().AsSlice()
				if !bytes.Contains(one, said) && !bytes.Contains(two, said) {
					t.Errorf("%v is in neither datagram", end)
				}
			}
		}
	})
}
