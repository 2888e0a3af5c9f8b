# Every target makes the virtual environment if need be; a second call installs nothing.
# GNU Make 3.81 (macOS) and a plain POSIX shell are enough.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Which interpreter makes the environment: `make install PYTHON=/path/to/python3.12`.
PYTHON ?=
# How many processes share the tests. One takes all tests on the shared Ray head, and the others take file by file, in
# the order of tests/conftest.py.
JOBS ?= 3
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --no-loadscope-reorder
# After how many minutes `make test-slow` begins no further test.
MINUTES ?= 30
# Which of them: `make test-slow TESTS=tests/unit/store`.
TESTS ?= tests
# Which benchmarks `make bench` runs: `make bench BENCH=overhead`.
BENCH ?= *
# How long `make chaos` does its worst, in what order, and whether it keeps the home: `make chaos SECONDS=60 SEED=2 KEEP=1`.
SECONDS ?= 600
SEED ?= 1
KEEP ?=

.DEFAULT_GOAL := help
.PHONY: help install run check test test-slow test-all bench chaos clean verify

help: ## Show this list
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## Make the virtual environment .venv with everything the project needs
	@echo "installed: the commands are $(BIN)/supervisord and $(BIN)/supervisorctl (also sweepd and sweepctl)"

run: $(STAMP) ## Run the smoke plan on real market data to its report (under 3 minutes)
	@echo "==> running the smoke plan; Ctrl-C ends the waiting, not the run ($(BIN)/supervisorctl shutdown does)"
	@$(BIN)/supervisord start smoke
	@$(BIN)/supervisorctl wait

check: $(STAMP) ## Check style, format, types and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/contract/test_imports.py

test: $(STAMP) ## Run the tests, except those that take minutes each
	@echo "==> running the tests (not the slow ones: those are in 'make test-all')"
	$(PYTEST) -m "not slow"

test-slow: $(STAMP) ## Run what 'make test' leaves out, as much as MINUTES allow
	@echo "==> running the slow tests, and the property tests with many examples, for $(MINUTES) minutes at most"
	$(PYTEST) -m "slow or hypothesis" --hypothesis-profile=full --minutes=$(MINUTES) $(TESTS)

test-all: $(STAMP) ## Run every test, slow ones included
	@echo "==> running every test"
	$(PYTEST) --hypothesis-profile=full

bench: $(STAMP) ## Measure the figures that README quotes (BENCH=NAME: one of them)
	@for file in benchmarks/$(BENCH).py benchmarks/$(BENCH)/__main__.py; do \
		grep -qs __main__ "$$file" || continue; \
		name=$${file#benchmarks/}; name=$${name%.py}; name=$${name%/__main__}; \
		test "$$name" = chaos && continue; \
		echo "==> $$file"; $(BIN)/python -m "benchmarks.$$name" || exit $$?; \
	done

chaos: $(STAMP) ## Kill and starve a real search for SECONDS, then prove that it lost nothing
	$(BIN)/python -m benchmarks.chaos --seconds $(SECONDS) --seed $(SEED) $(if $(KEEP),--keep)

verify: $(STAMP) ## Check the imported market data against their recorded checksums
	@echo "==> checking the market data"
	@$(BIN)/supervisord data verify

clean: ## Remove the environment, caches and build results; runs, state, data and logs stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -type d -name __pycache__ -prune -exec rm -rf {} +

# The stamp is touched last, so an interrupted installation is taken up again.
$(STAMP): pyproject.toml constraints.txt
	@if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
		suits='import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; \
		chosen=''; \
		for python in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3); do \
			if "$$python" -c "$$suits" 2>/dev/null; then chosen="$$python"; break; fi; \
		done; \
		if [ -z "$$chosen" ]; then \
			echo "no usable Python found among: $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3)" >&2; \
			echo "  cure: install Python 3.11, 3.12 or 3.13 with its venv module (Debian and Ubuntu: apt install python3-venv)," >&2; \
			echo "        or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
			exit 1; \
		fi; \
		echo "==> making the virtual environment $(VENV) with $$("$$chosen" -V)"; \
		"$$chosen" -m venv --clear $(VENV); \
	fi
	@echo "==> installing sweep-supervisor and its dependencies into $(VENV) (some minutes the first time)"
	@( while sleep 20 >/dev/null 2>&1; do \
		echo "    still at work: $$(du -sm $(VENV) | cut -f1) MB of about 2,000"; done ) & alive=$$!; \
	trap 'kill $$alive 2>/dev/null' EXIT; trap 'exit 130' INT TERM; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
