# Everything is built with --release: demo, tests and lints share one profile, so that RocksDB is compiled once.
# The build cache lies outside of the checkout, so that a fresh clone reuses it.
SHELL := bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/meridian/target
CARGO ?= cargo
MERIDIAN := $(CARGO_TARGET_DIR)/release/meridian

comma := ,
.DEFAULT_GOAL := help
.PHONY: help deps build demo install test fuzz clean

# $(call stage,NAME,COMMAND) runs a command and says how long it took.
define stage
	@echo "==> $(1)"; started=$$SECONDS; \
	if $(2); then echo "==> $(1): ok, $$((SECONDS - started)) s"; \
	else status=$$?; echo "==> $(1): FAILED after $$((SECONDS - started)) s" >&2; exit $$status; fi
endef

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## checks what the build needs, and installs what is missing where it may
	@.ci/deps

build: deps ## the binary `meridian`
	@started=$$SECONDS; $(CARGO) build --release --workspace --bin meridian && \
	echo "built $(MERIDIAN) in $$((SECONDS - started)) s" >&2

demo: build ## a durable three-node cluster on this machine and a shell; options in ARGS="--ephemeral"
	@exec "$(MERIDIAN)" demo $(ARGS)

install: build ## copies the binary to ~/.cargo/bin
	@install -D -m 755 "$(MERIDIAN)" "$${CARGO_HOME:-$$HOME/.cargo}/bin/meridian"

# Cargo compiles a crate once for each set of features that the selected packages ask of it. So every stage
# with DataFusion, RocksDB or tonic in it selects the server, whose set they then share; the first stages
# select packages that have none of them. `sql` is tested twice: alone with its short path, and with DataFusion.
test: deps ## everything, the cheapest first
	$(call stage,format,$(CARGO) fmt --all --check)
	$(call stage,tidy,$(CARGO) test --release -p tidy)
	$(call stage,pure crates,$(CARGO) test --release -p truetime -p paxos -p txn -p check)
	$(call stage,simulation,$(CARGO) test --release -p sim --features canaries)
	$(call stage,sql,$(CARGO) test --release -p sql)
	$(call stage,lints,$(CARGO) clippy --release --workspace --all-targets -- -D warnings)
	$(call stage,server$(comma) shell and corpus,$(CARGO) test --release -p proto -p server -p shell -p sql -p corpus)
	$(call stage,binary,$(CARGO) build --release --workspace --bin meridian)
	$(call stage,end to end,$(CARGO) test --release -p e2e -p server --test e2e)

# Seconds for each target, and which: see fuzz/README.md. What is found is kept beside the build cache.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(notdir $(wildcard fuzz/corpus/*))
FUZZ_FOUND := $(HOME)/.cache/meridian/fuzz

fuzz: ## every decoder on random input, FUZZ_SECONDS each; needs nightly and cargo-fuzz
	@for target in $(FUZZ_TARGETS); do \
	  mkdir -p "$(FUZZ_FOUND)/$$target" && echo "==> $$target" && \
	  $(CARGO) +nightly fuzz run --fuzz-dir fuzz $$target "$(FUZZ_FOUND)/$$target" "fuzz/corpus/$$target" -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=256 \
	    -print_final_stats=1 || exit 1; \
	done

clean: ## removes the build cache
	$(CARGO) clean
