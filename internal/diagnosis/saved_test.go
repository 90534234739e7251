package diagnosis

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/fuzz/bound"
)

func save(t testing.TB, n *node.Node) []byte {
	t.Helper()
	b, err := json.Marshal(struct {
		Schema int `json:"schema"`
		Saved
	}{node.Schema, Save(n)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSavedRoundTrip(t *testing.T) {
	for _, c := range allCases() {
		if c.node == nil || c.node.Schema != node.Schema {
			continue
		}
		got, err := ReadSaved(bytes.NewReader(save(t, c.node)))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if want, have := Judge(c.node), Judge(got); !reflect.DeepEqual(want, have) {
			t.Errorf("%s: judged %s (%s) once saved, %s (%s) before", c.name, have.State, have.Headline, want.State,
				want.Headline)
		}
	}
}

func TestReadSavedAcceptsReportsAndUnknownMembers(t *testing.T) {
	n := twice(oldRules(), flows(3, 1))
	report, err := json.Marshal(map[string]any{
		"schema": 1, "diagnosis": Judge(n), "observation": Save(n),
		"added later": []int{1},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadSaved(bytes.NewReader(report))
	if err != nil {
		t.Fatal(err)
	}
	if got.Earlier == nil || Judge(got).State != Failing {
		t.Errorf("got %+v", got)
	}
}

func TestReadSavedRefuses(t *testing.T) {
	good := `{"schema":1,"now":{"schema":1}}`
	if _, err := ReadSaved(strings.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":         "",
		"not JSON":        "healthy",
		"no schema":       `{"now":{"schema":1}}`,
		"a later schema":  `{"schema":2,"now":{"schema":1}}`,
		"a later node":    `{"schema":1,"now":{"schema":2}}`,
		"an old first":    `{"schema":1,"before":{"schema":0},"now":{"schema":1}}`,
		"no node":         `{"schema":1}`,
		"a null node":     `{"schema":1,"now":null}`,
		"an empty report": `{"schema":1,"now":{"schema":1},"observation":{}}`,
		"a second value":  good + good,
		"a wrong type":    `{"schema":1,"now":{"schema":1,"devices":7}}`,
		"a bad address":   `{"schema":1,"now":{"schema":1,"devices":[{"local":"here"}]}}`,
		"a negative port": `{"schema":1,"now":{"schema":1,"ports":[{"port":-1}]}}`,
		"deep nesting":    `{"schema":1,"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `,"now":{"schema":1}}`,
		"a flood of null": `{"schema":1,"now":{"schema":1,"devices":[` + strings.Repeat("null,", 1<<19) + `null]}}`,
		"a flood of {}":   `{"schema":1,"now":{"schema":1,"devices":[` + strings.Repeat("{},", 1<<19) + `{}]}}`,
		"too large":       `{"schema":1,"now":{"schema":1,"hostname":"` + strings.Repeat("a", maxSavedBytes) + `"}}`,
	} {
		if got, err := ReadSaved(strings.NewReader(text)); err == nil ||
			!strings.HasPrefix(err.Error(), "saved observation: ") {
			t.Errorf("%s: %+v, error %v", name, got, err)
		}
	}
}

// The largest node that the limits are made for still fits, and judging it takes no time worth mentioning.
func TestReadSavedOfALargeNode(t *testing.T) {
	n := ordinary(oldRules(), flows(9000, 2))
	d := n.Devices[0]
	for len(d.Features) < 60 {
		d.Features = append(d.Features, on("tx-vlan-stag-hw-insert-and-more"))
	}
	n.Devices = nil
	for range 1000 {
		n.Devices = append(n.Devices, d)
	}
	n.Earlier = new(*n)
	l, err := ReadSaved(bytes.NewReader(save(t, n)))
	if err != nil {
		t.Fatal(err)
	}
	if got := Judge(l); len(got.Exposures) != 2000 || got.State != Failing {
		t.Errorf("%d exposures, %s", len(got.Exposures), got.State)
	}
}

// What passes the limits cannot make the reader use unbounded memory: the worst list of the dearest element stays below
// 256 MiB.
func TestReadSavedMemory(t *testing.T) {
	flood := []byte(`{"schema":1,"now":{"schema":1,"devices":[` + strings.Repeat("null,", maxSavedElements-10) + `null]}}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	l, err := ReadSaved(bytes.NewReader(flood))
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 512<<20 {
		t.Errorf("allocated %d MiB in all", got>>20)
	}
	if len(l.Devices) < maxSavedElements-100 {
		t.Errorf("%d devices", len(l.Devices))
	}
}

func FuzzReadSaved(f *testing.F) {
	for i, c := range allCases() {
		if i%8 != 0 || c.node == nil {
			continue
		}
		f.Add(save(f, c.node))
	}
	if b, err := os.ReadFile("../../cmd/vxlan_exporter/testdata/node.json"); err != nil {
		f.Fatal(err)
	} else {
		f.Add(append(append([]byte(`{"schema":1,"now":`), b...), '}'))
	}
	f.Add([]byte(`{"schema":1,"observation":{"now":{"schema":1,"devices":[{}],"sockets":[{}],"underlays":[{}]}}}`))
	f.Add(
		[]byte(
			`{"schema":1,"before":{"schema":1},"now":{"schema":1,"time":"2026-01-01T00:00:00Z",` +
				`"devices":[{"up":true,"udp_checksum":true}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var l *node.Node
		var err error
		// "[null,null,…]" is the worst: an element of two bytes becomes a struct of a few hundred.
		bound.Read(t, len(data), 2000, 2<<20, func() { l, err = ReadSaved(bytes.NewReader(data)) })
		if err != nil {
			return
		}
		var d Diagnosis
		bound.Read(t, len(data), 10_000, 4<<20, func() { d = Judge(l) })
		if d.Headline == "" || len(d.Exposures) != 2*len(l.Devices) {
			t.Errorf("headline %q, %d exposures of %d devices", d.Headline, len(d.Exposures), len(l.Devices))
		}
		for _, e := range d.Exposures {
			if e.Reason == "" || (e.State == Active && d.State != Failing) {
				t.Errorf("%+v in a node that is %s", e, d.State)
			}
		}
		for _, finding := range d.Findings {
			if finding.Summary == "" || finding.Code == "" {
				t.Errorf("%+v", finding)
			}
		}
		again, err := ReadSaved(bytes.NewReader(save(t, l)))
		if err != nil {
			t.Fatal(err)
		}
		if second := Judge(again); second.State != d.State {
			t.Errorf("%s, and %s once saved again", d.State, second.State)
		}
	})
}

// The largest lists that ReadSaved lets pass are judged.
func TestJudgeOfTheLargestLists(t *testing.T) {
	const many = 20000
	n := longLists(many)
	n.Earlier = new(*n)
	if got := Judge(n); got.State != Failing || len(got.Exposures) != 2*many {
		t.Errorf("%s, %d exposures", got.State, len(got.Exposures))
	}
}

func longLists(many int) *node.Node {
	n := ordinary(oldRules(), flows(9000, 2), noConntrackScan)
	d, r, f := n.Devices[0], n.NATRules.Rulesets[0], n.Conntrack.NATFlows[0]
	f.Destination = f.Source
	n.Devices, n.NATRules.Rulesets, n.Conntrack.NATFlows = nil, nil, nil
	for i := range many {
		d.Name = strconv.Itoa(i)
		n.Devices = append(n.Devices, d)
		n.NATRules.Rulesets = append(n.NATRules.Rulesets, r)
		n.Conntrack.NATFlows = append(n.Conntrack.NATFlows, f)
		n.Sockets = append(n.Sockets, n.Sockets[0])
	}
	return n
}

func noConntrackScan(n *node.Node) { n.Conntrack.Scan = nil }
