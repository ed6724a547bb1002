# `make demo` and `make test` work on a fresh machine with Python 3.11 or later.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The TPU compiler is installed for experiments.plan; there is no TPU to find.
export JAX_PLATFORMS ?= cpu

.PHONY: demo test test-slow lint figures tables benchmark plans

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(INSTALLED)  ## Train and sample digits on two CPU cores, in minutes.
	$(BIN)/python -m experiments.train --config=configs/digits.py \
	  --workdir=runs/digits

test: $(INSTALLED)  ## The tests that take seconds each, a file at a time on a core.
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile

test-slow: $(INSTALLED)  ## The tests that take minutes.
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

figures: $(INSTALLED)  ## The figures of the README and docs.
	$(BIN)/python -m scripts.figures

tables: $(INSTALLED)  ## The README's results, from experiments/results.
	$(BIN)/python -m scripts.tables

benchmark: $(INSTALLED)  ## The training step and the losses against plain code.
	$(BIN)/python -m scripts.benchmark
	$(BIN)/python -m scripts.bench_step --config=configs/digits.py
	$(BIN)/python -m scripts.benchmark_exact
	$(BIN)/python -m scripts.benchmark_linear

plans: $(INSTALLED)  ## The paper's configs compiled for TPU pods: an hour or two.
	$(BIN)/python -m scripts.plans
