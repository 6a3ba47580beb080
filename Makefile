# Everything runs in .venv, made on the first call; Python 3.11 or later is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Pinned so that an index that has its CPU build gives that one: the newest would bring gigabytes of
# CUDA. Elsewhere: make test TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
SAMPLE := $(firstword $(wildcard examples/meerlicht_sample.fits.fz examples/meerlicht_sample.fits))
CLEANED = demo/BGRem_$(notdir $(SAMPLE))
# Editable installs warn of folders named like the package; this one is the package.
INSTALL := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet

.PHONY: demo test lint clean

demo: $(VENV)/.report
	$(BIN)/bgrem -f $(SAMPLE) --output-dir demo --save background,noise,rms,mask --plot --report --overwrite
	@echo "The cleaned image is $(CURDIR)/$(CLEANED)"
	@echo "The picture of both is $(CURDIR)/$(CLEANED).png"
	@echo "The page about it is $(CURDIR)/$(CLEANED).html"

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

lint: $(VENV)/.test
	$(INSTALL) ruff
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) demo build dist *.egg-info

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bgrem needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip

$(VENV)/.report: pyproject.toml | $(BIN)/python
	$(INSTALL) -e '.[report]'
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(INSTALL) $(TORCH)
	$(INSTALL) -e '.[test]'
	touch $@
