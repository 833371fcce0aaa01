# make demo         run the main job on real data
# make test         the whole test suite, doctests included; PYTEST_ARGS="-k floor" narrows it
# make test-lowest  the same with the lowest versions that pyproject.toml admits; TORCH=2.13.0 takes that torch instead
# make lint         style, formatting, types
# make notebooks    run the notebooks, compare figures with those stored; notebooks-write: store what they show now
# make clean        remove the environments and everything built
#
# The environment, .venv, is built by the first of these that needs it, again when pyproject.toml or constraints.txt
# has changed, and with the first of PYTHON that is new enough. test-lowest has its own, .venv-lowest, for which pip may
# find no smaller build of the lowest torch than one of gigabytes.

PYTHON ?= python3 python3.13 python3.12 python3.11
PYTEST_ARGS ?=
NOTEBOOKS ?=
TORCH ?=

venv := .venv/.complete
lowest := .venv-lowest/.complete
run := .venv/bin/python -m

# Nothing of the caller's own Python may leak into .venv.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PIP_USER := 0

.PHONY: help demo test lint notebooks notebooks-write test-lowest clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(venv)
	@$(run) skcoteach.benchmarks demo

test test-lowest: export SCIPY_ARRAY_API = 1
test test-lowest: export OMP_NUM_THREADS = 1
test test-lowest: export MPLBACKEND = Agg
test: $(venv)
	@$(run) pytest -n 2 $(PYTEST_ARGS)

test-lowest: $(lowest)
	@.venv-lowest/bin/python -m pytest -n 2 $(PYTEST_ARGS)

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
	$(call new_environment,.venv)
	@$(run) pip install -qq --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	@touch $@

$(lowest): pyproject.toml
	$(call new_environment,.venv-lowest)
	@sed -n 's/^    "\([a-z-]*\)>=\([0-9.]*\).*",$$/\1==\2/p' pyproject.toml \
	    $(if $(TORCH),| sed 's/^torch==.*/torch==$(TORCH)/') > .venv-lowest/lowest.txt
	@.venv-lowest/bin/python -m pip install -qq --disable-pip-version-check -c .venv-lowest/lowest.txt -e '.[test]'
	@touch $@

define new_environment
@echo "building $(1) (once, a few minutes) ..."
@rm -rf $(1)
@for python in $(PYTHON); do \
    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
        exec "$$python" -m venv $(1); \
    fi; \
done; \
echo "skcoteach needs Python 3.11 or newer; tried: $(PYTHON). Name one: make PYTHON=/path/to/python3" >&2; \
exit 1
endef

clean:
	rm -rf .venv .venv-lowest build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage co-teaching-demo.png
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -type d -prune -exec rm -rf {} +
