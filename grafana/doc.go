// Package grafana holds the dashboards, which `make grafana` generates from src, and reads the committed JSON: what
// each query asks when Grafana sends it. The tests hold it against what Grafana can import, and run every query against
// a real Prometheus.
package grafana
