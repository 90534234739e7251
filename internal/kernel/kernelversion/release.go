// Package kernelversion judges, from a kernel's release strings alone, whether NAT on that kernel spoils outer VXLAN
// checksums.
package kernelversion

// Info identifies a kernel and its distribution.
type Info struct {
	Release string            `json:"release"`           // uname -r
	Version string            `json:"version"`           // uname -v
	Machine string            `json:"machine,omitempty"` // uname -m
	OS      map[string]string `json:"os,omitempty"`      // /etc/os-release: ID, VERSION_ID, PRETTY_NAME
}

// Verdict is what the release says of one variant of the bug.
type Verdict struct {
	Verdict string `json:"verdict"` // Affected, Fixed or Unknown
	Reason  string `json:"reason"`  // one sentence: which rule of the table applied, or why none does
	Source  string `json:"source,omitempty"`
}

// The verdicts.
const (
	Affected = "affected"
	Fixed    = "fixed"
	Unknown  = "unknown"
)
