# Two commands are enough: `make train` and `make test`. Both set up .venv first, and again whenever pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OLDEST := $(VENV)-oldest
ARGS ?=
MINUTES ?= 9
OUT ?= gpu-report
WORKERS ?= auto
SAMPLE ?= 8
PYTHONS ?= python3.11 python3.12 python3.13
SIDE_BY_SIDE = -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install train test quick test-whole test-oldest test-bounds test-gpu gpu-report lint format bench peers docs dist gallery clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: PYTHON=python3.12 (interpreter of .venv), ARGS='...' (more arguments for train, test, bench), WORKERS, SAMPLE, PYTHONS, MINUTES, OUT"

install: $(STAMP) ## .venv with the package (editable) and all that its tests need

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "numgraph needs Python 3.11 or newer: make PYTHON=python3.12 install"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)

train: $(STAMP) ## train a GCN on the digits (ARGS='--dataset karate --model gat')
	$(BIN)/numgraph train $(ARGS)

test quick: export NUMGRAPH_TEST_SAMPLE = $(SAMPLE)
# Workers, and the hundreds of processes that tests start, read one another's bytecode, also where images are set up to keep none.
test quick test-whole test-bounds: export PYTHONDONTWRITEBYTECODE =

test: $(STAMP) ## the test suite, on WORKERS processes (WORKERS=0: in this one); where each of many parameters compiles, one in SAMPLE
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

quick: $(STAMP) ## what to run at every change: the suite without its slow tests
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow" $(ARGS)

test-whole: $(STAMP) ## the test suite with all parameters, also of what runs on CUDA's machine and simulator, where others take one in 24
	NUMGRAPH_TEST_WHOLE=1 $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-oldest: ## the quick tests with the oldest NumPy, SciPy and Numba that pyproject.toml allows, in an environment of their own
	$(PYTHON) -m venv $(OLDEST)
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' | sed 's/>=/==/' > $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(OLDEST)/oldest.txt --editable '.[test]'
	$(OLDEST)/bin/python -m pytest $(SIDE_BY_SIDE) -m "not slow" $(ARGS)

test-bounds: $(STAMP) ## the kernels' tests with Numba's bounds checks (its own cache: the check is no part of Numba's cache key)
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(CURDIR)/$(VENV)/cache-bounds NUMGRAPH_CACHE_DIR=$(CURDIR)/$(VENV)/cache-bounds $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-gpu: ## the tests on an NVIDIA GPU, with the packages that PYTHON has: installs nothing, works offline
	NUMGRAPH_TEST_DEVICE=hardware $(PYTHON) -m pytest tests/cuda/test_cuda_hardware.py tests/*/test_device*.py tests/project/test_docs.py $(ARGS)

gpu-report: ## what a GPU has to show, within MINUTES, into the folder OUT; with what PYTHON has, as test-gpu
	$(PYTHON) benchmarks/gpu_report.py --minutes $(MINUTES) --out $(OUT)

lint: $(STAMP) ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## kernels and epochs beside the peers that are installed (ARGS='--suite all --json FILE --plot DIR')
	$(BIN)/numgraph bench $(ARGS)

peers: $(STAMP) ## install what `make bench` compares with: torch, PyG, MKL, and DGL where it has a wheel (Python up to 3.11)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]' networkx psutil requests tqdm
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps dgl==1.1.3

docs: export NO_MKDOCS_2_WARNING = 1
docs: $(STAMP) ## the documentation in site/; python -m http.server -d site shows it
	$(BIN)/mkdocs build --strict

dist: $(STAMP) ## wheel and sdist in dist/, built twice to the same bytes, and tried in fresh environments of PYTHONS
	rm -rf dist && mkdir dist
	$(BIN)/python -m build --outdir dist . && $(BIN)/python -m build --outdir dist/again .
	cd dist && for file in *.whl *.tar.gz; do cmp $$file again/$$file || exit 1; done && rm -r again
	for python in $(PYTHONS); do for file in dist/*.whl dist/*.tar.gz; do \
		rm -rf dist/env && $$python -m venv dist/env && dist/env/bin/python -m pip install --quiet --disable-pip-version-check $$file \
		&& dist/env/bin/python -P tests/smoke.py || exit 1; done; done
	rm -rf dist/env

gallery: $(STAMP) ## the pictures of docs/gallery, by the programs of examples/gallery
	$(BIN)/python docs/pictures.py $(ARGS)

clean: ## remove .venv and every cache
	rm -rf $(VENV) $(OLDEST) site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
