# Alert rules and their examples; included by the Makefile.

PROMTOOL := .cache/bin/promtool
AMTOOL   := .cache/bin/amtool
ROUTES    = $(AMTOOL) config routes test --config.file=prometheus/alertmanager.yml

.PHONY: rules-check

rules-check: deps ## check and test the alert rules and the examples of prometheus/
	$(PROMTOOL) check rules prometheus/rules/*.yml
	$(PROMTOOL) check config prometheus/prometheus.yml
	$(PROMTOOL) test rules prometheus/tests/*.yml
	$(AMTOOL) check-config prometheus/alertmanager.yml
	$(ROUTES) --verify.receivers=page severity=critical cause=outer_nat
	$(ROUTES) --verify.receivers=ticket severity=warning cause=exporter
	$(ROUTES) --verify.receivers=nobody severity=info cause=outer_nat
	$(ROUTES) --verify.receivers=ticket alertname=Other
