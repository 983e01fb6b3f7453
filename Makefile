# Everything here needs Python >= 3.11, make and a package index; the virtual environment is made on first use.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
PROCESSES ?= auto
CONSTRAINTS := $(if $(LOCKED),--constraint requirements.lock)
PACKAGES := seqmamba genomics audio recipes

.DEFAULT_GOAL := help
.PHONY: help install lock demo test test-slow test-gpu lint types contracts docs wheel clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 found; name one with make PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --editable ".[dev]"
	@touch $(VENV)/.runtime $@

install: $(VENV)/.runtime ## make the virtual environment and install seqmamba into it

lock: ## renew requirements.lock from an environment of its own
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check .
	{ sed -n '/^#/p' requirements.lock; build/lock/bin/python -m pip freeze | grep -v '@'; } > build/lock.txt
	mv build/lock.txt requirements.lock

# Real human ChIP-seq peaks (Oct4 against MafK): fetch, train, report on two held-out chromosomes, predict a FASTA.
# Interrupted, it continues where it was; finished, it only says where the results are.
demo: $(VENV)/.runtime ## train a DNA classifier on real data, write its report and predictions (minutes)
	$(BIN)/seqmamba recipes prepare genomics/oct4_mafk
	@test -s $(DEMO)/report.html || { \
	  $(BIN)/seqmamba fit --config genomics/oct4_mafk --run $(DEMO) --ckpt_path last && \
	  $(BIN)/seqmamba test --config genomics/oct4_mafk --run $(DEMO) --ckpt_path best; }
	@test -s $(DEMO)/new_predictions.tsv || \
	  $(BIN)/seqmamba genomics predict $(DEMO) $$($(BIN)/seqmamba recipes prepare genomics/oct4_mafk --print-path)/unseen.fa -o $(DEMO)/new_predictions.tsv
	@echo "report:       $(DEMO)/report.html"
	@echo "predictions:  $(DEMO)/new_predictions.tsv"

test: $(VENV)/.dev ## the tests that CI runs: no GPU, ten minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile

test-slow: $(VENV)/.dev ## benchmarks with thresholds and training runs to their result
	$(BIN)/python -m pytest -m slow

test-gpu: $(VENV)/.dev ## the same operator tests on an NVIDIA GPU
	$(BIN)/python -m pytest -m gpu

lint: $(VENV)/.dev ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## static types of the four packages
	$(BIN)/mypy

contracts: $(VENV)/.dev ## which package may import which
	$(BIN)/lint-imports

docs: $(VENV)/.dev ## the documentation site, in docs/_build
	$(BIN)/sphinx-build -b html -W --keep-going -q docs docs/_build

wheel: $(VENV)/.dev ## build dist/*.whl
	$(BIN)/python -m build --wheel --outdir dist .

clean: ## remove the environment, caches and the demo run
	rm -rf $(VENV) $(DEMO) docs/_build build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
