# One command for each thing. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help packages test-packages setup check test land soak storm demo demo-stop dev bench format docs lock clean

BIN := .venv/bin
ARGS ?=

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.filled ## packages, .venv and daemons; quick when nothing changed
	@scripts/venv link
	@scripts/host daemons

packages:
	@scripts/host packages

test-packages: | packages
	@scripts/host test-packages

.venv/.filled: requirements-dev.txt pyproject.toml scripts/venv | packages
	@scripts/venv

check: .venv/.filled test-packages ## format, lint, types, import contracts, budgets, docs
	@scripts/check

test: setup test-packages ## the tests; some of them: make test ARGS="tests/unit -k ports"
	@scripts/test $(ARGS)

land: ## run .ci/run on a clone of main, and note the commit when it is green
	@scripts/land $(ARGS)

soak: .venv/.filled ## simulate clouds that break, an hour long; ARGS="--minutes 600 --seed 5000"
	@PYTHONHASHSEED=0 $(BIN)/python -m tests.simulation.check --minutes 60 $(ARGS)

storm: setup test-packages ## break real hosts in containers, an hour long; ARGS="--minutes 10 --seed 7"
	@$(BIN)/python -m tests.cloud.storms $(ARGS)

demo: setup ## a virtual machine and a container, each serving a page
	@$(BIN)/python scripts/demo

demo-stop: ## remove all that the demo made
	@$(BIN)/python scripts/demo stop

dev: .venv/.filled ## a controller and nodes with fake machines, in the foreground
	@$(BIN)/iaas dev $(ARGS)

bench: setup ## measure against the bare tools
	@$(BIN)/python -m benchmarks $(ARGS)

format: .venv/.filled ## put sources into the form that check asks for
	@$(BIN)/ruff check --quiet --fix
	@$(BIN)/ruff format --quiet

docs: .venv/.filled ## draw the parts of the documentation that the code knows best
	@$(BIN)/python scripts/docs

lock: .venv/.filled ## resolve pyproject.toml into the lock files again
	@scripts/lock

clean: ## remove what was built here; machines and data stay
	@rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
