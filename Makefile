# One line per target: `make help`. The same targets run locally and in CI (.ci/run).
PYTHON ?= python3.11
BIN := .venv/bin
# Keyed on content, not on time: a checkout that touches the files without changing them installs nothing.
STAMP := .venv/.installed-$(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)

export DO_NOT_TRACK ?= 1
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false
export MLFLOW_DISABLE_TELEMETRY ?= true

.DEFAULT_GOAL := help
.PHONY: help setup demo up test faults lint format bench browser reference

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with everything pinned in constraints.txt; nothing to do the second time

$(STAMP):
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on PATH; install Python 3.11 or run make PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot create .venv; on Debian: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[learn,dev]'
	@rm -f .venv/.installed-*
	@touch $@

demo: setup ## the whole loop on bundled data, about two minutes, then an address to open
	@$(BIN)/python -m flows.demo

up: setup ## service, console and scheduled rounds, until Ctrl-C
	@$(BIN)/python -m flows.serve

test: setup ## the whole suite: no network, no GPU
	$(BIN)/python -m pytest -n 2 --dist loadfile

faults: setup ## every fault in full, an hour or more: benchmarks/results/faults.json (docs/reliability.md)
	PENSTOCK_FAULTS=full $(BIN)/python -m pytest tests/faults

lint: setup ## ruff, mypy, import-linter
	$(BIN)/ruff check src flows tests benchmarks
	$(BIN)/ruff format --check src flows tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

browser: ## Debian's Chromium for tests/browser, which are skipped without one
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; }

reference: setup ## docs/settings.md and docs/endpoints.md from the code
	@$(BIN)/penstock reference

format: setup ## rewrite the sources the way lint expects them
	$(BIN)/ruff check --fix --quiet src flows tests benchmarks
	$(BIN)/ruff format --quiet src flows tests benchmarks

bench: setup ## figures of speed: benchmarks/results/*.json and docs/benchmarks.md
	@set -e; for name in throughput exact_gradient growth index_refresh round_to_bundle encoding gpu false_promotions tables; do \
		echo "== $$name"; $(BIN)/python -W ignore benchmarks/$$name.py; done
