# Everything a developer runs. Each target sets up .venv itself, from the interpreter it is given:
#     make test PYTHON=python3.13

PYTHON ?= python3
MINUTES ?= 5
WORKERS ?= auto
# The order is that of tests/parallel.py. A test that hangs ends its worker; the time includes the boot of a server.
SIDE_BY_SIDE := -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 1 --timeout 180
BIN := .venv/bin
# Tests start hundreds of processes. What these import is compiled once, even where writing it down is switched off.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache
PLUGINS := $(patsubst %/pyproject.toml,-e ./%,$(wildcard plugins/*/pyproject.toml))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help venv lint types docs servers test test-next soak soak-links interop demo bench mutants clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: .venv/.test  ## set up .venv with all that development needs

lint: .venv/.test  ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.test  ## mypy, strict
	$(BIN)/mypy

docs: .venv/.test  ## build the site into site/, where a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

servers: .venv/.test  ## find RabbitMQ and Redis for the tests; on Debian, as root, install them if there are none
	@$(BIN)/python -m tests.servers.install

test: lint types docs servers  ## everything that must hold before a commit; WORKERS=0 runs the tests in one process
	@rm -f .coverage .coverage.*
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) --cov --cov-report=term $(PYTEST)

test-next: .venv/.test  ## all tests that need servers, with RabbitMQ 4 and Redis 8 (root on Debian, or docker)
	@$(BIN)/python -m tests.servers.next $(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "broker or redis or fault" $(PYTEST)

soak: .venv/.test servers  ## MINUTES=5 of faults under keyed calls: what was lost, done twice, left behind?
	@$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

soak-links: .venv/.test servers  ## MINUTES=5 of faults of links and messages under calls without keys
	@$(BIN)/python -m tests.faults.soak --links --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

interop: .venv/.test servers  ## other languages and HAProxy: needs node with npm, a JDK with amqp-client, haproxy, systemd
	@$(BIN)/python -m pytest interop $(PYTEST)

demo: .venv/.core  ## watch a call survive, without any server installed
	@$(BIN)/resilient-rpc demo

mutants: .venv/.mutation  ## change the policies in a thousand ways: which changes does no test notice?
	rm -rf mutants
	$(BIN)/mutmut run
	@$(BIN)/mutmut results

bench: .venv/.bench servers  ## measure what a call costs, beside the peers, into bench/; BENCH="--quick" ends within 90 s
	@$(BIN)/resilient-rpc bench --out bench $(BENCH)

clean:  ## remove what the other targets made
	rm -rf .venv .servers site dist build bench mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -prune -exec rm -rf {} +

# --- the environment, in three sizes; a stamp is older than pyproject.toml when it must be made again ---

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) here; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "error: resilient_rpc needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1); name another: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "error: $(PYTHON) cannot make a venv (Debian: apt-get install python3-venv)" >&2; exit 1; }

.venv/.core: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

.venv/.test: pyproject.toml $(wildcard plugins/*/pyproject.toml) | .venv/bin/python
	$(BIN)/python -m pip install --quiet -e '.[test,docs]' $(PLUGINS)
	@touch .venv/.core $@

.venv/.mutation: .venv/.test
	$(BIN)/python -m pip install --quiet -e '.[mutation]'
	@touch $@

.venv/.bench: .venv/.core | .venv/bin/python
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	@touch $@
