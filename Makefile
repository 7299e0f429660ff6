# murmuration: two commands matter, `make demo` and `make test`. Each sets up what a machine with Go,
# npm and apt lacks.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help

BIN    := bin
LOADER := $(BIN)/loader
ENGINE := node_modules/@chdb/lib-linux-x64-gnu/libchdb.so
LINT_VERSION := v2.15.0
LINT   := $(BIN)/golangci-lint-$(LINT_VERSION)
GO     := CGO_ENABLED=0 go
# One package at a time: most packages start an engine of their own, and two cores are not many.
TESTFLAGS ?= -p 1 -count=1 -timeout 20m
FUZZTIME  ?= 20s
SAMPLE := ../shared/data/real-scanners

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

build: engine ## build bin/loader and install the engine's library where it finds it
	@mkdir -p $(BIN)
	$(GO) build -trimpath -o $(LOADER) ./cmd/loader

engine: $(ENGINE)
$(ENGINE): package.json package-lock.json .npmrc
	npm ci --no-audit --no-fund
	@touch $(ENGINE)

demo: build ## load a real capture, find its campaigns, ask three questions
	@demo/run

# What the machine cannot give (the public sample beside the clone, the right to mount) is skipped here and fails with CI set.
test: engine lint vet ## everything: linters, every test against the real engine, the commands as a user runs them
	@test -d $(SAMPLE) || echo "note: the public sample is not at $(SAMPLE): the tests on it are skipped"
	$(GO) test $(TESTFLAGS) ./...

vet:
	$(GO) vet ./...
	@test -z "$$(gofmt -l cmd pkg sql deploy)" || { echo "not gofmt'ed:"; gofmt -l cmd pkg sql deploy; exit 1; }

lint: $(LINT)
	$(LINT) run ./...

$(LINT):
	@mkdir -p $(BIN)
	GOBIN=$(abspath $(BIN)) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	@mv $(BIN)/golangci-lint $(LINT)

fuzz: ## every fuzz target for FUZZTIME each
	@set -e; for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; done; done

bench: build ## the figures of docs/performance.md
	$(GO) test -p 1 -run '^$$' -bench . -benchmem -timeout 60m ./...

clean: ## remove what the build made
	rm -rf $(BIN) node_modules

.PHONY: help build engine demo test vet lint fuzz bench clean
