package collectors

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// exposition gathers g in the text format.
func exposition(g prometheus.Gatherer) (string, error) {
	families, err := g.Gather()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// series drops the comments from an exposition.
func series(text string) string {
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(text), "\n"),
		func(l string) bool { return strings.HasPrefix(l, "#") })
	return strings.Join(lines, "\n")
}
