# Everything the project can do, by name. A target that needs the environment makes it first (.venv, some 6 GB).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Stage 1 and stage 2; give DATA and STORE, STORE and RUN.
DATA ?=
STORE ?=
RUN ?=
ARGS ?=

# The chart library that pages carry: npm's package, of which two files and the licence are kept in the repository.
ASSETS := vaprompt/report/pages/assets
UPLOT := 1.6.32
UPLOT_SHA512 := 2883159c6ebccefbb95d751b0b82d010f9e1c0ec41b8bc96d401eda66e882935c89a46cb824332fa369b8cb8122cc6ac36e186cd09bf7a9ded3a4c93c6989023

PYTEST := $(BIN)/python -m pytest

.DELETE_ON_ERROR:
.PHONY: help setup demo extract train test coverage test-slow check format bench encoders assets screenshots clean

help:
	@echo 'make setup      make the environment .venv'
	@echo 'make demo       the whole job on drawn faces, in demo/'
	@echo 'make extract    stage 1: DATA=folder-or-toml STORE=name.zarr [RECIPE=extract/paper.toml] [ARGS=...]'
	@echo 'make train      stage 2: STORE=name.zarr RUN=folder [RECIPE=train/paper.toml] [ARGS=...]'
	@echo 'make test       the tests (make test-slow: those that take minutes each; make coverage: what they miss)'
	@echo 'make check      ruff and mypy (make format: let ruff mend what it can)'
	@echo 'make bench      measure again what the README and benchmarks/ state'
	@echo 'make encoders   train the embedded encoders again (an hour on two cores)'
	@echo 'make screenshots take the pictures of pages in README and docs again, from the demo'
	@echo 'make assets     fetch the chart library of the pages again (npm; what is committed suffices otherwise)'
	@echo 'make clean      remove caches and build products; keeps .venv, stores and runs'

setup: $(INSTALLED)

# The stamp is written last, so that a setup that was interrupted is done again.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/vaprompt demo demo $(ARGS)

extract: RECIPE ?= extract/paper.toml
extract: $(INSTALLED)
	@test -n "$(DATA)" -a -n "$(STORE)" || { echo 'usage: make extract DATA=folder-or-toml STORE=name.zarr' >&2; exit 2; }
	$(BIN)/vaprompt extract "$(DATA)" "$(RECIPE)" --store "$(STORE)" $(ARGS)

train: RECIPE ?= train/paper.toml
train: $(INSTALLED)
	@test -n "$(STORE)" -a -n "$(RUN)" || { echo 'usage: make train STORE=name.zarr RUN=folder' >&2; exit 2; }
	$(BIN)/vaprompt train "$(STORE)" "$(RECIPE)" --run "$(RUN)" $(ARGS)

# One process more than there are cores, each of which computes with one thread (tests/conftest.py).
test: $(INSTALLED)
	$(PYTEST) -m 'not slow' -n auto --dist worksteal $(ARGS)

# The same, and which lines they miss: apart, as Python's tracer makes them two thirds slower.
coverage: $(INSTALLED)
	$(MAKE) test ARGS="--cov=vaprompt --cov-report=term:skip-covered $(ARGS)"

test-slow: $(INSTALLED)
	$(PYTEST) -m slow $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every script that measures; the training of the embedded encoders makes something and has a target of its own.
bench: $(INSTALLED)
	@set -e; for script in $$(grep -l '__main__' benchmarks/*.py | grep -v train_embedded); do \
		echo "== $$script"; $(BIN)/python "$$script"; done

encoders: $(INSTALLED)
	$(BIN)/python benchmarks/train_embedded_encoders.py $(ARGS)

assets:
	@set -e; from=$$(mktemp -d); trap 'rm -rf "$$from"' EXIT; \
	npm pack --silent --pack-destination "$$from" uplot@$(UPLOT) >/dev/null; \
	echo "$(UPLOT_SHA512)  $$from/uplot-$(UPLOT).tgz" | sha512sum --check --quiet; \
	tar -xzf "$$from/uplot-$(UPLOT).tgz" -C "$$from"; \
	mkdir -p $(ASSETS)/uplot; \
	cp "$$from/package/dist/uPlot.iife.min.js" "$$from/package/dist/uPlot.min.css" "$$from/package/LICENSE" $(ASSETS)/uplot/; \
	chmod 644 $(ASSETS)/uplot/*; \
	echo "uPlot $(UPLOT): $(ASSETS)/uplot"

screenshots: demo
	$(BIN)/python docs/screenshots.py demo

clean:
	rm -rf build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find vaprompt tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
