# Everything happens inside this folder, and every command does its own set-up:
# all it needs is git, make and a Python with venv (`make PYTHON=python3.12 test` to choose one).

PYTHON ?= python3
CHANNEL ?= demo
STORE ?= sqlite:///.gamegirl/games.db
WORKERS ?= 2
VENV := .venv
WHEEL_VENV := .venv-wheel
BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check --quiet
CODE := codec actors supervisor tests hatch_build.py $(wildcard benchmarks examples)
SOURCES = $(shell find codec actors supervisor -type f -not -path '*/__pycache__/*')

.PHONY: help run setup test lint format types layers wheel-test bench scale chaos lock clean
.DELETE_ON_ERROR:

help:  ## What can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: $(VENV)/.run  ## Play a game in this terminal (CHANNEL=demo)
	$(BIN)/gamegirl play $(CHANNEL) --store $(STORE)

setup: $(VENV)/.dev  ## The environment for working on the code, in .venv

test: $(VENV)/.dev  ## All tests, with the coverage of branches
	$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-branch --cov-report=term --cov-fail-under=95

lint: $(VENV)/.dev  ## Style, format, and the floors that may not import each other
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## Put the code in its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev  ## mypy and pyright, both strict
	$(BIN)/mypy $(CODE)
	$(BIN)/pyright

wheel-test: $(WHEEL_VENV)/.wheel  ## All tests once more, against the compiled wheel
	$(WHEEL_VENV)/bin/python -m pytest -n $(WORKERS) -o pythonpath=

bench: $(WHEEL_VENV)/.bench  ## The benchmarks next to their peers, with their results
	$(WHEEL_VENV)/bin/python -m benchmarks

scale: $(WHEEL_VENV)/.bench  ## What 100,000 channels in one process cost, and two processes on two cores
	$(WHEEL_VENV)/bin/python -m benchmarks.scale
	for processes in 1 2; do $(WHEEL_VENV)/bin/gamegirl load --channels 10000 --skew 0 --window 30 \
		--ramp 2000..14000 --steps 4 --seconds 32 --processes $$processes; done

chaos: $(VENV)/.dev  ## Every fault at full size, about an hour; goes on where it was stopped
	$(BIN)/gamegirl chaos all --progress .gamegirl/chaos.jsonl --report docs/reliability.md
	rm -f .gamegirl/chaos.jsonl

lock:  ## Choose the newest versions of all dependencies, with their hashes
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python $(PIP) install uv
	cd requirements && for name in run dev; do \
		UV_CUSTOM_COMPILE_COMMAND="make lock" ../.venv-lock/bin/uv pip compile --quiet --upgrade \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --extra load --output-file $$name.txt \
		../pyproject.toml build.in $$(test $$name = dev && echo dev.in -c run.txt); done
	cd requirements && UV_CUSTOM_COMPILE_COMMAND="make lock" ../.venv-lock/bin/uv pip compile \
		--quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --output-file bench.txt bench.in -c dev.txt

clean:  ## Throw away what was made
	rm -rf .venv .venv-* dist build .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache

# Each stamp stands for a finished step, so that a second run starts at once.
$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.run: $(VENV)/.made requirements/run.txt pyproject.toml
	$(BIN)/python $(PIP) install --no-deps --require-hashes -r requirements/run.txt
	$(BIN)/python $(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: $(VENV)/.made requirements/dev.txt pyproject.toml
	$(BIN)/python $(PIP) install --no-deps --require-hashes -r requirements/dev.txt
	$(BIN)/python $(PIP) install --no-deps --no-build-isolation -e .
	touch $@ $(VENV)/.run

$(WHEEL_VENV)/.made: requirements/dev.txt
	rm -rf $(WHEEL_VENV)
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python $(PIP) install --no-deps --require-hashes -r requirements/dev.txt
	touch $@

# Three: the sources, a wheel of them, and one for this platform, with compiled modules (that takes a
# C compiler and Python's headers).
$(WHEEL_VENV)/.wheel: $(WHEEL_VENV)/.made pyproject.toml hatch_build.py README.md LICENSE $(SOURCES)
	rm -rf dist
	$(WHEEL_VENV)/bin/python -m build --no-isolation
	HATCH_BUILD_HOOKS_ENABLE=1 $(WHEEL_VENV)/bin/python -m build --no-isolation --wheel
	$(WHEEL_VENV)/bin/python $(PIP) install --no-deps --force-reinstall \
		$$(ls dist/*.whl | grep -v none-any)
	$(WHEEL_VENV)/bin/python -P -c 'from gamegirl.supervisor import is_compiled; assert is_compiled()'
	touch $@

$(WHEEL_VENV)/.bench: $(WHEEL_VENV)/.wheel requirements/bench.txt
	$(WHEEL_VENV)/bin/python $(PIP) install --no-deps --require-hashes -r requirements/bench.txt
	touch $@
