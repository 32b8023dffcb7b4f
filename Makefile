# Every target sets up what it needs; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.installed
ALL_STAMP := .venv/.installed-all
# Passed through: make demo ARGS="--seconds 20", make test TEST_ARGS="-k decode -x"
ARGS ?=
TEST_ARGS ?=
# make test LONG=1 runs everything in one go; WORKERS=0: in one process, for a debugger
LONG ?=
WORKERS ?= 2
# BUT_ENGINES=1: without those that `make test-engines` runs
BUT_ENGINES ?=
ENGINES := tests/airflow tests/spark tests/e2e/test_engines.py
SELECT := $(if $(LONG),,-m "not long")
PYTEST := $(BIN)/pytest -n $(WORKERS) $(if $(BUT_ENGINES),$(ENGINES:%=--ignore=%))

.PHONY: help setup setup-engines stack fmt lint test test-long test-engines test-ring test-cassandra-kills check demo bench docs integration e2e constraints clean java

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 14

setup: $(STAMP) ## make .venv with everything in it (instant when it is up to date)

$(STAMP): pyproject.toml constraints.txt .ci/setup
	@.ci/setup
	@touch $@

$(ALL_STAMP): $(STAMP)
	@EXTRAS=dev,airflow,spark .ci/setup
	@touch $@

java:
	@.ci/java

setup-engines: $(ALL_STAMP) ## the same with Airflow and Spark

fmt: $(STAMP) ## format the code, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

lint: $(STAMP) ## formatting, ruff, mypy --strict, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP) java ## the quick tests (LONG=1: all of them)
	$(PYTEST) --dist worksteal $(SELECT) $(TEST_ARGS)

test-long: $(STAMP) java ## only the long tests: crashes by the hundred, big data, real clients
	$(PYTEST) --dist loadscope --no-loadscope-reorder -m long $(TEST_ARGS)

test-engines: $(ALL_STAMP) java ## the tests with a real Airflow and a real Spark (installs both)
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(ENGINES) $(TEST_ARGS)

test-ring: $(STAMP) java ## of the long tests those with a ring of three Cassandra nodes (needs Java, Maven and 5 GB)
	$(BIN)/pytest tests/cassandra/test_ring.py $(TEST_ARGS)

test-cassandra-kills: $(STAMP) java ## of the long tests the one with kills of htapkit, its reader and its Cassandra node, all 100 however long it takes
	HTAPKIT_CASSANDRA_KILLS=100 $(BIN)/pytest tests/cassandra/test_kills.py -s $(TEST_ARGS)

integration: $(STAMP) ## only the tests that start a real PostgreSQL
	$(PYTEST) -m "integration and not long" $(TEST_ARGS)

e2e: $(STAMP) ## only the commands of the README, executed
	$(BIN)/pytest tests/e2e $(TEST_ARGS)

check: lint test ## lint + test: before each commit

demo: $(STAMP) ## a private PostgreSQL with a live shop, mirrored and queried before your eyes
	@$(BIN)/htapkit demo $(ARGS)

stack: $(STAMP) ## what podman-compose.yml starts, as plain processes, until Ctrl-C (ARGS="--engines": Airflow and Spark, too)
	@$(BIN)/python -m tests.e2e.twins $(ARGS)

bench: $(STAMP) ## every published figure, as a ratio measured in one run
	$(BIN)/python -m tests.bench $(ARGS)

docs: $(STAMP) ## check that nothing is undocumented, and build the pages in site/
	$(BIN)/pytest -q tests/docs
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --quiet --strict

constraints: $(STAMP) ## resolve constraints.txt anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --no-header --no-emit-index-url --no-annotate --universal --upgrade \
		--python-version 3.11 --all-extras pyproject.toml --output-file constraints.txt

clean: ## remove what can be made again
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
