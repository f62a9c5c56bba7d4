# Each target sets up all that it needs: nothing but Python >= 3.11 with venv, and make, is expected.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo quick test test-integration test-slow test-architectures check clean

demo: .venv/run.stamp
	$(BIN)/penult demo

# Each worker runs whole files, so that fixtures of a module or package are built once.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

# Tests of logic that need neither a network of real size nor another process: for the inner loop.
QUICK := tests/house/test_structure.py tests/house/test_errors.py tests/pipeline/samples tests/pipeline/evaluation \
	tests/pipeline/images/test_images.py tests/pipeline/images/test_sources.py tests/pipeline/test_progress.py \
	tests/store/test_splits.py tests/store/test_space.py tests/store/test_tables.py tests/store/test_datasets.py

quick: .venv/dev.stamp
	$(PYTEST) -q -m "not slow and not integration" $(QUICK)

test: .venv/dev.stamp .venv/torch.stamp .venv/ray.stamp
	$(PYTEST) -m "not slow and not integration" --doctest-modules src/penult tests

test-integration: .venv/dev.stamp .venv/torch.stamp .venv/ray.stamp .venv/browser.stamp
	$(PYTEST) -m "integration and not slow" tests

test-slow: .venv/dev.stamp .venv/torch.stamp .venv/ray.stamp .venv/browser.stamp
	$(BIN)/python -m pytest -m "slow and not hours"

# Every architecture of torchvision, timm's families and Keras, each against its source: hours.
test-architectures: .venv/dev.stamp .venv/torch.stamp
	$(BIN)/python -m pytest -m hours

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "penult needs Python 3.11 or newer, and \
	$(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

.venv/run.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/dev.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test,check]'
	touch $@ .venv/run.stamp

# Torch has builds for the CPU on an index of its own, a tenth as large as those that PyPI has for Linux. Where none is
# to be had, the tests of exports from torch and Keras skip, and say so.
TORCH := torch==2.13.0$(if $(filter Darwin,$(shell uname -s)),,+cpu) torchvision==0.28.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.venv/torch.stamp: .venv/dev.stamp
	if $(BIN)/python -m pip install --quiet --retries 1 --no-deps --extra-index-url $(TORCH_INDEX) $(TORCH) && \
	$(BIN)/python -m pip install --quiet --editable '.[keras,torch]' $(TORCH); \
	then touch $@; else echo "No torch for the CPU: tests of exports from torch and Keras will skip"; fi

# Ray has no builds for the newest Python or for every system: its tests skip there, and say so.
.venv/ray.stamp: .venv/dev.stamp
	if $(BIN)/python -m pip install --quiet --retries 1 --editable '.[ray]'; \
	then touch $@; else echo "No Ray for this Python: tests on a cluster will skip"; fi

# What the tests in a browser need. They skip, and say so, where there is no npm or no Chromium.
.venv/browser.stamp: docs/browser/package-lock.json | .venv/bin/python
	if npm ci --prefix docs/browser; then touch $@; else echo "npm ci failed: tests in a browser will skip"; fi

clean:
	rm -rf docs/browser/node_modules .venv build dist *.egg-info src/*.egg-info

# Writes constraints.txt with the versions in .venv, without penult itself and without local version suffixes.
.PHONY: constraints
constraints: .venv/dev.stamp .venv/torch.stamp .venv/ray.stamp
	grep '^#' constraints.txt > .venv/constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | sed -e '/^penult[ =]/d' -e '/^#/d' -e 's/+.*//' \
	-e '/^onnxruntime-gpu==/{p;s/-gpu//;}' >> .venv/constraints.txt
	mv .venv/constraints.txt constraints.txt
