# From a fresh machine with Python 3.11, make and a package index to results: `make demo`, `make test`.
# Every target first makes .venv if it is missing or older than pyproject.toml or constraints.txt.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
SOAK_KILLS ?= 50
SOAK_MUTATIONS ?= 2000
# Two test processes with one thread each; one process with all threads spends its time waiting.
TEST_PROCESSES ?= 2
ONE_THREAD = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

BIN = .venv/bin
READY = .venv/.ready
# Two makes at once (in two terminals) take turns to install, where the system has flock.
TURN = $(shell command -v flock >/dev/null && echo flock .venv.lock)

.PHONY: help demo test check soak clean

help:
	@echo "make demo    segment both hippocampi of a real brain that comes from the package index"
	@echo "make test    all tests but the soak"
	@echo "make check   lint, format, types, import rules, and every command in the documentation"
	@echo "make soak    kill and resume long jobs at random moments, SOAK_KILLS=$(SOAK_KILLS) times,"
	@echo "             and read real scans that are damaged at random, SOAK_MUTATIONS=$(SOAK_MUTATIONS) of them"
	@echo "make clean   remove .venv, caches and what the demo wrote"

$(READY): pyproject.toml constraints.txt
	@$(TURN) $(MAKE) --no-print-directory install

# Asked for again under the lock: the make that waited finds the work done.
.PHONY: install
install:
	@if [ $(READY) -nt pyproject.toml ] && [ $(READY) -nt constraints.txt ]; then exit 0; fi; set -e; \
	"$(PYTHON)" -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "unet-med needs Python 3.11 or newer; this is %d.%d. Name another one with make PYTHON=/path/to/python3.11" % sys.version_info[:2])'; \
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv; \
	echo "Installing into .venv (a minute or two, once) ..."; \
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,demo]"; \
	touch $(READY)

demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY)
	$(ONE_THREAD) $(BIN)/python -m pytest -m "not soak" -n $(TEST_PROCESSES) --dist loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(ONE_THREAD) $(BIN)/python -m pytest -q tests/unit/test_docs_run.py

soak: $(READY)
	$(ONE_THREAD) SOAK_KILLS=$(SOAK_KILLS) SOAK_MUTATIONS=$(SOAK_MUTATIONS) $(BIN)/python -m pytest -m soak -s

clean:
	rm -rf .venv .venv.lock .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis demo-output dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
