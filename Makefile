# `make demo` and `make test` install all they need. Nothing is installed outside .venv.

PYTHON ?= python3
ARGS ?=
# Test files run in parallel; most tests use one core.
WORKERS ?= 2
SLOWEST := --durations=20 --durations-min=1
VENV := .venv
STAMP := $(VENV)/.installed
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed

export PIP_ROOT_USER_ACTION = ignore
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Modules are compiled on import; compiling all installed packages takes half of the installation time.
export PIP_NO_COMPILE = 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test unit docs test-system test-peers test-claims soak check clean

help:
	@echo "make demo         run the whole system on generated data (options: ARGS='--seed 1')"
	@echo "make test         run the tests; they need only this folder (ARGS are pytest arguments)"
	@echo "make unit         run the quick tests, in one process"
	@echo "make test-system  run the tests on real data, in ../shared or in IDGENREC_SHARED"
	@echo "make test-peers   compare with an older Hugging Face, in a separate environment (.venv-peers)"
	@echo "make test-claims  test the claims about the demo: four demos, a quarter of an hour"
	@echo "make soak         test lost nodes, cut links, time limits, random kills: by hand, as root, takes hours (docs/soak.md)"
	@echo "make check        run ruff, pyright and the import order test"
	@echo "make docs         build the documentation as HTML, in build/docs; a warning is an error"
	@echo "make clean        remove .venv and all caches; keep runs/"
	@echo "Another Python (3.11 or newer): make demo PYTHON=python3.12"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is Python %d.%d; idgenrec needs 3.11 or newer: give PYTHON=..." % sys.version_info[:2])'
	@if ! $(VENV)/bin/python -m pip --version >/dev/null 2>&1; then \
		echo "creating $(VENV)"; \
		$(PYTHON) -m venv --clear $(VENV); \
	fi
	@echo "installing idgenrec and its dependencies (about 2 GB, a few minutes; only the first time)"
	@$(VENV)/bin/python -m pip install -qq --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)
	@echo "running the demo"
	@$(VENV)/bin/idgenrec demo $(ARGS)

test: export OMP_NUM_THREADS = 1
test: $(STAMP)
	@echo "running the tests"
	@$(VENV)/bin/python -m pytest tests --ignore=tests/system --ignore=tests/peers --ignore=tests/claims --ignore=tests/soak $(SLOWEST) -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(ARGS)

unit: export OMP_NUM_THREADS = 1
unit: $(STAMP)
	@echo "running the quick tests"
	@$(VENV)/bin/python -m pytest tests --ignore=tests/system --ignore=tests/peers --ignore=tests/claims --ignore=tests/soak -m 'not processes and not slow' -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(ARGS)

docs: $(STAMP)
	@echo "documentation: build/docs/index.html"
	@$(VENV)/bin/python docs/configuration.py
	@$(VENV)/bin/python -m sphinx -q -W --keep-going -c docs . build/docs

test-system: export OMP_NUM_THREADS = 1
# One more than cores: the SLURM tests mostly wait.
test-system: WORKERS := $(if $(filter default file,$(origin WORKERS)),3,$(WORKERS))
test-system: $(STAMP)
	@echo "running the tests on real data"
	@$(VENV)/bin/python -m pytest tests/system $(SLOWEST) -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(ARGS)

$(PEERS_STAMP): tests/peers/requirements.txt
	@$(PYTHON) -m venv --clear $(PEERS)
	@echo "installing an older transformers in $(PEERS) (about 1 GB)"
	@$(PEERS)/bin/python -m pip install -qq --requirement tests/peers/requirements.txt
	@touch $(PEERS_STAMP)

test-peers: export OMP_NUM_THREADS = 1
test-peers: $(STAMP) $(PEERS_STAMP)
	@echo "running the comparisons with peers"
	@$(VENV)/bin/python -m pytest tests/peers $(SLOWEST) $(ARGS)

test-claims: $(STAMP)
	@echo "running four demos"
	@$(VENV)/bin/python -m pytest tests/claims $(ARGS)

soak: export OMP_NUM_THREADS = 1
soak: $(STAMP)
	@echo "running the soaks"
	@$(VENV)/bin/python -m pytest tests/soak --timeout 0 $(ARGS)

check: $(STAMP)
	@echo "ruff: rules"
	@$(VENV)/bin/ruff check .
	@echo "ruff: format"
	@$(VENV)/bin/ruff format --check .
	@echo "pyright: types"
	@$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python
	@echo "imports run one way: shards <- pretrain <- zeroshot <- launchers"
	@$(VENV)/bin/python -m pytest tests/test_imports.py

clean:
	rm -rf $(VENV) $(PEERS) .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
