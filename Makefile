# make demo   environment, weights, a real clip read, and a page to open
# make test   environment, ruff, mypy and every test
# make clean  remove what those two made (the weights stay in the cache folder)
#
# Both may be run again: what is already there is kept, so the second run is fast.

PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo.html
PIP_FLAGS ?=

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet $(PIP_FLAGS)
SAYS = I was not expecting that, give me a moment to think about it.

.PHONY: demo test lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/.core
	$(BIN)/emoverse pull compact
	$(BIN)/emoverse analyze "$$($(BIN)/emoverse pull demo)" --text "$(SAYS)" --html "$(DEMO)"
	@echo "Open $(abspath $(DEMO)) in a browser."

test: $(VENV)/.dev lint
	$(BIN)/emoverse pull compact
	-$(BIN)/emoverse pull whisper-base  # without it the tests of speech are skipped
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	@echo "Making the environment in $(VENV) (a few minutes the first time) ..."
	$(PYTHON) -m venv "$(VENV)"

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.core

clean:
	rm -rf .venv build dist demo.html .mypy_cache .pytest_cache .ruff_cache .hypothesis
