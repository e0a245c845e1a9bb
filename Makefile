# START HERE: make demo, make test. "make help" lists the rest.
SHELL := /bin/bash
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: help build demo demo-down canary test check generate bench soak fuzz install uninstall package vm-test bench-proxy soak-proxy judge

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/maru, installing what is missing
	@scripts/deps.sh build
	@scripts/embed.sh
	@mkdir -p bin
	go build -ldflags "-s -w -X main.version=$(VERSION)" -o bin/built ./cmd/maru
	@cmp -s bin/built bin/maru || install bin/built bin/maru # one that is the same stays as old as it is: results of tests with it are cached

demo: build ## Build Maru, start it, deploy examples/shop on it, and show what becomes of a push
	@scripts/deps.sh demo
	@scripts/demo.sh up

demo-down: ## Stop the demo and remove all that it left
	@scripts/demo.sh down

canary: build ## Take back 50 failing and 50 slow canaries under load, and count whom they hurt (needs root)
	MARU_CANARY_ROLLOUTS=50 go test -count=1 -timeout 3h -v -run 'TestWorseCanary|TestSlowCanary' ./test/end-to-end

test: build ## Run every test, the ones with real containers too (needs root)
	@scripts/deps.sh build
	@scripts/deps.sh test
	@go run ./test/images/pack .cache/images || echo "the images of Debian's packages could not be packed: the tests that need them are skipped"
	@scripts/test.sh

check: ## Formatting, vet, staticcheck, golangci-lint, govulncheck, generated code fresh
	@scripts/deps.sh build
	@scripts/embed.sh
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	go tool staticcheck ./...
	@scripts/lint.sh
	@scripts/generate.sh check

generate: ## Make the API's Go code from its contract
	@scripts/generate.sh

install: ## Put Maru in place under systemd (after make build; PREFIX, DESTDIR)
	@scripts/install.sh install

uninstall: ## Take out what make install put in place; data stays
	@scripts/install.sh uninstall

package: build ## Make the .deb and .tar.gz in dist (VERSION)
	@VERSION="$(VERSION)" scripts/package.sh

vm-test: ## Install, reboot, cut the power of, upgrade and remove Maru in a virtual machine (needs root)
	@scripts/deps.sh build
	@scripts/deps.sh vm
	@scripts/embed.sh
	go test -tags vm -count 1 -timeout 3h -v ./test/vm

bench: build ## Measure Maru against its bars and its peers; BENCH_FLAGS="-runs 5 -only start"
	@scripts/bench.sh $(BENCH_FLAGS)

bench-proxy: ## Measure the proxy beside nginx, HAProxy and Caddy; BENCH_FLAGS="-seconds 10"
	@scripts/deps.sh build
	@scripts/deps.sh bench
	@mkdir -p bin
	go build -o bin/maru-bench-proxy ./test/bench-proxy
	@bin/maru-bench-proxy $(BENCH_FLAGS)

judge: ## Play 10,000 canary rollouts a row and write the table of docs/judge.md; JUDGE_FLAGS="-rollouts 500 -only rare"
	@scripts/deps.sh build
	@mkdir -p bin
	go build -o bin/maru-judge ./test/judge
	@bin/maru-judge $(or $(JUDGE_FLAGS),-page docs/judge.md)

soak: build ## The long tests: 1,000 kill rounds, each crash point thrice, 4,000,000 lines of logs
	@scripts/soak.sh

soak-proxy: ## A day's worth of requests at 100/s through proxies that take over from each other; MARU_REQUESTS
	@scripts/deps.sh build
	MARU_REQUESTS=$${MARU_REQUESTS:-8640000} MARU_SECONDS=$${MARU_SECONDS:-60} MARU_TIMINGS=1 go test -count 1 -timeout 3h -v -run 'TestEndurance|TestChangesUnderLoad' ./traffic

fuzz: ## Fuzz every decoder, 10 minutes in all; FUZZ_SECONDS changes that
	@scripts/fuzz.sh
