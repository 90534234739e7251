package report

import (
	"encoding/json"
	"fmt"
	"io"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

// JSON writes the diagnosis with the observation it rests on. diagnosis.ReadSaved reads the observation back, so a
// report can be sent to somebody and judged again there.
func JSON(w io.Writer, n *node.Node, d diagnosis.Diagnosis) error {
	return writeJSON(w, struct {
		Schema      int                 `json:"schema"`
		Diagnosis   diagnosis.Diagnosis `json:"diagnosis"`
		Observation diagnosis.Saved     `json:"observation"`
	}{node.Schema, d, diagnosis.Save(n)})
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
