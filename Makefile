# vxlan_exporter: `make run` builds and runs the exporter on this node, `make test` tests it, `make help` lists all targets.

GO       ?= go
BINARY   := vxlan_exporter
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
BRANCH   ?= $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null || echo unknown)
# The commit's date, not today's: the same source gives the same binary.
DATE     ?= $(shell git log -1 --format=%cd --date=format:%Y%m%d-%H:%M:%S 2>/dev/null || echo unknown)
# Where the project lives, as github.com/OWNER/NAME. Not decided: packages, image and chart name it where it is given.
PROJECT  ?=
STAMP    := github.com/prometheus/common/version
LDFLAGS  := -s -w -X $(STAMP).Version=$(VERSION) -X $(STAMP).Revision=$(REVISION) -X $(STAMP).Branch=$(BRANCH) -X $(STAMP).BuildDate=$(DATE)

export CGO_ENABLED = 0

BUILDFLAGS := -trimpath -ldflags '$(LDFLAGS)'

GOLANGCI_VERSION := v2.15.0
TOOLS            := $(CURDIR)/.cache/bin
GOLANGCI         := $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)

.PHONY: all help build run lint fmt vet golden rules grafana grafana-pictures licenses demo clean

all: build

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## static binary in this folder
	@echo 'go build -o $(BINARY) ($(VERSION))'
	@$(GO) build $(BUILDFLAGS) -o $(BINARY) ./cmd/vxlan_exporter

run: build ## build and run the exporter on this node
	./$(BINARY) $(ARGS)

demo: deps build ## the live failure between two namespaces, with an exporter on each side
	$(GO) run ./test/lab/demo --exporter ./$(BINARY)

lint: $(GOLANGCI) ## golangci-lint, which is built first (minutes); make vet is in make test
	$(GOLANGCI) run --allow-parallel-runners

$(GOLANGCI):
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(TOOLS)/golangci-lint $@

fmt: $(GOLANGCI) ## gofumpt and goimports
	$(GOLANGCI) fmt

vet: ## go vet and gofmt
	$(GO) vet -tags 'cluster e2e load' ./...
	@unformatted=$$(gofmt -l $$(find . -name '*.go' -not -path '*/node_modules/*' -not -path './.cache/*')); \
	  [ -z "$$unformatted" ] || { echo "not formatted: $$unformatted"; exit 1; }

golden: ## regenerate the golden exposition
	$(GO) test ./cmd/vxlan_exporter -run "TestGolden|TestMetricsAreDocumented" -update
	$(GO) test ./test/faults -run TestImitatedLinux310$$ -update

rules: ## rules and dashboards for a site, in dist/rules: make rules RUNBOOK_URL=https://… GRAFANA_URL=https://…
	RUNBOOK_URL='$(RUNBOOK_URL)' GRAFANA_URL='$(GRAFANA_URL)' ./prometheus/render $(DIST)/rules

grafana: ## generate the dashboards anew
	./grafana/install-deps
	cd grafana && npm run --silent build

# Minutes long: the failure is played, watched by a real Prometheus. Not part of any test.
grafana-pictures: deps build grafana ## pictures of the dashboards, into docs/images
	./grafana/install-deps pictures
	cd grafana/pictures && node build.mjs
	$(GO) run ./test/lab/scene/play --exporter=./$(BINARY) -- node grafana/pictures/src/collect.mjs grafana/dashboards grafana/pictures/build 5
	./grafana/pictures/render

licenses: build ## write docs/LICENSES.md from the binary
	GO="$(GO)" ./packaging/licenses table $(BINARY) >docs/LICENSES.md

clean: ## delete what was built and downloaded
	rm -rf $(BINARY) dist .cache

include packaging/packaging.mk
include test/test.mk
