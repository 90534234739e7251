.PHONY: bench-wire

bench-wire: ## what the packet probe costs, in paired rounds; about 12 minutes, as root, on an idle machine
	$(GO) run ./test/bench/wire
