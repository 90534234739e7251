# Alert rules and their examples; included by the Makefile.

.PHONY: rules rules-check prometheus-current

rules: ## the alert rules for a site, in dist/rules: make rules RUNBOOK_URL=https://… GRAFANA_URL=https://…
	RUNBOOK_URL='$(RUNBOOK_URL)' GRAFANA_URL='$(GRAFANA_URL)' ./prometheus/render $(DIST)/rules

# The live failure's numbers go through today's promtool, too; target unit has Debian's.
rules-check: deps ## check and test the alert rules and the examples of prometheus/, by Debian's promtool and by today's
	./prometheus/install-current promtool
	./prometheus/check
	VXLAN_TEST_PROGRAMS=$(TOOLS)/current $(GO) test -count=1 -run 'TestAlertsOnTheLiveFailure|TestRulesTake' ./prometheus

prometheus-current: ## build today's Prometheus and Alertmanager; what is made with PROMETHEUS=current runs them: make e2e PROMETHEUS=current
	./prometheus/install-current promtool prometheus alertmanager

ifeq ($(PROMETHEUS),current)
export VXLAN_TEST_PROGRAMS := $(TOOLS)/current
deps: prometheus-current
endif

