# Memory Bound. `make help` lists the targets; each creates .venv and installs what it needs first.
# Works with GNU make 3.81 (macOS) and later. Variables:
#   PYTHON=python3.12   another interpreter
#   INSTALLER=uv        install with uv, which takes PyTorch's CPU build where there is no GPU
#   WORKERS=4           processes that run the tests of `make test`; 0 runs them in one
SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book bundle pdf screenshots card links lighthouse test check lint types notebooks lab bench stress constraints clean

PYTHON ?= python3
INSTALLER ?= pip
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PY := $(BIN)/python

# The stamp is named after what the environment depends on, not after file times: a clone, a checkout or a
# touched file reuses the environment; a changed lock, another interpreter or a moved folder does not.
KEY := $(shell { cat pyproject.toml constraints.txt; pwd; "$(PYTHON)" -VV; } | cksum | cut -d' ' -f1)
INSTALLED := $(VENV)/installed-$(KEY)

INSTALL_pip := $(PY) -m pip install --quiet --disable-pip-version-check
INSTALL_uv := $(PY) -m pip install --quiet --disable-pip-version-check uv && \
	$(PY) -m uv pip install --quiet --python $(PY) --torch-backend=auto

CODE := $(wildcard src tests tools training benchmarks notebooks labs book/_ext)
QUICK := -m "not slow and not stress"
# A file's tests stay together, since they share what is slow to make; tests/conftest.py says which files come first.
TOGETHER := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## */  make \1	/' | expand -t 20

$(INSTALLED):
	"$(PYTHON)" -m venv $(VENV)
	rm -f $(VENV)/installed-*
	$(INSTALL_$(INSTALLER)) -c constraints.txt -e ".[book,labs,test,bench,grade,cluster]"
	@touch $@

book: $(INSTALLED)  ## build the book into _build/html; lessons are executed, warnings are errors
	$(PY) tools/build_book.py

pdf: book  ## the whole book as one PDF, _build/memory-bound.pdf; needs Chromium or Chrome
	$(PY) tools/pdf.py

bundle: book  ## book and PDF as a zip in dist/ that works without a network; needs Chromium or Chrome
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || date +%s)} $(PY) tools/bundle.py

screenshots: book  ## every page, light and dark, wide and narrow, into build/screenshots; needs Chromium or Chrome
	$(PY) tools/screenshots.py

card: book  ## the picture that messengers show of the book, from its first page; needs Chromium or Chrome
	$(PY) tools/card.py

links: book  ## check the book's links to other sites; needs a network
	$(PY) tools/links.py

lighthouse: book  ## rate the first page and the heaviest lesson; needs Node and Chromium or Chrome
	$(PY) tools/lighthouse.py

# tests/test_lessons.py runs nbval on every lesson: once as it is, then on other CPUs and with planted faults.
# As it is and with a fault, a lesson measures with all cores, so these runs come first and alone: beside other
# work they take several times as long. Both the same way, for the run as it is shows what a fault's run is without it.
LESSONS := $(addprefix tests/test_lessons.py::,test_stored_output_comes_again test_lesson_notices_the_fault)
test: lint types book  ## verify everything: lint, types, book, tests, coverage; nbval on every lesson
	BOOK_REQUIRED=1 $(PY) -m pytest $(LESSONS)
	BOOK_REQUIRED=1 $(PY) -m pytest $(TOGETHER) $(addprefix --deselect ,$(LESSONS)) \
		--cov --cov-fail-under=95 --cov-report=term-missing src tests

check: lint types  ## the quick one: lint, types and unit tests
	$(PY) -m pytest $(QUICK)

lint: $(INSTALLED)  ## format and lint; each lesson's .py and .ipynb, each lab and what is derived from it agree
	$(PY) -m ruff format --check $(CODE)
	$(PY) -m ruff check $(CODE)
	$(PY) tools/notebooks.py --check
	$(PY) tools/labs.py --check
	$(PY) tools/new.py left

types: $(INSTALLED)
	$(PY) -m mypy

notebooks: $(INSTALLED)  ## write and execute each notebooks/<stem>.ipynb from its .py
	$(PY) tools/notebooks.py

lab: $(INSTALLED)  ## open JupyterLab on the lessons
	$(PY) -m jupyter lab notebooks

bench: $(INSTALLED)  ## run the benchmarks; each prints and stores its result records
	@set -e; for script in benchmarks/*.py; do echo "$$script"; $(PY) "$$script"; done

stress: $(INSTALLED)  ## what make test samples, in full, and mutation testing of attention and cache
	$(PY) -m pytest -m stress -s

constraints: $(INSTALLED)  ## resolve constraints.txt anew from pyproject.toml
	$(PY) -m pip install --quiet uv
	$(PY) -m uv pip compile pyproject.toml --all-extras --universal --python-version 3.10 \
		--no-header --no-annotate --upgrade --output-file constraints.txt

clean:  ## remove the environment, the built book and the caches; build/training stays
	rm -rf $(VENV) _build build/book build/jupyter_cache build/pdf build/screenshots build/lighthouse dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
