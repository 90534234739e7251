// Package grafana holds the dashboards. They are generated from src by `make grafana`; the tests here check the committed JSON, and run
// its queries against a real Prometheus that watches a failing fleet and a healthy one.
package grafana
