package report

import (
	"encoding/json"
	"fmt"
	"io"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

// JSON writes the diagnosis with the observation it rests on. diagnosis.ReadLook reads the observation back, so a
// report can be sent to somebody and judged again there.
func JSON(w io.Writer, l diagnosis.Look, d diagnosis.Diagnosis) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(struct {
		Schema      int                 `json:"schema"`
		Diagnosis   diagnosis.Diagnosis `json:"diagnosis"`
		Observation diagnosis.Look      `json:"observation"`
	}{node.Schema, d, l})
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
