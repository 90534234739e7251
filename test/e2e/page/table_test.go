//go:build e2e

package page_test

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// table is what `make e2e` shows in the end.
func table(sites []*site, took time.Duration) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nscenario\tfirst bad packet → page\tremedy → resolved\talerts (pending only)\twhat happened")
	var times []time.Duration
	for _, c := range sites {
		paged, resolved := "no page", "-"
		if c.result.paged > 0 {
			times = append(times, c.result.paged)
			paged = fmt.Sprintf("%.1f s", c.result.paged.Seconds())
		}
		if c.result.resolved > 0 {
			resolved = fmt.Sprintf("%.0f s", c.result.resolved.Seconds())
		}
		alerts := strings.Join(c.result.alerts, " ")
		if alerts == "" {
			alerts = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", c.name, paged, resolved, alerts, c.result.did)
	}
	w.Flush()
	if len(times) > 0 {
		slices.Sort(times)
		fmt.Fprintf(&b, "\nfirst bad packet → page: %.1f to %.1f s, median %.1f s (%d pages); run of %.0f s\n",
			times[0].Seconds(), times[len(times)-1].Seconds(), times[len(times)/2].Seconds(), len(times), took.Seconds())
	}
	for _, c := range sites {
		if c.failure != nil && c.failure.patience > time.Minute {
			fmt.Fprintf(&b, "%s: the client that waited was served after %.1f s\n", c.name, c.result.stall.Seconds())
		}
	}
	for _, c := range sites {
		if c.result.text != "" {
			fmt.Fprintf(&b, "\nwhat the page of %s says:\n%s", c.name, c.result.text)
			break
		}
	}
	return b.String()
}
