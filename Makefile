# Each target works on a fresh clone and installs what it needs into .venv, pinned by constraints.txt, once per set:
#   demo     the package alone            napari   with napari and Qt
#   test     with the test tools          lint     with the checkers
#
#   make demo PYTHON=python3.13           another Python (3.11 or newer)
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
#                                         the small CPU build of PyTorch, for Linux without an NVIDIA GPU
#   make test WORKERS=0                   in one process; WORKERS=4 in four
#
# Two lanes have environments of their own, .venv-newest and .venv-lowest, without constraints.txt:
#   test-newest  the newest releases of napari and all libraries
#   test-lowest  the lowest versions that pyproject.toml allows

SHELL := /bin/sh
PYTHON ?= $(or $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3),python3)
VENV ?= .venv
TORCH_INDEX ?=
PYTEST_ARGS ?=
WORKERS ?= 2
# what meets other libraries: files, windows, options, the package itself
LANE_TESTS ?= tests/contract tests/packaging tests/io tests/cli tests/plugin

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt
# the same window size on every machine; macOS has no Xvfb and shows the window
VIRTUAL_DISPLAY = $(if $(shell command -v xvfb-run),xvfb-run -a -s "-screen 0 1600x1000x24")
WRITTEN_DOWN := pyproject.toml constraints.txt hatch_build.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-slow test-all test-newest test-lowest break napari samples lint docs constraints system-libraries

help:
	@echo "make demo      enhance the bundled sample, write demo/, print a table against the truth"
	@echo "make napari    open napari with the sample and the Enhance dock"
	@echo "make test      run the test suite, without the tests marked slow"
	@echo "make test-all  run the test suite, then the slow rest (make test-slow)"
	@echo "make test-newest, make test-lowest"
	@echo "               run the tests that meet other libraries on their newest and on the lowest versions"
	@echo "make break     kill, cut, zero and bomb files 500 times each; print tries, survived, lost"
	@echo "make samples   simulate the samples in sample_data/ again"
	@echo "make lint      check style, types and the layering of imports"
	@echo "make docs      measure the tables and draw the pictures of the documentation again; takes some hours"

demo: $(VENV)/.installed-demo
	$(BIN)/python -m zenhance.cli demo --out demo

test: system-libraries $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-slow: system-libraries $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m slow $(PYTEST_ARGS)

test-all: test test-slow

test-newest: RESOLUTION := highest
test-lowest: RESOLUTION := lowest-direct
test-newest test-lowest: test-%: system-libraries
	@test -x $(VENV)-$*/bin/python || $(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check --upgrade uv
	$(VENV)-$*/bin/uv pip install --quiet --python $(VENV)-$*/bin/python --upgrade --resolution $(RESOLUTION) $(if $(TORCH_INDEX),--index $(TORCH_INDEX) --index-strategy unsafe-best-match) -e ".[test]"
	$(VENV)-$*/bin/uv pip freeze --quiet --python $(VENV)-$*/bin/python
	$(VENV)-$*/bin/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow" -W default $(LANE_TESTS) $(PYTEST_ARGS)

break: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks break

napari: system-libraries $(VENV)/.installed-napari
	$(BIN)/python -m zenhance.plugin.launch

samples: $(VENV)/.installed-demo
	$(BIN)/python -c "from zenhance.simulate.samples import write_samples; write_samples('sample_data', overwrite=True)"

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: system-libraries $(VENV)/.installed-test
	$(BIN)/python -m benchmarks sample --all --write-docs
	$(BIN)/python -m benchmarks speed --write-docs
	$(BIN)/python -m benchmarks quality --write-docs
	$(BIN)/python -m benchmarks domains --write-docs
	$(BIN)/python -m benchmarks alone --write-docs
	$(BIN)/python -m benchmarks prediction --write-docs
	$(BIN)/python -m benchmarks levels --write-docs
	$(BIN)/python -m benchmarks resolution --write-docs
	$(BIN)/python -m benchmarks universal --minutes 2.5 --write-docs
	$(BIN)/python -m benchmarks sweep --steps 100 --write-docs
	$(BIN)/python -m benchmarks modules --write-docs
	$(BIN)/python -m benchmarks seconds --methods dps,diffusion --write-docs
	$(BIN)/python -m benchmarks models --write-docs
	$(BIN)/python -m benchmarks rooms --write-docs
	$(VIRTUAL_DISPLAY) $(BIN)/python -m benchmarks screenshots --write-docs

# pins everything that the sets above install, as it is installed now
constraints: $(VENV)/.installed-lint
	@{ echo "# What CI and the Makefile install; made by 'make constraints' on Python 3.11."; \
	   $(BIN)/python -m pip freeze --all --disable-pip-version-check --exclude-editable | sed -e 's/+cpu$$//' -e '/^pip==/d'; } > constraints.new
	@mv constraints.new constraints.txt

system-libraries:
	@sh scripts/system_libraries.sh qt

$(BIN)/python:
	@sh scripts/system_libraries.sh python $(PYTHON)
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; name one with PYTHON=...')"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: $(WRITTEN_DOWN) | $(BIN)/python
	@echo "installing into $(VENV); the first time this takes some minutes"
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-napari: $(WRITTEN_DOWN) | $(BIN)/python
	@echo "installing into $(VENV); the first time this takes some minutes"
	$(PIP_INSTALL) -e ".[all]"
	@touch $@ $(VENV)/.installed-demo

$(VENV)/.installed-test: $(WRITTEN_DOWN) | $(BIN)/python
	@echo "installing into $(VENV); the first time this takes some minutes"
	$(PIP_INSTALL) -e ".[test]"
	@touch $@ $(VENV)/.installed-napari $(VENV)/.installed-demo

$(VENV)/.installed-lint: $(WRITTEN_DOWN) | $(BIN)/python
	@echo "installing into $(VENV); the first time this takes some minutes"
	$(PIP_INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed-napari $(VENV)/.installed-demo
