# Needs Python 3.11 or later, make and pip. Everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: demo test lint bench format constraints clean

demo: $(VENV)/.demo  ## One run of the whole thing on a local AWS: container, state machine, Lambda
	@$(BIN)/stepout demo

test: $(VENV)/.dev  ## Everything, with coverage
	$(BIN)/python -m pytest -n 3 --dist worksteal --cov --cov-report=term-missing:skip-covered
	@rm -f .coverage.*  # broken ones, of processes that tests have killed
	@for folder in artifacts callbacks schemas; do \
		printf 'coverage of %s, in percent: ' $$folder; \
		$(BIN)/python -m coverage report --include="$$folder/*" --fail-under=95 --format=total || exit 1; \
	done

lint: $(VENV)/.dev  ## Style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## Speed and memory, as ratios against peers in the same run
	$(BIN)/python -m benchmarks

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: $(VENV)/.dev  ## Pin what is installed now
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -E "^[A-Za-z0-9._-]+==" > constraints.txt

clean:
	rm -rf $(VENV) build dist src/*.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	@touch $@

$(VENV)/.demo: $(VENV)/.pip pyproject.toml constraints.txt
	$(PIP) -e ".[all,local]"
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) --group dev
	@touch $@
