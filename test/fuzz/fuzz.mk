# Fuzzing of everything that reads bytes from outside; included by the Makefile, whose GO it uses.

FUZZTIME ?= 10m

.PHONY: fuzz fuzz-smoke

fuzz: deps ## every fuzz target for FUZZTIME (10m)
	GO='$(GO)' ./test/fuzz/run $(FUZZTIME)

# At a low priority: it runs beside tests that know a clock.
fuzz-smoke: deps ## every fuzz target for 20 seconds
	GO='$(GO)' nice -n 10 ./test/fuzz/run 20s

