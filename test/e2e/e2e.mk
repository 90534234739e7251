# From the bad packet to the page; included by the Makefile.

.PHONY: e2e

e2e: deps ## real failures, real Prometheus and Alertmanager, the shipped rules: who is paged, and when (8 minutes, mostly waiting)
	$(GO) test -tags e2e -v -count=1 -timeout 25m ./test/e2e/page
