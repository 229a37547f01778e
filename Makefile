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
MLMD := build/conformance/ml-metadata-1.17/.made
MLFLOW_3 := build/conformance/mlflow-3/.made
MLFLOW_2 := build/conformance/mlflow-2/.made
MODEL_REGISTRY := build/conformance/model-registry-0.3/.made
MLSERVER := build/conformance/mlserver-1.7/.made
BENTOML := build/conformance/bentoml-1.4/.made
DRIFT := $(patsubst %,build/conformance/drift/%/.made,evidently nannyml alibi-detect whylogs)
ENGINES := build/conformance/engines/.made
CLIENTS := $(KFP_2_17) $(TRITONCLIENT) $(KSERVE) $(MLMD) $(MLFLOW_3) $(MLFLOW_2) $(MODEL_REGISTRY)
.PHONY: help venv system demo test lint format pytest soak bench bench-pipelines bench-serving bench-monitoring bench-records bench-mlflow conformance conformance-mlmd conformance-serving conformance-kserve conformance-kfp docs clean

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

bench: bench-serving bench-pipelines bench-monitoring bench-records bench-mlflow  ## run the benchmarks, one after the other
	$(BIN)/python benchmarks/promotions.py
	$(BIN)/python benchmarks/policies.py

bench-serving: venv $(KSERVE) $(MLSERVER) $(BENTOML)  ## what a prediction costs our server, KServe's, MLServer and BentoML
	$(BIN)/python benchmarks/serving.py --kserve $(dir $(KSERVE))bin/python --mlserver $(dir $(MLSERVER))bin/python \
		--bentoml $(dir $(BENTOML))bin/python $(ARGS)

bench-pipelines: venv $(ENGINES)  ## what a trivial step costs here, in kfp.local, luigi, metaflow, prefect and dagster
	$(BIN)/python benchmarks/pipelines.py --peers $(dir $(ENGINES))bin/python $(ARGS)

bench-monitoring: venv $(DRIFT)  ## drift reports beside evidently, nannyml, alibi-detect and whylogs, and what a row costs
	$(BIN)/python benchmarks/monitoring.py $(foreach p,$(DRIFT),--$(notdir $(patsubst %/.made,%,$(p))) $(dir $(p))bin/python) $(ARGS)

bench-records: venv  ## what the payload log acknowledges, what it holds when it is sealed, how soon one answer is found
	$(BIN)/python benchmarks/payloads.py $(ARGS)

bench-mlflow: venv $(MLFLOW_3)  ## MLflow's client against us and against MLflow's own server
	$(BIN)/python benchmarks/mlflow_door.py --mlflow $(dir $(MLFLOW_3))bin/python $(ARGS)

conformance: venv $(CLIENTS)  ## the clients of others, unchanged, against this platform
	$(BIN)/python -m pytest tests/clients $(ARGS)

# Some clients cannot share an environment with the platform: kfp 2.17 wants exactly one version of requests and of urllib3. The peers
# of a benchmark get the versions that its models are made with.
$(KFP_2_17): PACKAGES = 'kfp==2.17.*'
$(TRITONCLIENT): PACKAGES = 'tritonclient[http,grpc]==2.73.0'
$(KSERVE): PACKAGES = kserve==0.21.0 $$(grep -hoE '^(scikit-learn|lightgbm|joblib|pandas)==[^ ;]+' requirements/dev.lock)
$(MLMD): PACKAGES = 'ml-metadata==1.17.*' pytest
$(MLFLOW_3): PACKAGES = mlflow==3.17.2 scikit-learn onnxruntime
$(MLFLOW_2): PACKAGES = 'mlflow==2.22.*'
$(MODEL_REGISTRY): PACKAGES = model-registry==0.3.18
$(MLSERVER): PACKAGES = mlserver==1.7.1 $$(grep -hoE '^(scikit-learn|lightgbm|joblib)==[^ ;]+' requirements/dev.lock)
$(BENTOML): PACKAGES = bentoml==1.4.39 $$(grep -hoE '^(scikit-learn|lightgbm|joblib)==[^ ;]+' requirements/dev.lock)
build/conformance/drift/evidently/.made: PACKAGES = evidently==0.7.23 'pandas<3' pyarrow
build/conformance/drift/nannyml/.made: PACKAGES = nannyml statsmodels pyarrow
build/conformance/drift/alibi-detect/.made: PACKAGES = alibi-detect==0.13.0 'pyarrow==20.*'
build/conformance/drift/whylogs/.made: PACKAGES = 'whylogs[viz]' 'pandas<3' pyarrow
$(ENGINES): PACKAGES = kfp==2.16.1 luigi==3.8.1 metaflow==2.19.39 prefect==3.8.8 dagster==1.13.29
$(CLIENTS) $(MLSERVER) $(BENTOML) $(ENGINES) $(DRIFT):
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(PACKAGES)
	@touch $@

conformance-serving: venv $(TRITONCLIENT) $(KSERVE)  ## every call of tritonclient and of KServe's clients, in a table
	$(BIN)/python conformance/serving_clients.py --tritonclient $(dir $(TRITONCLIENT))bin/python --kserve $(dir $(KSERVE))bin/python

conformance-mlmd: venv $(MLMD)  ## the test suite that ships with ml-metadata against our service
	$(BIN)/python conformance/mlmd.py --python $(dir $(MLMD))bin/python $(ARGS)

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
