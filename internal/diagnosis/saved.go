package diagnosis

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"vxlan_exporter/internal/node"
)

// Limits on a saved observation. A node with 1,000 VXLAN devices of 60 features each, looked at twice, makes about
// 130,000 list elements and 20 MB of JSON.
const (
	maxSavedBytes    = 32 << 20
	maxSavedElements = 1 << 18 // of all lists together: the largest element takes about 300 B
	maxSavedMembers  = 1 << 20 // commas, so members and elements together
	maxSavedDepth    = 32
)

// saved is the form of a saved observation: a bare one, or one wrapped in the report that check --output json writes.
type saved struct {
	Schema      int        `json:"schema"`
	Before      *node.Node `json:"before"`
	Now         *node.Node `json:"now"`
	Observation *Look      `json:"observation,omitempty"`
}

// Write saves a look as JSON, in the form that ReadLook reads.
func (l Look) Write(w io.Writer) error {
	if err := json.NewEncoder(w).Encode(saved{Schema: node.Schema, Before: l.Before, Now: l.Now}); err != nil {
		return fmt.Errorf("saved observation: %w", err)
	}
	return nil
}

// ReadLook reads a saved observation: what Write writes, or the JSON report of the check command. Unknown members are
// skipped, for a newer program may have written them; another schema, a wrong type, or more than the limits is an
// error. The bytes may come from anybody.
func ReadLook(r io.Reader) (Look, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSavedBytes+1))
	if err != nil {
		return Look{}, fmt.Errorf("saved observation: %w", err)
	}
	if len(data) > maxSavedBytes {
		return Look{}, fmt.Errorf("saved observation: larger than %d MiB", maxSavedBytes>>20)
	}
	if err := measure(data); err != nil {
		return Look{}, fmt.Errorf("saved observation: %w", err)
	}
	var s saved
	if err := json.Unmarshal(data, &s); err != nil {
		return Look{}, fmt.Errorf("saved observation: %w (expected what check --output=json writes)", err)
	}
	l := Look{Before: s.Before, Now: s.Now}
	if s.Observation != nil {
		l = *s.Observation
	}
	switch {
	case s.Schema != node.Schema:
		return Look{}, fmt.Errorf("saved observation: schema %d, this program reads schema %d", s.Schema, node.Schema)
	case l.Now == nil:
		return Look{}, errors.New(`saved observation: there is no "now" in it`)
	case l.Now.Schema != node.Schema, l.Before != nil && l.Before.Schema != node.Schema:
		return Look{}, fmt.Errorf("saved observation: the node's schema is not %d", node.Schema)
	}
	return l, nil
}

// measure bounds what a JSON text can make json.Unmarshal allocate: "[null,null,…]" grows 60-fold when its elements are
// structs. It need not understand the text, which is checked afterwards, only never count too little.
func measure(data []byte) error {
	var inList [maxSavedDepth + 1]bool
	depth, elements, members := 0, 0, 0
	quoted := false
	for i := 0; i < len(data); i++ {
		c := data[i]
		switch {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth == maxSavedDepth {
				return fmt.Errorf("nested deeper than %d", maxSavedDepth)
			}
			depth++
			inList[depth] = c == '['
			elements++
		case c == '}' || c == ']':
			depth = max(depth-1, 0)
		case c == ',':
			members++
			if inList[depth] {
				elements++
			}
		}
		if elements > maxSavedElements || members > maxSavedMembers {
			return errors.New("more elements than a node can have")
		}
	}
	return nil
}
