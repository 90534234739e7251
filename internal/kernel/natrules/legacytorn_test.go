package natrules_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/kerneltest"
	"vxlan_exporter/internal/kernel/natrules"
)

// replaced is a kernel whose table is replaced by one of another size between the two questions, so many times.
type replaced struct {
	natrules.LegacySocket
	times, asked *int
}

func (r replaced) Getsockopt(option int, b []byte) error {
	if option == 65 { // IPT_SO_GET_ENTRIES
		if *r.asked++; *r.asked <= *r.times {
			return unix.EAGAIN
		}
	}
	return r.LegacySocket.Getsockopt(option, b)
}

// TestLegacyReplaced: kube-proxy replaces the table while it is read. It is read again, three times in all, and no socket is left.
func TestLegacyReplaced(t *testing.T) {
	for times := range 4 {
		k, asked := kerneltest.New(), 0
		proc := kerneltest.NewProc(t, "../../../collectors/testdata/proc-6.18")
		proc.Write("net/ip_tables_names", "nat\n")
		reader := natrules.NewReader(natrules.Config{
			Proc: proc.Root, Sys: proc.Root, Boot: proc.Root, Modules: proc.Root, OpenNFTables: k.OpenNFTables,
			OpenLegacy: func(ipv6 bool) (natrules.LegacySocket, error) {
				s, err := k.OpenLegacy(ipv6)
				return replaced{s, &times, &asked}, err
			},
		})
		s, err := reader.Read(t.Context(), natrules.Input{Ports: []natrules.Port{{Port: 8472, IPv4: true}}})
		want := natrules.Ruleset{Status: "ok", MarkState: natrules.MarkKept}
		if times == 3 {
			want = natrules.Ruleset{Status: "failed", MarkState: natrules.MarkUnknown}
		}
		if errors.Is(err, unix.EAGAIN) != (times == 3) || asked != min(times+1, 3) {
			t.Errorf("replaced %d times: %d readings, %v", times, asked, err)
		}
		for _, r := range s.Rulesets {
			if r.Backend == natrules.Legacy && r.Family == "ipv4" && (r.Status != want.Status || r.MarkState != want.MarkState) {
				t.Errorf("replaced %d times: %+v", times, r)
			}
		}
		if len(s.Rulesets) != 4 || len(k.Sockets()) != 0 {
			t.Errorf("replaced %d times: %d rulesets, open sockets %v", times, len(s.Rulesets), k.Sockets())
		}
	}
}
