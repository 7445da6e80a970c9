# Everything that a person or CI does here. `make` alone lists it.
PYTHON3 ?= python3
BIN := .venv/bin
FLEET ?= demo/fleet.toml
# Compiled once, not by each of the thousands of processes that the tests and Ansible start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup release demo demo-down test test-fast test-long test-distributions lint bench docs reference lock clean

help: ## list these commands
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 28

setup: ## .venv with the controller's tools and the daemon; the collection on Ansible's path
	@$(PYTHON3) tools/setup.py

demo: ## explorer, two nodes, site.yml, reservations and the proof that they are served, in local containers
	@$(PYTHON3) tools/setup.py demo
	@$(BIN)/python -m demo up --fleet $(FLEET)

demo-down: ## remove all that `make demo` made
	@$(PYTHON3) tools/setup.py demo
	@$(BIN)/python -m demo down --fleet $(FLEET)

test: ## everything: linters, types, unit, integration, sanity, molecule, the demo itself
	@$(PYTHON3) tools/setup.py demo test
	@$(BIN)/python -m tools.check all

test-fast: ## a few minutes: linters but ansible-lint, types, unit tests with fewer examples and without those that run Ansible
	@$(PYTHON3) tools/setup.py test
	@$(BIN)/python -m tools.check fast

lint: ## seconds: the linters and types of test-fast
	@$(PYTHON3) tools/setup.py test
	@$(BIN)/python -m tools.check fast ruff mypy imports wording yamllint changelog

test-long: ## what takes long by nature: tests/long, and the property tests with many more examples; as root those in containers too
	@$(PYTHON3) tools/setup.py $$([ "$$(id -u)" != 0 ] || echo demo) test
	@$(BIN)/python -m tools.check long $(PART)

test-distributions: ## a node of each distribution, as root: what ran, and what could not and why; one part: PART=molecule-distributions
	@$(PYTHON3) tools/setup.py demo test
	@$(BIN)/python -m tools.check distributions $(PART)

bench: ## figures as a table and as JSON, each against its limit; one part: make bench PART=explorer
	@$(PYTHON3) tools/setup.py test bench
	@$(BIN)/python -m tests.bench $(PART)

docs: reference ## the documentation as a site: .build/docs/index.html
	@$(BIN)/sphinx-build -W --keep-going --quiet -b html docs .build/docs
	@echo ".build/docs/index.html"

reference: setup ## the generated pages of the documentation, from what they describe
	@$(BIN)/python -m tools.reference

LOCKED := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --cache-dir .cache/uv \
	--python-version
CORE = echo 'ansible-core~=$(1).0' | $(LOCKED) $(2) --upgrade - requirements.txt -o requirements/cores/$(1).lock &&

release: setup ## the tarball for users, with its checksum, into dist/: make release REPOSITORY=https://HOST/OWNER/NAME
	@$(BIN)/python -m tools.release "$(REPOSITORY)"

lock: setup ## newest allowed versions of every Python package, with hashes
	$(LOCKED) 3.11 --upgrade --no-emit-package tfgateway requirements/dev.in -o requirements/dev.lock
	$(LOCKED) 3.11 --upgrade requirements/core-2.16.in -o requirements/core-2.16.lock
	$(LOCKED) 3.12 --upgrade requirements/core-2.21.in -o requirements/core-2.21.lock
	$(foreach core,2.16 2.17,$(call CORE,$(core),3.10)) true
	$(foreach core,2.18 2.19,$(call CORE,$(core),3.11)) true
	$(foreach core,2.20 2.21,$(call CORE,$(core),3.12)) true
	$(LOCKED) 3.11 --upgrade requirements/galaxy-importer.in -o requirements/galaxy-importer.lock
	$(LOCKED) 3.11 --upgrade requirements/antsibull-docs.in -o requirements/antsibull-docs.lock
	$(LOCKED) 3.11 --upgrade files/gateway_daemon/pyproject.toml -o files/gateway_daemon/requirements.lock

clean: ## remove caches, what was built and .venv (not a running demo: see demo-down)
	rm -rf .venv .cache .build dist .ansible .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
