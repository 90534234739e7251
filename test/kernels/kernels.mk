# Tests on other kernels than the machine's own; included by the Makefile, whose GO and BINARY it uses.

.PHONY: test-kernels test-kernels-quick

# All of them, or those named, and of the tests those lines that match: make test-kernels KERNELS='zerosum bookworm' TESTS='selftest|Stall'
test-kernels: build ## the failure and the readers on Debian's kernels and on one that has the zero-checksum bug, in QEMU (root)
	GO='$(GO)' TESTS='$(TESTS)' ./test/kernels/test-kernels ./$(BINARY) $(KERNELS)

test-kernels-quick: build ## the most telling of them on one kernel, Debian 6.1 unless KERNELS says another (root)
	GO='$(GO)' TESTS='$(TESTS)' LIST=test/kernels/tests-quick ./test/kernels/test-kernels ./$(BINARY) $(or $(KERNELS),bookworm)
