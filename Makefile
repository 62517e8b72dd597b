# Two commands matter: `make demo` (and `make down`) and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

version := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
flags   := -trimpath -ldflags '-s -w -X main.version=$(version)'
lint    := go tool -modfile=tools/go.mod golangci-lint

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/kokkuri and bin/kokkuri-agent
	@mkdir -p bin
	CGO_ENABLED=0 go build $(flags) -o bin/ ./cmd/kokkuri ./cmd/kokkuri-agent

.PHONY: demo
demo: ## install what is missing, build, bring the lab up, attack it; leaves it running
	@scripts/demo.sh

.PHONY: down
down: ## remove the lab and all that it made
	@bin/kokkuri lab down

.PHONY: test
test: ## install what tests need and run everything: unit, end to end, lint
	@scripts/test.sh

.PHONY: lint
lint: ## shellcheck, go vet, golangci-lint
	shellcheck scripts/*.sh .ci/run
	go vet ./...
	$(lint) run ./...

.PHONY: fmt
fmt: ## format all Go code
	$(lint) fmt ./...

.PHONY: bench
bench: build ## measure: log line to redirect, prompts, pots, scp, a thousand sources; the agent's memory
	@scripts/bench.sh
