package diagnosis

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"vxlan_exporter/internal/node"
)

// Limits on a saved observation. A node with 1,000 VXLAN devices of 60 features each, observed twice, makes about
// 130,000 list elements and 20 MB of JSON.
const (
	maxSavedBytes    = 32 << 20
	maxSavedElements = 1 << 18 // of all lists together: the largest element takes about 300 B
	maxSavedMembers  = 1 << 20 // commas, so members and elements together
	maxSavedDepth    = 32
)

// Saved is the form of a saved observation: the earlier one stands beside it.
type Saved struct {
	Before *node.Node `json:"before"` // nil: one observation only, so counters have no rates
	Now    *node.Node `json:"now"`
}

// Save gives an observation the form in which ReadSaved reads it.
func Save(n *node.Node) Saved {
	now := *n
	now.Earlier = nil
	return Saved{n.Earlier, &now}
}

// ReadSaved reads a saved observation: a bare one, or one wrapped in the JSON report of the check command. Unknown
// members are skipped, for a newer program may have written them; another schema, a wrong type, or more than the limits
// is an error. The bytes may come from anybody.
func ReadSaved(r io.Reader) (*node.Node, error) {
	n, err := readSaved(r)
	if err != nil {
		return nil, fmt.Errorf("saved observation: %w", err)
	}
	return n, nil
}

func readSaved(r io.Reader) (*node.Node, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSavedBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSavedBytes {
		return nil, fmt.Errorf("larger than %d MiB", maxSavedBytes>>20)
	}
	if err := measure(data); err != nil {
		return nil, err
	}
	var s struct {
		Schema int
		Saved
		Observation *Saved
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%w (expected what check --output=json writes)", err)
	}
	if s.Observation != nil {
		s.Saved = *s.Observation
	}
	switch {
	case s.Schema != node.Schema:
		return nil, fmt.Errorf("schema %d, this program reads schema %d", s.Schema, node.Schema)
	case s.Now == nil:
		return nil, errors.New(`there is no "now" in it`)
	case s.Now.Schema != node.Schema, s.Before != nil && s.Before.Schema != node.Schema:
		return nil, fmt.Errorf("the node's schema is not %d", node.Schema)
	}
	if s.Before != nil {
		s.Now.Earlier = s.Before
	}
	return s.Now, nil
}

// measure bounds what a JSON text can make json.Unmarshal allocate: "[null,null,…]" grows 60-fold when its elements
// are structs. It need not understand the text, which is checked afterwards, only never count too little.
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
