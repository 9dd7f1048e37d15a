# A machine with Python 3.11 to 3.13 and make is enough: everything else is installed below this folder.
# `uv` is taken from PATH when it is new enough, else installed into .tools/.

UV_VERSION := 0.13.9
PYTHON ?= python3
PYTEST_WORKERS ?= 2
PYTEST_ARGS ?=
IMAGES_ARGS ?=
E2E_ARGS ?=
DEMO := demo

uv_on_path := $(shell command -v uv 2>/dev/null)
ifneq ($(uv_on_path),)
uv_oldest := $(shell printf '%s\n' "$$(uv --version | cut -d' ' -f2)" $(UV_VERSION) | sort -V | head -n 1)
ifneq ($(uv_oldest),$(UV_VERSION))
uv_on_path :=
endif
endif

UV := $(or $(uv_on_path),.tools/bin/uv)
uv_stamp := $(if $(uv_on_path),,.tools/uv-$(UV_VERSION))
synced := .venv/.synced
kube_tools := .tools/.kube-tools
# Without Go there is nothing to build a control plane with; the tests then say that they did not run.
controlplane := $(if $(shell command -v go 2>/dev/null),controlplane)
RUN := $(UV) run --no-sync --

# Work is done on CPUs here; TensorFlow's greetings say nothing about it.
export CUDA_VISIBLE_DEVICES :=
export TF_CPP_MIN_LOG_LEVEL := 3

.DEFAULT_GOAL := help
.PHONY: help demo demo-clean test controlplane images e2e lint format bench clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(DEMO)/model.keras $(DEMO)/study.yaml ## Train a small network, search its Pareto front, show where the results are
	$(RUN) paretune run $(DEMO)/study.yaml --workdir $(DEMO)/run
	@printf '\nTo see the study in MLflow: %s\n' \
		'$(UV) run mlflow ui --backend-store-uri sqlite:///$(DEMO)/run/mlflow.db'

$(DEMO)/model.keras: docs/examples/digits/train.py | $(synced)
	$(RUN) python docs/examples/digits/train.py $(DEMO)

$(DEMO)/study.yaml: docs/examples/digits/study.yaml $(DEMO)/model.keras
	cp $< $@

demo-clean: ## Forget the demo's model, trials and caches
	rm -rf $(DEMO)

test: $(synced) $(kube_tools) $(controlplane) ## Run all tests; PYTEST_ARGS and PYTEST_WORKERS are passed on
	$(RUN) pytest -n $(PYTEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

controlplane: ## Build the Kubernetes API server that tests/cluster talks to (minutes, once; needs Go)
	@$(PYTHON) tests/controlplane/build.py

images: ## Build the images with buildah, podman or docker; IMAGES_ARGS is passed on (--help: docs/images.md)
	@$(PYTHON) tests/e2e/images.py $(IMAGES_ARGS)

# What is missing is said before anything takes time. A given cluster needs no control plane of ours.
e2e: ## Run a study on a real node, or on PARETUNE_E2E_KUBECONFIG's cluster; E2E_ARGS is passed on (tests/e2e/README.md)
	@$(PYTHON) tests/e2e/needs.py
	@$(MAKE) --no-print-directory $(synced) $(kube_tools) $(if $(PARETUNE_E2E_KUBECONFIG),,controlplane)
	@exec env PYTHONPATH=tests .venv/bin/python -m e2e $(E2E_ARGS)

lint: $(synced) ## Check style, formatting, types and the walls between packages
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports --no-logo

format: $(synced) ## Format the code and apply safe fixes
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

bench: $(synced) ## Run the benchmarks of Paretune itself; each prints a table
	@for script in tests/bench/*.py; do echo "== $$script"; $(RUN) python "$$script" || exit 1; done

clean: demo-clean ## Remove everything that make has made, environment included
	rm -rf .venv .tools build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# --locked: a lock that does not fit the pyproject files is an error, never silently rewritten.
$(synced): uv.lock pyproject.toml operator/pyproject.toml $(wildcard jobs/*/pyproject.toml) | $(uv_stamp)
	$(UV) sync --locked
	@touch $@

# Helm and kubectl, in .tools/bin.
$(kube_tools): tests/support/kube_tools.py | $(synced)
	$(RUN) python $< $(UV)
	@touch $@

.tools/uv-$(UV_VERSION):
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@
