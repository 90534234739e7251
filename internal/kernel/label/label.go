// Package label holds the words that several packages write into labels and into a saved observation.
package label

// Address families.
const (
	IPv4 = "ipv4"
	IPv6 = "ipv6"
)

// Status says how reading something went. The values are different answers and no consumer may mix them up: zero NATed
// flows, no conntrack on this node, and "not permitted" lead to three different conclusions.
type Status string

// The statuses.
const (
	OK           Status = "ok"            // read completely
	None         Status = "none"          // the node has no such thing (no conntrack in this kernel, no such table)
	Unsupported  Status = "unsupported"   // this kernel cannot tell
	NotPermitted Status = "not_permitted" // the kernel refused: a capability is missing
	Failed       Status = "failed"        // anything else, a missed deadline included
	Disabled     Status = "disabled"      // switched off by a flag
)
