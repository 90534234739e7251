package exporter

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"vxlan_exporter/test/fuzz/bound"
)

// FuzzScrapeRequest: whatever timeout and choice of collectors a scraper sends, the observation has a deadline that
// is ahead and bounded.
func FuzzScrapeRequest(f *testing.F) {
	for _, s := range [][2]string{
		{"10", "collect[]=device&collect[]=host"},
		{"1e300", "exclude[]=conntrack"},
		{"-0", "collect[]="},
		{"NaN", "%zz"},
		{"1e-300", ""},
		{"0x1p-2", "collect[]=a;b"},
	} {
		f.Add(s[0], s[1])
	}
	s := &Server{Config: Config{TimeoutOffset: 500 * time.Millisecond}}
	f.Fuzz(func(t *testing.T, header, query string) {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header[timeoutHeader] = []string{header}
		r.URL.RawQuery = query
		bound.Read(t, len(header)+len(query), 64, 0, func() {
			if d := s.timeout(r); d <= 0 || d > MaxTimeout {
				t.Errorf("%q: a timeout of %s", header, d)
			}
			q := r.URL.Query()
			keep := filter(q["collect[]"], q["exclude[]"])
			keep("device")
			if values, err := url.ParseQuery(query); err == nil && len(values) == 0 && !keep("device") {
				t.Errorf("%q leaves the device out", query)
			}
		})
	})
}
