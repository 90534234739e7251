# Alert rules and their examples; included by the Makefile.

.PHONY: rules rules-check bench-rules

rules: ## the alert rules for a site, in dist/rules: make rules RUNBOOK_URL=https://… GRAFANA_URL=https://…
	RUNBOOK_URL='$(RUNBOOK_URL)' GRAFANA_URL='$(GRAFANA_URL)' ./prometheus/render $(DIST)/rules

rules-check: deps ## check and test the alert rules and the examples of prometheus/
	./prometheus/check

# On a machine that does nothing else: a busy one would measure itself.
bench-rules: deps ## what the rules cost with 5,000 nodes in a real Prometheus (a quarter of an hour)
	$(GO) run ./bench/rules $(ARGS)
