# make demo: from nothing to a table.  make test: the whole test suite.  make help: the rest.
PYTHON ?= python3
VENV   ?= .venv
DATA   ?= data
BIN    := $(VENV)/bin
export HF_HUB_DISABLE_TELEMETRY = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: help setup setup-dev demo compare test check format docs bench clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

setup: $(VENV)/.installed ## create the environment and install what running needs

setup-dev: $(VENV)/.installed-dev ## the same, and what testing needs

demo: setup ## train on the demo world, compare all methods, print the table (seven minutes on two cores)
	$(BIN)/python train.py --config configs/demo.yaml --resume auto
	$(BIN)/python evaluate.py --config configs/demo.yaml

compare: setup ## every system on the demo world and the sets whose files lie in DATA (hours; stop it and go on)
	$(BIN)/python benchmarks/compare.py --data $(DATA)

test: setup-dev ## run all tests
	$(BIN)/python -m pytest

check: setup-dev ## format, lint, types, and the tests with warnings as errors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

format: setup-dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup ## write docs/configuration.md and configs/default.yaml from the dataclasses
	$(BIN)/python -m polyprag.config_docs

bench: setup ## measure speed and scale against the peers; CASE=NAME measures one case
	$(BIN)/python benchmarks/suite.py $(if $(CASE),CASE=$(CASE))

clean: ## remove the environment; runs/ stays
	rm -rf $(VENV)

$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "polyprag needs Python 3.11 or newer; set PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
