# make demo       run the main job on real data
# make test       the whole test suite, doctests included; PYTEST_ARGS="-k floor" narrows it
# make lint       style, formatting, types
# make notebooks  run the notebooks, compare figures with those stored; notebooks-write: store what they show now
# make clean      remove the environment and everything built
#
# The environment, .venv, is built by the first of these that needs it, again when pyproject.toml or constraints.txt
# has changed, and with the first of PYTHON that is new enough.

PYTHON ?= python3 python3.13 python3.12 python3.11
PYTEST_ARGS ?=
NOTEBOOKS ?=

venv := .venv/.complete
run := .venv/bin/python -m

# Nothing of the caller's own Python may leak into .venv.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PIP_USER := 0

.PHONY: help demo test lint notebooks notebooks-write clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(venv)
	@$(run) skcoteach.benchmarks demo

test: export SCIPY_ARRAY_API = 1
test: export OMP_NUM_THREADS = 1
test: export MPLBACKEND = Agg
test: $(venv)
	@$(run) pytest -n 2 $(PYTEST_ARGS)

lint: $(venv)
	@$(run) flake8 skcoteach tests notebooks
	@$(run) ruff format --check --line-length 120 .
	@$(run) mypy skcoteach

notebooks notebooks-write: export OMP_NUM_THREADS = 1
notebooks: $(venv)
	@.venv/bin/python notebooks/check.py $(NOTEBOOKS)

notebooks-write: $(venv)
	@.venv/bin/python notebooks/check.py --write $(NOTEBOOKS)

# The mark is written last: an environment whose installation was cut short has none, and is built anew.
$(venv): pyproject.toml constraints.txt
	@echo "building .venv (once, a few minutes) ..."
	@rm -rf .venv
	@for python in $(PYTHON); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec "$$python" -m venv .venv; \
	    fi; \
	done; \
	echo "skcoteach needs Python 3.11 or newer; tried: $(PYTHON). Name one: make PYTHON=/path/to/python3" >&2; \
	exit 1
	@$(run) pip install -qq --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage co-teaching-demo.png
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -type d -prune -exec rm -rf {} +
