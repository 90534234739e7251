package node

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"vxlan_exporter/internal/kernel/label"
)

// Status says how one collector fared.
type Status = label.Status

// The statuses, as package label explains them.
const (
	OK           = label.OK
	None         = label.None
	Unsupported  = label.Unsupported
	NotPermitted = label.NotPermitted
	Failed       = label.Failed
	Disabled     = label.Disabled
)

// Result is the outcome of one collector in an observation.
type Result struct {
	Status   Status        `json:"status"`
	Error    string        `json:"error,omitempty"` // what was read, from where, and what to do; empty when Status is OK
	Duration time.Duration `json:"duration_ns"`
}

// Succeeded reports whether the collector got an answer that can be relied on. None is such an answer: the node has no
// such thing.
func (r Result) Succeeded() bool { return r.Status == OK || r.Status == None }

// Classify turns an error of a kernel reader into a Status. Readers wrap the errors of the standard library:
// fs.ErrNotExist for a thing that this node lacks, errors.ErrUnsupported for a question this kernel does not know,
// fs.ErrPermission for a refusal (EPERM, EACCES, ENOENT, EOPNOTSUPP and ENOSYS satisfy these by themselves).
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

// NewResult is the Result of a collector that took d and returned err.
func NewResult(err error, d time.Duration) Result {
	r := Result{Status: Classify(err), Duration: d}
	if err != nil {
		r.Error = strings.ReplaceAll(err.Error(), "\n", "; ") // errors.Join separates by newlines
	}
	return r
}
