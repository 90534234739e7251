# Tests, in three tiers by what they prove; included by the Makefile, whose GO and BINARY it uses.

.PHONY: test test-system test-load deps deps-system unit race rules-check size e2e prometheus-current rules-check-current grafana-check \
        test-kernels test-kernels-quick test-cluster test-cluster-quick stress test-costs soak fuzz fuzz-smoke bench

# The binary that all tests run. What they skipped, and why, is told at the end.
TESTED  := VXLAN_TEST_EXPORTER=$(CURDIR)/$(BINARY)
SKIPPED := $(CURDIR)/.cache/skipped

test: ## what is certain, in minutes: unit tests, fixtures, the live failure in namespaces, rules, dashboards
	+@GO='$(GO)' SKIPPED=$(SKIPPED) ./test/parts $@ deps build vet unit rules-check size

test-system: ## certain too, but slow: lint, packages, a booted system, a kernel in QEMU, real kube-proxy and flannel, real Prometheus to the page (root)
	+@GO='$(GO)' SKIPPED=$(SKIPPED) ./test/parts $@ deps-system build lint test-units test-packages test-licenses test-image test-chart rules-check-current \
	  grafana-check test-install-quick test-kernels-quick test-cluster-quick e2e

test-load: ## load, churn, soak, fuzzing and benchmarks: they measure and print (root, an idle machine)
	+@GO='$(GO)' SKIPPED=$(SKIPPED) ./test/parts $@ deps build stress test-costs soak fuzz-smoke bench

deps: ## the programs that the tests compare with
	./test/lab/install-deps

deps-system: deps
	./packaging/install-deps
	./grafana/install-deps
	./test/kernels/install-deps

# First tier.

unit:
	$(TESTED) VXLAN_TEST_SKIPPED=$(SKIPPED) $(GO) test -count=1 ./...

rules-check: ## check and test the alert rules and the examples of prometheus/, by Debian's promtool
	./prometheus/check .cache/bin/promtool

size: build
	./packaging/check-size $(BINARY)

race: ## the concurrent parts under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -count=1 ./exporter ./collectors ./internal/kernel/conntrack ./internal/kernel/capture ./internal/guard

# Second tier. Those of packages are in packaging.mk.

e2e: deps build ## real failures, real Prometheus and Alertmanager, the shipped rules and dashboards: who is paged, and when (minutes, mostly waiting)
	$(TESTED) VXLAN_TEST_SKIPPED=$(SKIPPED) $(GO) test -tags e2e -count=1 -timeout 25m -run '$(E2E)' \
	  ./prometheus ./test/lab/monitor ./grafana
	$(TESTED) VXLAN_TEST_SKIPPED=$(SKIPPED) $(GO) test -tags e2e -v -count=1 -timeout 25m ./test/e2e/page

# What is in files with the tag e2e of those packages.
E2E := TestOneCausePagesOnce|TestStack|TestFailingFleet|TestHealthyFleet

prometheus-current: ## build today's Prometheus and Alertmanager; what is made with PROMETHEUS=current runs them: make e2e PROMETHEUS=current
	./prometheus/install-current promtool prometheus alertmanager

ifeq ($(PROMETHEUS),current)
export VXLAN_TEST_PROGRAMS := $(TOOLS)/current
deps: prometheus-current
endif

# The live failure's numbers go through today's promtool, too.
rules-check-current: deps build ## rules-check by today's promtool, which is built first (minutes)
	./prometheus/install-current promtool
	./prometheus/check .cache/bin/current/promtool
	$(TESTED) VXLAN_TEST_PROGRAMS=$(TOOLS)/current $(GO) test -count=1 -run 'TestAlertsOnTheLiveFailure|TestRulesTake' ./prometheus

grafana-check: ## the committed dashboards are what is generated, and fit Grafana's schemas
	./grafana/install-deps
	cd grafana && npm run --silent check
	cd grafana && node build/main.js build/dashboards
	diff -r grafana/dashboards grafana/build/dashboards || { echo 'the dashboards differ from what `make grafana` generates'; exit 1; }

# All kernels, or those named, and of the tests those lines that match: make test-kernels KERNELS='zerosum bookworm' TESTS='selftest|Stall'
test-kernels: build ## the failure and the readers on Debian's kernels and on one that has the zero-checksum bug, in QEMU (root)
	GO='$(GO)' TESTS='$(TESTS)' ./test/kernels/test-kernels ./$(BINARY) $(KERNELS)

test-kernels-quick: build ## the most telling of them on one kernel, Debian 6.1 unless KERNELS says another (root)
	GO='$(GO)' TESTS='$(TESTS)' LIST=test/kernels/tests-quick ./test/kernels/test-kernels ./$(BINARY) $(or $(KERNELS),bookworm)

test-cluster: deps build ## check against real kube-proxy, flannel and CNI plugins, which are built first (minutes; a C compiler, root), every remedy in every cell
	GO='$(GO)' ./test/cluster/build
	$(TESTED) VXLAN_TEST_SKIPPED=$(SKIPPED) $(GO) test -tags cluster -count=1 -timeout 25m ./test/cluster -args \
	  -components $(CURDIR)/.cache/cluster $(if $(ONE),,-every)

test-cluster-quick: ## the same cells, with one of the remedies in each
	+@$(MAKE) --no-print-directory test-cluster ONE=1

# Third tier.

LOAD     ?= 5s
CHURNS   ?= 1500
BUDGET   ?= 10m
SOAK     ?= 5m
FUZZTIME ?= 10m

stress: deps build ## every kind of load for LOAD (5s), CHURNS (1500) devices with the race detector too (needs a C compiler), the budgets for BUDGET (10m)
	$(TESTED) $(GO) test -tags load -count=1 -timeout 80m -v -skip TestSoak ./test/load -args -load $(LOAD) -churns $(CHURNS) -budget $(BUDGET)

test-costs: deps build ## what readers may allocate and compute
	$(TESTED) $(GO) test -tags load -count=1 -v -run Cost ./internal/... ./collectors ./test/e2e

soak: deps build ## memory, goroutines and files stay flat under churn (SOAK=5m)
	$(TESTED) $(GO) test -tags load -count=1 -v -timeout 0 -run TestSoak ./test/load -args -soak $(SOAK)

fuzz: deps ## every fuzz target for FUZZTIME (10m)
	GO='$(GO)' ./test/fuzz/run $(FUZZTIME)

fuzz-smoke: deps ## every fuzz target for 20 seconds
	GO='$(GO)' ./test/fuzz/run 20s

bench: deps build ## paired comparisons of the readers
	$(GO) test -run '^$$' -bench . -benchmem ./internal/kernel/...
	$(GO) run ./test/bench
