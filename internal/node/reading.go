package node

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"
)

// Status says how one reading of the node went. The values are different answers and no consumer may mix them up: zero NATed
// flows, no conntrack on this node, and "could not look" lead to three different conclusions.
type Status string

// The answers a reading can give.
const (
	OK           Status = "ok"            // read completely
	None         Status = "none"          // the node has no such thing (no conntrack in this kernel, no such table)
	Unsupported  Status = "unsupported"   // this kernel cannot tell
	NotPermitted Status = "not_permitted" // the kernel refused: a capability is missing
	Failed       Status = "failed"        // anything else, a missed deadline included
	Disabled     Status = "disabled"      // switched off by a flag
)

// Reading is the outcome of one collector's look at the node.
type Reading struct {
	Status   Status        `json:"status"`
	Error    string        `json:"error,omitempty"` // what was read, from where, and what to do; empty when Status is OK
	Duration time.Duration `json:"duration_ns"`
}

// Succeeded reports whether the reading gave an answer that can be relied on. None is such an answer: the node was asked and has none.
func (r Reading) Succeeded() bool { return r.Status == OK || r.Status == None }

// Classify turns an error of a kernel reader into a Status. Readers wrap the errors of the standard library: fs.ErrNotExist for a
// thing that this node lacks, errors.ErrUnsupported for a question this kernel does not know, fs.ErrPermission for a refusal
// (EPERM, EACCES, ENOENT, EOPNOTSUPP and ENOSYS satisfy these by themselves).
func Classify(err error) Status {
	switch {
	case err == nil:
		return OK
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Failed
	case errors.Is(err, fs.ErrPermission):
		return NotPermitted
	case errors.Is(err, errors.ErrUnsupported):
		return Unsupported
	case errors.Is(err, fs.ErrNotExist):
		return None
	default:
		return Failed
	}
}

// NewReading is the Reading of a look that took d and ended with err.
func NewReading(err error, d time.Duration) Reading {
	r := Reading{Status: Classify(err), Duration: d}
	if err != nil {
		r.Error = strings.ReplaceAll(err.Error(), "\n", "; ") // errors.Join separates by newlines
	}
	return r
}
