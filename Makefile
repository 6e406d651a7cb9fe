# Everything one types in this repository. `make help` explains.
SHELL := /bin/bash
.DEFAULT_GOAL := help
DEMO_PACKAGES := bwrap=bubblewrap bowtie2=bowtie2 samtools=samtools bcftools=bcftools \
	/usr/share/doc/bowtie2/examples/reads/reads_1.fq.gz=bowtie2-examples

.PHONY: help setup demo test crash load check check-check bench schemathesis docs lock image clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv with everything that running, testing and checking need
	@scripts/setup.sh

demo: ## Run a TES task and a Snakemake workflow on a weft of its own; sets up what is missing
	@scripts/setup.sh --runtime $(DEMO_PACKAGES)
	@.venv/bin/python scripts/demo.py

test: ## Run all checks and tests; sets up what is missing
	@scripts/test.sh

crash: ## Kill weft 200 times at random moments under load (ROUNDS=…, SEED=…), and assert that nothing is lost
	@scripts/setup.sh
	@WEFT_CRASH_ROUNDS=$(or $(ROUNDS),200) WEFT_CRASH_SEED=$(or $(SEED),$$RANDOM) \
		.venv/bin/python -m pytest -n 2 tests/crash/test_kill.py

load: ## Overload a weft: 100 000 queued jobs, 10 000 creates in a minute, 5 000 connections; prints a table
	@scripts/setup.sh
	@WEFT_LOAD=long .venv/bin/python -m pytest -s tests/load

check: ## Format, lint, types, import rules, and the specs held against the official ones
	@scripts/setup.sh
	@scripts/check.sh

check-check: ## Plant a fault for each check and expect red
	@scripts/setup.sh
	@scripts/check_check.sh

bench: ## Measure the ratios of benchmarks/ in one run, in about ten minutes
	@scripts/setup.sh wrk=wrk dockerd=docker.io iptables=iptables ip=iproute2 unshare=util-linux dpkg-deb=dpkg bwrap=bubblewrap
	@.venv/bin/python -m benchmarks

schemathesis: ## Send 20 000 generated requests to the live TES (half an hour)
	@scripts/setup.sh
	@.venv/bin/python -m tests.tes.fuzz 2400

docs: ## Write the generated pages of docs/ anew
	@.venv/bin/python scripts/generate_docs.py

lock: ## Write requirements*.lock anew from pyproject.toml (needs uv)
	@scripts/lock.sh

image: ## Build the container image weft:latest
	@docker build -t weft:latest .

clean: ## Remove everything that the commands above made
	@rm -rf .venv .run demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
