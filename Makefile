# `make bench` shows the harness at work, `make test` proves it; both make the virtual environment first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One thread per worker: the parallelism is over cells and tests.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export NUMBA_NUM_THREADS := 1

.PHONY: bench test test-slow check lint perf lock clean

bench: $(VENV)/.installed
	$(BIN)/python run_bench.py run quick

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow"

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m slow

# Scores against the committed baseline; where they change on purpose: make check UPDATE='--update --reason "why"'
check: $(VENV)/.installed
	$(BIN)/python run_bench.py check regression --baseline results/baselines/regression.json $(UPDATE)

# Speeds by group, slowest as a multiple of the fastest in brackets; one process, so that nothing disturbs.
perf: $(VENV)/.installed
	$(BIN)/python -m pytest -q -s tests/perf -p no:xdist -o addopts="--import-mode=importlib --strict-markers" \
	  --benchmark-only --benchmark-columns=median,iqr,rounds --benchmark-sort=name

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# Resolve the ranges of pyproject.toml anew, keeping torch at its pin, and write what came of it. `+cpu` is a local build's mark.
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet setuptools torch==2.13.0 -e ".[torch,dask,dev]"
	{ echo "# Made by \`make lock\`; install with: pip install -r requirements.lock"; \
	  .venv-lock/bin/python -m pip freeze --all --exclude-editable | grep -v "^pip==" | sed 's/+cpu$$//'; } > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) .venv-lock .pytest_cache .mypy_cache .ruff_cache
