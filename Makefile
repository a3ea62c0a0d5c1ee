# Each target is a line or three; what is longer lies in scripts/.
.DEFAULT_GOAL := help
FUZZTIME ?= 30s
RACE := ./shmem ./wksp ./tile/... ./httpsrv/... ./cmd/tilewire/control ./cmd/tilewire/echo ./cmd/tilewire/feed ./cmd/tilewire/instance ./cmd/tilewire/swarm
# -p 1: the packages of timing take turns, there are but two CPUs.
GOTEST := go test -p 1

.PHONY: help build try test quick race conformance explore stress survive fuzz abuse browser bench bench-quick bench-diff generate lint clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/tilewire, bin/jsonrpc
	go build -o bin/tilewire ./cmd/tilewire
	go build -o bin/jsonrpc ./cmd/jsonrpc

try: build ## build, and run the main job: a command's lines to every browser
	scripts/try.sh

test: ## everything that CI runs: lint, all tests, race, explore, browser
	@scripts/test.sh

quick: ## the tests only, without race detector, explore and browser
	$(GOTEST) ./...

race: ## tests on heap memory under the race detector
	$(GOTEST) -race $(RACE)

conformance: ## Autobahn's cases of sections 1 to 7, 9 and 10 against tilewire echo, with a table
	$(GOTEST) -count=1 -v -run 'Conformance$$|Limits$$' ./cmd/tilewire/echo

explore: ## deaths before every store, interleavings of shared memory, httpsrv on a simulated kernel, rules broken one by one
	$(GOTEST) -count=1 -tags explore ./wksp
	$(GOTEST) -count=1 -tags explore -run 'Explore|Kill|Die|Rule' ./httpsrv

stress: ## processes, slow clients, kills and a small ring, every byte verified
	TILEWIRE_STRESS=full $(GOTEST) -count=1 -v -timeout 20m -run Stress ./httpsrv ./tile

survive: build ## hundreds of kills of the network tile beside 300 clients that verify every byte, two minutes (docs/survive.md)
	go run ./scripts/survive
	go build -tags explore -o bin/tilewire-explore ./cmd/tilewire
	go run ./scripts/survive -program bin/tilewire-explore -moments -bound 0
	! go run ./scripts/survive -program bin/tilewire-explore -moments -bound 0 -plan-only

fuzz: ## every fuzz target for FUZZTIME (30s) each
	@scripts/fuzz.sh $(FUZZTIME)

abuse: build ## attacks on a real server beside good clients, two minutes (docs/hostile.md)
	go run ./scripts/abuse

browser: ## the live page in a real Chromium; screenshots in bin/screenshots
	scripts/browser.sh

bench: ## everything side by side: about an hour, results to docs/bench
	scripts/bench.sh

bench-quick: ## a few of its cases, some minutes
	scripts/bench.sh --quick

bench-diff: ## micro-benchmarks of this tree against REF=...
	scripts/bench-diff.sh $(REF)

generate: ## the BPF program of httpsrv/steer anew (needs clang, llvm, libbpf-dev; what it makes is committed)
	scripts/generate.sh

lint: ## gofmt, vet, shellcheck and staticcheck where they are to be had
	@scripts/lint.sh

clean: ## remove what builds and tests leave
	rm -rf bin scripts/browser/node_modules
