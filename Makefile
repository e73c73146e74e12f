# One word a job, the same here and in CI. Needs make and Python 3.11 or later; everything else goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
ARGS ?=

# Touched after an install, so that it is repeated only when pyproject.toml has changed.
PACKAGE := $(VENV)/.package-installed
TOOLS := $(VENV)/.tools-installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check format bench bench-reactive build clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  ARGS="..." is passed on by demo, test, test-all and bench.'

demo: $(PACKAGE) ## See the main job work: caching, one request for many callers, auto-logout
	@$(BIN)/python -m querykit demo $(ARGS)

test: $(TOOLS) ## Run the tests with coverage, which must be complete (a part: ARGS="tests/test_keys.py --no-cov")
	$(BIN)/python -m pytest --numprocesses=auto --cov --cov-report=term $(ARGS)

test-all: $(TOOLS) ## Run the tests on every Python of pyproject.toml that this machine has, with eager tasks too
	$(BIN)/python -m nox --no-error-on-missing-interpreters --session tests -- $(ARGS)

check: $(TOOLS) ## Lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(TOOLS) ## Format the code and mend what lint can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(TOOLS) ## Measure the hot path against other caches
	$(BIN)/python benchmarks/hot_path.py $(ARGS)

bench-reactive: $(TOOLS) ## Measure observers against TanStack's query-core, which needs Node.js and npm
	$(BIN)/python benchmarks/reactive.py

build: $(TOOLS) ## Build the sdist, and the wheel from it, into dist/
	$(BIN)/python -m build

clean: ## Remove what these jobs have made, .venv included
	rm -rf $(VENV) .nox build dist htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache \
		benchmarks/tanstack/node_modules
	find querykit tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(PACKAGE): pyproject.toml
	@if ! $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
			if $$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
				echo "Creating $(VENV) with $$($$python --version)"; \
				exec $$python -m venv --clear $(VENV); \
			fi; \
		done; \
		echo 'querykit needs Python 3.11 or later with its venv module (python3-venv on Debian and Ubuntu).' >&2; \
		echo 'None was found on PATH. If there is one elsewhere: make PYTHON=/path/to/python' >&2; \
		exit 1; \
	fi
	@echo 'Installing querykit into $(VENV)'
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --editable '.[cli,kubernetes,testing]'
	@touch $@

$(TOOLS): $(PACKAGE)
	@echo 'Installing the tools for tests and checks into $(VENV)'
	@$(BIN)/python -m pip install --quiet --group dev
	@touch $@
