# `make help` lists the targets.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# igzip: chunks compressed by ISA-L, whose build needs autoconf, automake, libtool and nasm. Empty: zlib-rs.
FEATURES ?= igzip
WITH := --features "$(FEATURES)"
STEP := scripts/step.sh
CHECK_PYTHON := "$$ARKSTREAM_TEST_PYTHON"

# One more than processors: tests wait for servers, locks and timeouts.
export RUST_TEST_THREADS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

# Seconds a fuzz target runs in `make fuzz`, and in `make soak`.
TIME ?= 60
SOAK_TIME ?= 600

# `make bench SCALE=0.1` takes minutes; BENCH= are further options of benches/compare/bench.py.
SCALE ?= 1
RUNS ?= 5
BENCH ?=
GROWTH ?=
BENCH_PYTHON := "$$ARKSTREAM_BENCH_PYTHON"

# Where `make install` puts things.
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: help setup setup-demo build install demo test cross soak fuzz bench growth microbench fmt lint doc book

help: ## Show this list
	@echo 'Arkstream: make TARGET'
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target text; do \
	  printf '  %-12s %s\n' "$$target" "$$text"; done

demo: setup-demo ## Build, start a throwaway Odoo-shaped stack and back it up into a verified bundle
	@$(STEP) 'build' $(CARGO) build --profile quick --locked --package arkstream-cli $(WITH)
	@$(STEP) 'demo' $(CARGO) run --quiet --profile quick --locked --package arkstream-cli $(WITH) --bin arkstream -- demo

build: setup-demo ## Build the release binary
	@$(CARGO) build --release --locked --package arkstream-cli $(WITH)

install: ## Install what `make build` built below PREFIX=/usr/local, with manual pages and completions
	@scripts/install.sh "$(DESTDIR)$(PREFIX)"

test: setup ## Everything a change must pass: format, lints, all tests, documentation
	@$(STEP) 'format' $(CARGO) fmt --all --check
	@$(STEP) 'lints' $(CARGO) clippy --workspace --all-targets --locked $(WITH) -- -D warnings
	@$(STEP) 'tests of the test kit' bash -c 'cd tests/support && $(CHECK_PYTHON) -m unittest'
	@$(STEP) 'tests' $(CARGO) test --workspace --locked $(WITH)
	@$(STEP) 'tests of chunks without ISA-L' $(CARGO) test --workspace --locked --lib codec
	@$(STEP) 'documentation' env RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked --quiet

cross: ## Whether it compiles for Windows and macOS, of which nothing is run here
	@CARGO="$(CARGO)" scripts/cross.sh

soak: setup ## All tests with many more rounds, then ten minutes of each fuzz target (takes long)
	@ARKSTREAM_SOAK=1 $(STEP) 'soak' $(CARGO) test --workspace --locked $(WITH) --test '*' -- --nocapture
	@scripts/fuzz.sh $(SOAK_TIME)

fuzz: ## Every fuzz target under libFuzzer, TIME= seconds each
	@scripts/fuzz.sh $(TIME)

bench: ## Arkstream beside its peers: SCALE= of the data (1: 424 MB of messages), RUNS= rounds
	@scripts/setup.sh bench
	@$(STEP) 'build' $(CARGO) build --release --locked --package arkstream-cli $(WITH)
	@$(STEP) 'build of the server for it' $(CARGO) build --release --locked --package arkstream-sample --example serve
	@$(STEP) 'comparison' bash -c '$(BENCH_PYTHON) benches/compare/bench.py --scale $(SCALE) --runs $(RUNS) $(BENCH)'

growth: ## How cost and memory grow with rows, budgets, jobs, files and tables: GROWTH='--sizes 0.1,1'
	@scripts/setup.sh demo
	@$(STEP) 'build' $(CARGO) build --release --locked --package arkstream-cli $(WITH)
	@$(STEP) 'build of the server for it' $(CARGO) build --release --locked --package arkstream-sample --example serve
	@$(STEP) 'growth' bash -c '"$$ARKSTREAM_DEMO_PYTHON" benches/compare/growth.py $(GROWTH)'

microbench: setup ## Benchmarks of single stages
	@$(STEP) 'benchmarks' $(CARGO) bench --workspace --locked $(WITH)

fmt: ## Format the sources
	@$(CARGO) fmt --all

lint: ## Format check and lints only
	@$(STEP) 'format' $(CARGO) fmt --all --check
	@$(STEP) 'lints' $(CARGO) clippy --workspace --all-targets --locked $(WITH) -- -D warnings

doc: ## Documentation with warnings denied
	@$(STEP) 'documentation' env RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked

book: setup ## The documentation as a site, in target/book
	@$(STEP) 'book' bash -c '"$$ARKSTREAM_TEST_MDBOOK" build docs'

setup: ## Install what the tests need (idempotent)
	@scripts/setup.sh test

setup-demo:
	@scripts/setup.sh demo
