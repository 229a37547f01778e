# What a person types here. Every target says what it does: make help.

PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
STAMP := .venv/.made-for-lock
KFP_2_17 := build/conformance/kfp-2.17/.made
export OMP_NUM_THREADS ?= 1
.DEFAULT_GOAL := help
TRITONCLIENT := build/conformance/tritonclient-2.73/.made
KSERVE := build/conformance/kserve-0.21/.made
MLSERVER := build/conformance/mlserver-1.7/.made
BENTOML := build/conformance/bentoml-1.4/.made
.PHONY: help venv system demo test lint format pytest soak bench bench-pipelines bench-serving conformance conformance-serving conformance-kserve conformance-kfp docs clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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
	$(BIN)/python -m pytest -m 'not soak' -n auto --dist loadfile --durations 25 $(ARGS)

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

bench-serving: venv $(KSERVE) $(MLSERVER) $(BENTOML)  ## what a prediction costs our server, KServe's, MLServer and BentoML
	$(BIN)/python benchmarks/serving.py --kserve $(dir $(KSERVE))bin/python --mlserver $(dir $(MLSERVER))bin/python \
		--bentoml $(dir $(BENTOML))bin/python $(ARGS)

conformance: venv $(KFP_2_17) $(TRITONCLIENT) $(KSERVE)  ## the clients of others, unchanged, against this platform
	$(BIN)/python -m pytest tests/clients $(ARGS)

# Some clients cannot share an environment with the platform: kfp 2.17 wants exactly one version of requests and of urllib3.
$(KFP_2_17):
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check 'kfp==2.17.*'
	@touch $@

$(TRITONCLIENT):
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check 'tritonclient[http,grpc]==2.73.0'
	@touch $@

# With what its servers need in the benchmark, in the versions that the models are made with.
$(KSERVE):
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check 'kserve==0.21.0' \
		$$(grep -hoE '^(scikit-learn|lightgbm|joblib|pandas)==[^ ;]+' requirements/dev.lock)
	@touch $@

# Peers of the benchmark only.
$(MLSERVER): PACKAGES = mlserver==1.7.1
$(BENTOML): PACKAGES = bentoml==1.4.39
$(MLSERVER) $(BENTOML):
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(PACKAGES) \
		$$(grep -hoE '^(scikit-learn|lightgbm|joblib)==[^ ;]+' requirements/dev.lock)
	@touch $@

conformance-serving: venv $(TRITONCLIENT) $(KSERVE)  ## every call of tritonclient and of KServe's clients, in a table
	$(BIN)/python conformance/serving_clients.py --tritonclient $(dir $(TRITONCLIENT))bin/python --kserve $(dir $(KSERVE))bin/python

conformance-kserve: venv  ## what becomes of KServe's own samples; REPO="CHECKOUT …" of kserve/kserve, and kserve/website
	@test -n "$(REPO)" || { echo "Say where: make conformance-kserve REPO=/path/to/kserve" >&2; exit 1; }
	$(BIN)/python conformance/kserve_samples.py $(REPO)

conformance-kfp: venv  ## run the pipelines of a checkout of kubeflow/pipelines and compare: REPO=PATH
	@test -n "$(REPO)" || { echo "Say where the checkout is: make conformance-kfp REPO=PATH" >&2; exit 2; }
	$(BIN)/python conformance/kfp_corpus.py "$(REPO)" $(ARGS)

docs: venv  ## write the generated pages anew (docs/cli.md)
	$(BIN)/python scripts/write_docs.py

clean:  ## remove what make and the tools made; installations (.goldenloop) stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find src tests examples scripts -name __pycache__ -type d -prune -exec rm -rf {} +
