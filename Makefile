# vxlan_exporter: `make run` builds and runs the exporter on this node, `make test` installs what the tests need and runs them all.

GO       ?= go
BINARY   := vxlan_exporter
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
BRANCH   ?= $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null || echo unknown)
# The commit's date, not today's: the same source gives the same binary.
DATE     ?= $(shell git log -1 --format=%cd --date=format:%Y%m%d-%H:%M:%S 2>/dev/null || echo unknown)
STAMP    := github.com/prometheus/common/version
LDFLAGS  := -s -w -X $(STAMP).Version=$(VERSION) -X $(STAMP).Revision=$(REVISION) -X $(STAMP).Branch=$(BRANCH) -X $(STAMP).BuildDate=$(DATE)

export CGO_ENABLED = 0

BUILDFLAGS := -trimpath -ldflags '$(LDFLAGS)'

GOLANGCI_VERSION := v2.15.0
TOOLS            := $(CURDIR)/.cache/bin
GOLANGCI         := $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)

.PHONY: all build run test test-busy test-pages test-steady unit race lint demo bench golden deps fmt clean

all: build

build: ## static binary in this folder
	@echo 'go build -o $(BINARY) ($(VERSION))'
	@$(GO) build $(BUILDFLAGS) -o $(BINARY) ./cmd/vxlan_exporter

run: build ## build and run the exporter on this node
	./$(BINARY) $(ARGS)

# Root: the tests make network namespaces, boot containers and, in QEMU, a kernel. What mostly waits runs beside what mostly computes.
test: deps build lint ## install what the tests need, and run them all
	./packaging/install-deps
	./grafana/install-deps
	./test/kernels/install-deps
	+$(MAKE) --no-print-directory -j3 -Otarget test-busy test-pages test-steady
	./packaging/check-size $(BINARY)
	@echo "make test: all passed"

# Three lanes, each one after the other. What loads the machine itself comes when the first lane is at fuzzing, which knows no clock.
test-busy:   LANE := unit rules-check grafana-check test-units test-packages test-licenses test-install-quick fuzz-smoke
test-pages:  LANE := e2e test-kernels-quick
test-steady: LANE := soak stress-smoke
test-steady: export SOAK = 5m

test-busy test-pages test-steady:
	+set -e; for target in $(LANE); do $(MAKE) --no-print-directory $$target; done

race: ## the concurrent parts under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -count=1 ./exporter ./collectors ./internal/kernel/conntrack ./internal/kernel/capture ./internal/guard

unit:
	$(GO) test -count=1 ./...

lint: $(GOLANGCI)
	$(GO) vet ./...
	$(GOLANGCI) run --allow-parallel-runners

$(GOLANGCI):
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(TOOLS)/golangci-lint $@

demo: deps build ## the live failure between two namespaces, with an exporter on each side
	$(GO) run ./test/lab/rig demo --exporter ./$(BINARY)

bench: deps build ## paired comparisons of the readers
	$(GO) test -run '^$$' -bench . -benchmem ./internal/kernel/...
	$(GO) run ./test/bench

golden: ## regenerate the golden exposition
	$(GO) test ./cmd/vxlan_exporter -run 'TestGolden|TestMetricsAreDocumented|TestImitatedLinux310$$' -update

deps: ## the programs that the tests compare with
	./test/lab/install-deps

fmt: $(GOLANGCI)
	$(GOLANGCI) fmt

clean:
	rm -rf $(BINARY) dist .cache

include packaging/packaging.mk
include prometheus/prometheus.mk
include test/fuzz/fuzz.mk
include grafana/grafana.mk
include test/e2e/e2e.mk
include test/kernels/kernels.mk
include test/load/load.mk
