// Package grafana holds the dashboards, which `make grafana` generates from src, and the tests of the committed JSON:
// that Grafana can import it, and that every query, as Grafana sends it, has an answer of a real Prometheus.
package grafana
