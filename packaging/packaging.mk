# Packages, releases, installation and their tests; included by the Makefile, whose GO, BUILDFLAGS and TOOLS it uses.

NFPM_VERSION := v2.45.2
NFPM         := $(TOOLS)/nfpm-$(NFPM_VERSION)
CYCLONEDX_VERSION := v1.10.0
CYCLONEDX    := $(TOOLS)/cyclonedx-gomod-$(CYCLONEDX_VERSION)
ARCHES       := amd64 arm64
PKG_VERSION   = $(shell VERSION='$(VERSION)' ./packaging/version)
DIST         := dist

# The image's name in a registry, in which the chart looks for it. localhost: in no registry.
IMAGE        ?= $(if $(PROJECT),ghcr.io/$(word 2,$(subst /, ,$(PROJECT)))/vxlan-exporter,localhost/vxlan-exporter)
HELM_VERSION := v3.22.0
HELM         := $(TOOLS)/helm-$(HELM_VERSION)
export HOMEPAGE := $(if $(PROJECT),https://$(PROJECT))
# Alerts and dashboards that are published lead to the runbook of their commit.
RUNBOOK_URL  ?= $(if $(PROJECT),https://$(PROJECT)/blob/$(REVISION)/docs/RUNBOOK.md)
package chart: export RUNBOOK_URL := $(RUNBOOK_URL)

.PHONY: package image chart manifests release install uninstall test-image test-chart test-kubernetes test-packages test-licenses test-install test-install-quick test-units test-vm

# The build directory is under .cache, so that dist holds nothing but what is published.
BUILT := $(foreach arch,$(ARCHES),.cache/build/$(arch)/vxlan_exporter)

.PHONY: $(BUILT)
$(BUILT): .cache/build/%/vxlan_exporter:
	@echo 'go build -o $@ ($(VERSION))'
	@GOOS=linux GOARCH=$* $(GO) build $(BUILDFLAGS) -o $@ ./cmd/vxlan_exporter

$(NFPM):
	GOBIN=$(TOOLS) $(GO) install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)
	mv $(TOOLS)/nfpm $@

$(CYCLONEDX):
	GOBIN=$(TOOLS) $(GO) install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CYCLONEDX_VERSION)
	mv $(TOOLS)/cyclonedx-gomod $@

$(HELM):
	GOBIN=$(TOOLS) $(GO) install helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)
	mv $(TOOLS)/helm $@

image: $(BUILT) $(CYCLONEDX) ## OCI image of all architectures with its SBOMs, in dist; no daemon
	CYCLONEDX='$(CYCLONEDX)' GO='$(GO)' ARCHES='$(ARCHES)' IMAGE='$(IMAGE)' ./packaging/image '$(PKG_VERSION)' $(DIST)

chart: $(HELM) ## Helm chart, and what it renders for kubectl, in dist
	set -e; chart=$$(IMAGE='$(IMAGE)' ./packaging/chart '$(PKG_VERSION)' $(DIST)); echo "$$chart"; for part in plain monitoring; do \
	  HELM='$(HELM)' ./packaging/manifests "$$chart" $$part >"$${chart%.tgz}.$$part.yaml"; \
	done

manifests: $(HELM) ## render packaging/kubernetes and the chart's golden files anew
	$(GO) test -tags cluster -count=1 -run TestRenders ./test/kubernetes -args -update -helm $(HELM)

package: $(BUILT) $(NFPM) $(CYCLONEDX) ## deb, rpm, tar.gz and SBOM for all architectures, in dist
	rm -rf $(DIST)
	set -e; for arch in $(ARCHES); do \
	  NFPM='$(NFPM)' CYCLONEDX='$(CYCLONEDX)' GO='$(GO)' ./packaging/package .cache/build/$$arch/vxlan_exporter $$arch '$(PKG_VERSION)' $(DIST); \
	done

release: package image chart ## packages, tarballs, image, chart, manifests, SBOMs and SHA256SUMS: make release PROJECT=github.com/OWNER/NAME
	set -e; for arch in $(ARCHES); do ./packaging/check-size .cache/build/$$arch/vxlan_exporter; done
	rm -f $(DIST)/SHA256SUMS && cd $(DIST) && sha256sum -- *.deb *.rpm *.tar.gz *.cdx.json *.oci.tar *.tgz *.yaml >SHA256SUMS

test-units: ## what systemd-analyze says of the units
	./packaging/install-deps
	./systemd/check-exposure

test-packages: $(BUILT) $(NFPM) $(CYCLONEDX) ## packages: reproducible, lintian clean, complete
	./packaging/install-deps
	NFPM='$(NFPM)' CYCLONEDX='$(CYCLONEDX)' GO='$(GO)' ./packaging/check-packages '$(PKG_VERSION)' $(ARCHES)

test-image: build image ## the image: reproducible, small, and in a container runtime beside the live failure (root)
	./packaging/install-deps
	CYCLONEDX='$(CYCLONEDX)' GO='$(GO)' ARCHES='$(ARCHES)' IMAGE='$(IMAGE)' TZ=Asia/Tokyo ./packaging/image '$(PKG_VERSION)' .cache/image
	cmp $(DIST)/vxlan-exporter-$(PKG_VERSION).oci.tar .cache/image/vxlan-exporter-$(PKG_VERSION).oci.tar
	$(TESTED) VXLAN_TEST_SKIPPED=$(SKIPPED) $(GO) test -tags cluster -count=1 -run TestImage ./test/kubernetes -args \
	  -image $(CURDIR)/$(DIST)/vxlan-exporter-$(PKG_VERSION).oci.tar

test-chart: build $(HELM) ## the chart, by Helm, which is built first (minutes)
	$(TESTED) $(GO) test -tags cluster -count=1 -v -skip "TestAPIServer|TestImage" ./test/kubernetes -args -helm $(HELM)

test-kubernetes: build $(HELM) ## what the chart renders on a real API server with the Prometheus operator's resources, built first (10 CPU minutes)
	GO='$(GO)' ./test/kubernetes/build
	$(TESTED) $(GO) test -tags cluster -count=1 -v -run TestAPIServer ./test/kubernetes -args -helm $(HELM) \
	  -programs $(CURDIR)/.cache/kubernetes -operator $(CURDIR)/.cache/kubernetes/operator

test-licenses: $(BUILT) ## docs/LICENSES.md lists every module of the binaries
	set -e; for binary in $(BUILT); do GO='$(GO)' ./packaging/licenses table $$binary | diff -u docs/LICENSES.md -; done

test-install-quick: $(BUILT) $(NFPM) $(CYCLONEDX) ## install, use, upgrade and remove the deb on a booted Debian 12
	NFPM='$(NFPM)' CYCLONEDX='$(CYCLONEDX)' GO='$(GO)' ./packaging/install-test bookworm

test-install: test-vm ## the same on Debian 11, 12 and 13, the rpms on one of them, and the deb in a virtual machine
	NFPM='$(NFPM)' CYCLONEDX='$(CYCLONEDX)' GO='$(GO)' ./packaging/install-test bookworm bullseye trixie --rpm bullseye

test-vm: $(BUILT) $(NFPM) $(CYCLONEDX) ## the deb on a Debian kernel in QEMU, for what a container cannot show
	set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	  NFPM='$(NFPM)' CYCLONEDX='$(CYCLONEDX)' GO='$(GO)' ./packaging/package .cache/build/amd64/vxlan_exporter amd64 1.0.0 $$tmp; \
	  GOARCH=amd64 $(GO) build -trimpath -o $$tmp/hostile ./test/hostile; \
	  ./packaging/boot/vm-test $$tmp/*_amd64.deb $$tmp/hostile

# Installation from source. PREFIX and DESTDIR as usual; the units go where systemd looks for those of local programs.
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR    ?= $(PREFIX)/lib/systemd/system
INSTALL_TO := PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' UNITDIR='$(UNITDIR)' DESTDIR='$(DESTDIR)'

install: build ## install below PREFIX (/usr/local); nothing is started
	$(INSTALL_TO) ./packaging/install $(BINARY)

uninstall: ## remove what install installed; a settings file that was edited stays
	$(INSTALL_TO) ./packaging/install --remove
