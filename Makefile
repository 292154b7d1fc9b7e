# The two commands of the README, and the tools behind them. Needs git, make and Python 3.11 or later.
PYTHON ?= $(firstword $(foreach version,3.11 3.12 3.13 3,$(shell command -v python$(version) 2>/dev/null)))
BIN := .venv/bin
ARGS ?= -m model=vgg16 batch=1,2,4,8

.PHONY: sweep test check pins clean
.DEFAULT_GOAL := sweep

sweep: .venv/runtime  ## run a sweep; make sweep ARGS="-m model=tiny batch=1,2" for another
	@$(BIN)/python sweeps/run.py $(ARGS)

test: .venv/dev  ## style, types and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 tests/nets  # these neither time anything nor count cores
	$(BIN)/python -m pytest --ignore tests/nets

check: .venv/dev  ## style and types; fixes what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; found " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv

# A stamp is written only after all packages are installed, so an interrupted installation continues.
.venv/runtime: requirements.txt | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev: requirements-dev.txt .venv/runtime
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

pins:  ## pin the newest versions that pyproject.toml allows
	rm -rf build/pins && $(PYTHON) -m venv build/pins
	build/pins/bin/pip install --quiet .
	build/pins/bin/pip freeze --all --exclude pip --exclude convnet-sweeps > requirements.txt
	build/pins/bin/pip install --quiet '.[dev]'
	build/pins/bin/pip freeze --all --exclude pip --exclude convnet-sweeps | grep -vxFf requirements.txt > requirements-dev.txt

clean:  ## remove everything that can be made again, except results
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis
