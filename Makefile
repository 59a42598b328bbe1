# make demo needs nothing but Python 3.10-3.12, make test a C++ compiler too.
# PYTHON chooses the interpreter, VENV the folder of the environment.
VENV ?= .venv
PY := $(VENV)/bin/python
INSTALL := VENV=$(VENV) bash requirements/install.sh
PYTEST_ARGS ?=
# Tests run side by side, a file at a time in one process, with a thread each.
WORKERS ?= 2
SIDE_BY_SIDE := -n $(WORKERS) --dist loadfile --durations 40 --durations-min 10
DEMO_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup ops demo test test-matrix lint docs clean

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: ## make the environment, run nothing (2-4 min the first time, then 1 s)
	@$(INSTALL)

ops: ## compile mmcv's operators into the environment (7-20 min the first time)
	@$(INSTALL) ops

demo: ## train, test and report a miniature VLM (14-20 min on 2 cores)
	@$(INSTALL)
	@$(PY) tools/demo.py $(DEMO_ARGS)

test test-matrix: export OMP_NUM_THREADS ?= 1

test: ## the whole suite; PYTEST_ARGS="-m 'not slow'" or a path for a part
	@$(INSTALL) ops tests optional docs
	@$(PY) -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

test-matrix: ## the suite on the oldest and the newest supported set
	@VENV=.venv-pinned bash requirements/install.sh --set pinned ops tests optional
	@.venv-pinned/bin/python -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)
	@VENV=.venv-newest bash requirements/install.sh --set newest ops tests optional
	@.venv-newest/bin/python -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

lint: ## ruff: rules and format
	@$(INSTALL) tests
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

docs: ## the HTML pages in docs/en/_build/html; warnings are errors
	@$(INSTALL) docs
	@$(PY) -m sphinx -q -W --keep-going -b html docs/en docs/en/_build/html
	@echo "docs/en/_build/html/index.html"

clean: ## remove what was generated here, not the environment
	rm -rf build dist *.egg-info docs/en/_build .pytest_cache .ruff_cache mmvlm/.mim
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
