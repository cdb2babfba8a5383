# `make test` runs every check that needs only this machine. `make ci` adds the documentation and a browser; CI runs it.
# `make demo` runs a command in a container. Each sets up what it needs: a virtual environment in .venv with the package,
# built for release and installed from a wheel. Stamps in .venv record what is up to date.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
# The user for the second run of the tests when root runs them. make adds a missing one.
TEST_USER ?= minidocker-test
# The number of pytest's processes: many tests wait for a process, so one more than there are processors.
JOBS ?= $(shell echo $$(($$(nproc) + 1)))
# The number of filters and roots that `make fuzz` generates.
FUZZ_CASES ?= 20000
# The outer containers that `make test-nested` tries: words of their names, by default all.
NESTED ?=
# Further arguments for pytest: make test-root PYTEST_ARGS='-k hostname -x'
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
TOOLS := $(VENV)/.stamp-tools
DOCS_TOOLS := $(VENV)/.stamp-docs-tools
NOTEBOOK_TOOLS := $(VENV)/.stamp-notebook-tools
PACKAGE := $(VENV)/.stamp-package
SYSTEM := $(VENV)/.stamp-system
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --durations=10 --durations-min=1

SOURCES := Cargo.toml Cargo.lock pyproject.toml README.md \
	$(shell find core pybind init python -type f ! -name '*.pyc' ! -name '*.so' 2>/dev/null)

ROOT := $(filter 0,$(shell id -u))

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 21

# --- set-up ------------------------------------------------------------------------------------

$(VENV)/bin/python:
	@scripts/system-packages.sh build
	@scripts/make-venv.sh $(PYTHON) $(VENV)

$(TOOLS): requirements-dev.txt | $(VENV)/bin/python
	@echo '==> installing the tools of requirements-dev.txt'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	touch $@

$(DOCS_TOOLS): requirements-docs.txt $(TOOLS)
	@echo '==> installing the tools of requirements-docs.txt'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-docs.txt
	touch $@

$(NOTEBOOK_TOOLS): requirements-notebook.txt scripts/system-packages.sh $(TOOLS)
	@scripts/system-packages.sh notebook
	@echo '==> installing the tools of requirements-notebook.txt'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-notebook.txt
	touch $@

# A real wheel, not an editable install, so that the tests use what a user gets.
$(PACKAGE): $(SOURCES) $(TOOLS)
	@echo '==> building and installing the package'
	rm -rf build/wheels
	$(BIN)/maturin build --quiet --release --locked --interpreter $(BIN)/python --out build/wheels
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall build/wheels/*.whl
	touch $@

$(SYSTEM): scripts/system-packages.sh | $(VENV)/bin/python
	@scripts/system-packages.sh test
	touch $@

.PHONY: install
install: $(PACKAGE) ## Build the package and install it into .venv

.PHONY: develop
develop: $(TOOLS) ## Install an editable debug build into .venv (the next make test replaces it)
	rm -f $(PACKAGE)
	$(BIN)/maturin develop

.PHONY: wheel
wheel: $(TOOLS) ## Build the source distribution, and from it the wheel for this machine, into dist/
	rm -rf dist
	$(BIN)/maturin build --quiet --release --locked --sdist --interpreter $(BIN)/python --out dist
	ls dist

# --- use ---------------------------------------------------------------------------------------

.PHONY: demo
demo: $(PACKAGE) ## Run a command in a container, and show it from both sides
	@$(BIN)/python examples/demo.py

.PHONY: bench
bench: $(PACKAGE) ## Measure against the bare system calls, bwrap, unshare, runc, fork and pytest-forked
	@scripts/system-packages.sh bench
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check numpy
	@$(BIN)/python benches/bench.py

# --- checks ------------------------------------------------------------------------------------

.PHONY: test
test: lint test-rust test-python ## Formatting, lints, types and all tests

.PHONY: lint
lint: lint-structure lint-rust lint-python ## Layers and circles, formatting, lints, types, the stub

.PHONY: lint-structure
lint-structure: | $(VENV)/bin/python
	$(BIN)/python scripts/check_structure.py

.PHONY: lint-rust
lint-rust: | $(VENV)/bin/python
	cargo fmt --all --check
	cargo fmt --manifest-path core/fuzz/Cargo.toml --check
	cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --workspace --no-deps --document-private-items

.PHONY: lint-python
lint-python: $(PACKAGE)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --concise minidocker._core

.PHONY: test-rust
test-rust: | $(VENV)/bin/python ## The tests of the Rust crates
	cargo test --quiet --locked --workspace

# Parsers of filters and readers of roots have properties that hold for any input.
.PHONY: fuzz
fuzz: ## Try generated filters and roots: FUZZ_CASES=1000000
	PROPTEST_CASES=$(FUZZ_CASES) cargo test --quiet --locked --release --package minidocker-core --lib properties

# The plain user's part comes last. Root adds a plain user if there is none.
.PHONY: test-python
test-python: $(if $(ROOT),test-root) test-plain ## The Python tests, as root and as a plain user

.PHONY: test-root
test-root: $(PACKAGE) $(SYSTEM) ## The Python tests as root
ifneq ($(ROOT),)
	@echo '==> pytest as root'
	$(PYTEST) $(PYTEST_ARGS)
else
	@echo 'make test-root: needs root, and this is user $(shell id -un). Remedy: run it as root.' >&2
	exit 1
endif

.PHONY: test-plain
test-plain: $(PACKAGE) $(SYSTEM) ## The Python tests as a plain user
ifneq ($(ROOT),)
	@echo '==> pytest as the plain user $(TEST_USER)'
	scripts/make-plain-user.sh $(TEST_USER)
	scripts/as-plain-user.sh $(TEST_USER) $(PYTEST) -p no:cacheprovider $(PYTEST_ARGS)
else
	@echo '==> pytest as the plain user $(shell id -un) only: the part for root does not run'
	$(PYTEST) $(PYTEST_ARGS)
endif

# Needs neither network nor systemd: it starts an engine of its own, and builds its image from this machine's /usr.
.PHONY: test-nested
test-nested: $(PACKAGE) $(SYSTEM) ## The smoke part of the tests, inside containers of bwrap, docker, podman and others
ifneq ($(ROOT),)
	@scripts/system-packages.sh nested
	scripts/make-plain-user.sh $(TEST_USER)
	@echo '==> the smoke part inside containers of other programs'
	PYTHONPATH=tests unshare --mount --propagation private -- \
		$(BIN)/python -m nested --user $(TEST_USER) --jobs $(JOBS) $(NESTED)
else
	@echo 'make test-nested: starting an engine needs root, and this is user $(shell id -un). Remedy: run it as root.' >&2
	exit 1
endif

# The API reference comes from the docstrings of the package in .venv. The build runs the notebooks.
.PHONY: docs
docs: $(PACKAGE) $(DOCS_TOOLS) $(SYSTEM) ## Build the documentation into build/docs/html; a warning is an error
	@echo '==> building the documentation'
	rm -rf build/docs docs/notebooks
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --doctree-dir build/docs/doctrees docs build/docs/html

# It needs a server and a browser. A person has to look at the pictures in build/screenshots.
.PHONY: notebook-screenshot
notebook-screenshot: $(PACKAGE) $(NOTEBOOK_TOOLS) $(SYSTEM) ## Run a notebook in JupyterLab in Chromium, and take pictures of it
	@echo '==> running a notebook in a browser'
	$(BIN)/python scripts/notebook-screenshot.py $(NOTEBOOK)

# pytest comes last: its summary ends the output.
.PHONY: ci
ci: docs notebook-screenshot test-nested test ## docs, notebook-screenshot, test-nested and test, as in CI

.PHONY: format
format: $(TOOLS) ## Rewrite the sources in the project's format
	cargo fmt --all
	cargo fmt --manifest-path core/fuzz/Cargo.toml
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --quiet --fix .

.PHONY: clean
clean: ## Remove everything that make created
	rm -rf $(VENV) build target dist docs/notebooks .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
