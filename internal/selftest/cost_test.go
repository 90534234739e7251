//go:build load

package selftest

import (
	"testing"
	"time"
)

// TestRunCost holds the self-test to what the README promises.
func TestRunCost(t *testing.T) {
	start := time.Now()
	if _, err := Run(t.Context(), "/proc"); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v, more than 5 s", d)
	}
}
