# Load, churn and soak; included by the Makefile, whose GO and BUILT it uses.

LOAD   ?= 60s
CHURNS ?= 10000
SOAK   ?= 30m

.PHONY: stress-smoke test-stress stress soak licenses test-licenses

stress-smoke: deps ## load of 2 seconds each, and 400 devices (a minute; in make test)
	$(GO) test -tags load -count=1 -timeout 5m -run 'TestLoad|TestChurn/as_shipped' ./test/load -args -load 2s -churns 400

test-stress: deps ## load of 5 seconds each, and 1,500 devices, with the race detector too (needs a C compiler; five minutes; not beside other tests)
	$(GO) test -tags load -count=1 -timeout 10m ./test/load

stress: deps ## load of a minute each, and 10,000 devices (LOAD, CHURNS)
	$(GO) test -tags load -count=1 -timeout 60m -v ./test/load -args -load $(LOAD) -churns $(CHURNS)

soak: deps build ## memory, goroutines and files stay flat under churn (SOAK=30m)
	$(GO) run ./test/lab/soak --exporter ./$(BINARY) --duration $(SOAK)

licenses: $(BUILT) ## write docs/LICENSES.md from the binary
	GO="$(GO)" ./packaging/licenses table $(firstword $(BUILT)) >docs/LICENSES.md

test-licenses: $(BUILT) ## docs/LICENSES.md lists every module of the binaries
	set -e; for binary in $(BUILT); do GO="$(GO)" ./packaging/licenses table $$binary | diff -u docs/LICENSES.md -; done
