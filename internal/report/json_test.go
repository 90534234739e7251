package report

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"vxlan_exporter/internal/diagnosis"
)

func TestJSONIsReadBack(t *testing.T) {
	for name, n := range observations() {
		var b bytes.Buffer
		want := diagnosis.Judge(n)
		if err := JSON(&b, n, want); err != nil {
			t.Fatal(err)
		}
		var report struct {
			Schema    int
			Diagnosis diagnosis.Diagnosis
		}
		if err := json.Unmarshal(b.Bytes(), &report); err != nil {
			t.Fatal(err)
		}
		if report.Schema != 1 || !reflect.DeepEqual(report.Diagnosis, want) {
			t.Errorf("%s: the report has %+v", name, report)
		}
		back, err := diagnosis.ReadSaved(&b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := diagnosis.Judge(back); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: judged %s once read back", name, got.State)
		}
	}
}
