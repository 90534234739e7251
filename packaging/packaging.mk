# Packages, releases, installation and their tests; included by the Makefile, whose GO, BUILDFLAGS and TOOLS it uses.

NFPM_VERSION := v2.45.2
NFPM         := $(TOOLS)/nfpm-$(NFPM_VERSION)
CYCLONEDX_VERSION := v1.10.0
CYCLONEDX    := $(TOOLS)/cyclonedx-gomod-$(CYCLONEDX_VERSION)
ARCHES       := amd64 arm64
PKG_VERSION   = $(shell VERSION='$(VERSION)' ./packaging/version)
DIST         := dist

.PHONY: package release install uninstall test-packages test-licenses test-install test-install-quick test-units test-vm

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

package: $(BUILT) $(NFPM) $(CYCLONEDX) ## deb, rpm, tar.gz and SBOM for all architectures, in dist
	rm -rf $(DIST)
	set -e; for arch in $(ARCHES); do \
	  NFPM='$(NFPM)' CYCLONEDX='$(CYCLONEDX)' GO='$(GO)' ./packaging/package .cache/build/$$arch/vxlan_exporter $$arch '$(PKG_VERSION)' $(DIST); \
	done

release: package ## all artifacts with SHA256SUMS
	set -e; for arch in $(ARCHES); do ./packaging/check-size .cache/build/$$arch/vxlan_exporter; done
	cd $(DIST) && sha256sum -- *.deb *.rpm *.tar.gz *.cdx.json > SHA256SUMS

test-units: ## what systemd-analyze says of the units
	./packaging/install-deps
	./systemd/check-exposure

test-packages: $(BUILT) $(NFPM) $(CYCLONEDX) ## packages: reproducible, lintian clean, complete
	./packaging/install-deps
	NFPM='$(NFPM)' CYCLONEDX='$(CYCLONEDX)' GO='$(GO)' ./packaging/check-packages '$(PKG_VERSION)' $(ARCHES)

test-licenses: $(BUILT) ## docs/LICENSES.md lists every module of the binaries
	set -e; for binary in $(BUILT); do GO='$(GO)' ./packaging/licenses table $$binary | diff -u docs/LICENSES.md -; done

test-install-quick: $(BUILT) $(NFPM) $(CYCLONEDX) ## install, use, upgrade and remove the deb on a booted Debian 12
	NFPM='$(NFPM)' CYCLONEDX='$(CYCLONEDX)' GO='$(GO)' ./packaging/install-test bookworm

test-install: test-vm ## the same on Debian 11, 12 and 13, the rpms on one of them, and the deb in a virtual machine
	NFPM='$(NFPM)' CYCLONEDX='$(CYCLONEDX)' GO='$(GO)' ./packaging/install-test bookworm bullseye trixie --rpm bullseye

test-vm: $(BUILT) $(NFPM) $(CYCLONEDX) ## the deb on a Debian kernel in QEMU, for what a container cannot show
	set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	  NFPM='$(NFPM)' CYCLONEDX='$(CYCLONEDX)' GO='$(GO)' ./packaging/package .cache/build/amd64/vxlan_exporter amd64 1.0.0 $$tmp; \
	  GOARCH=amd64 $(GO) build -trimpath -o $$tmp/hostile ./packaging/hostile; \
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
