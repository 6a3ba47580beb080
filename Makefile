# Everything runs in .venv, made on the first call; Python 3.11 or later is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SAMPLE := $(firstword $(wildcard examples/meerlicht_sample.fits.fz examples/meerlicht_sample.fits))

.PHONY: demo test lint clean

demo: $(VENV)/.plot
	$(BIN)/bgrem -f $(SAMPLE) --output-dir demo --save background,noise,rms,mask --overwrite
	$(BIN)/python examples/plot_demo.py $(SAMPLE) demo/BGRem_$(notdir $(SAMPLE)) demo/before_after.png

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

lint: $(VENV)/.test
	$(BIN)/python -m pip install --quiet ruff
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) demo build dist *.egg-info

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bgrem needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.plot: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[plot]'
	touch $@

# The pinned version has a CPU build on the plain index; others would bring gigabytes of CUDA.
$(VENV)/.test: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@
