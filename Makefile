# What a person types here. Every target says what it does: make help.

PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
STAMP := .venv/.made-for-lock
export OMP_NUM_THREADS ?= 1
.DEFAULT_GOAL := help
.PHONY: help venv system demo test lint format pytest soak bench conformance docs clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP)  ## make .venv with everything in it (once for each state of the lock)

# Python files are compiled here, so that the first start is not slow; that must also work where PYTHONDONTWRITEBYTECODE is set.
$(STAMP): requirements/dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "There is no Python 3.11 or later here. Install one, or say which: make venv PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "Python cannot make virtual environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into .venv; this takes about a minute the first time" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv \
		&& env -u PYTHONDONTWRITEBYTECODE $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements/dev.lock -e . \
		|| { echo "uv did not do it; trying pip, which takes longer" >&2; \
		env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.lock -e .; }
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q src
	@touch $@

system:
	@scripts/install_debian.sh

demo: venv  ## show the loop closing on real data; ARGS="--exit" stops everything at the end
	@$(BIN)/goldenloop demo $(ARGS)

test: venv system lint pytest  ## everything that must pass before a change goes in

pytest: venv
	$(BIN)/python -m pytest -m 'not soak' $(ARGS)

lint: venv  ## style, types and floors
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: venv  ## bring the source into its form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

soak: venv  ## the long simulations
	$(BIN)/python -m pytest -m soak $(ARGS)

bench: venv  ## run the benchmarks, one after the other
	@found=0; for file in $(wildcard benchmarks/*.py); do found=1; echo "== $$file"; $(BIN)/python "$$file" || exit 1; done; \
		test $$found = 1 || echo "There are no benchmarks yet (benchmarks/*.py)."

conformance: venv  ## the clients of others, unchanged, against this platform
	@echo "What is here: the clients under tests/clients. To come: kfp.Client, tritonclient, KServe, Katib, ml-metadata, mlflow,"
	@echo "Prometheus, Alertmanager, kubectl."
	@if ls tests/clients/test_*.py >/dev/null 2>&1; then $(BIN)/python -m pytest tests/clients $(ARGS); \
		else echo "There are none yet: nothing was tested."; fi

docs: venv  ## write the generated pages anew (docs/cli.md)
	$(BIN)/python scripts/write_docs.py

clean:  ## remove what make and the tools made; installations (.goldenloop) stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find src tests examples scripts -name __pycache__ -type d -prune -exec rm -rf {} +
