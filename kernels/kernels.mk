# Tests on other kernels than the machine's own; included by the Makefile, whose GO and BINARY it uses.

.PHONY: test-kernels

# All of them, or those named, and of the tests those lines that match: make test-kernels KERNELS='zerosum bookworm' TESTS='selftest|Stall'
test-kernels: build ## the failure and the readers on Debian's kernels and on one that has the zero-checksum bug, in QEMU (root)
	GO='$(GO)' TESTS='$(TESTS)' ./kernels/test-kernels ./$(BINARY) $(KERNELS)
