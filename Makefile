# `make` lists the recipes; each sets up what it needs by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup packages demo test check bench simulate docs clean

help: ## list the recipes
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## the virtual environment, from the hashed lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tercel needs Python 3.11 or newer; set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q src # where Python may not write by itself, every process would compile it again
	@touch $@

packages: ## what the tests need from Debian (root only; elsewhere the tests say what they skip)
	@sh tools/system-packages.sh

demo: setup ## run the main job: three script tasks in one working directory, cached
	@$(BIN)/tercel run examples/flows/working_directory.yaml --home .demo --file orders=examples/data/orders.csv

test: setup packages ## every test
	$(BIN)/pytest -q -n $(WORKERS) --dist worksteal

check: setup ## ruff, pyright, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: setup ## every figure as a ratio to a floor measured in the same run
	$(BIN)/python -m bench

simulate: setup ## a large volume of simulated histories (SEEDS=100000)
	$(BIN)/python -m tests.simulation --seeds $${SEEDS:-100000}

docs: setup ## write the generated pages
	$(BIN)/python tools/generate_docs.py

clean: ## remove what the recipes made
	rm -rf $(VENV) .demo .ruff_cache .import_linter_cache
