PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint deploy screenshots chaos bench clean

demo: $(STAMP)
	$(BIN)/scim-matrix demo

test: lint
	bash scripts/get_chromium.sh
	$(BIN)/python -m pytest --cov --cov-report=term

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m scripts.settings_table --check

deploy: $(STAMP)
	bash scripts/check_deploy.sh
	bash scripts/check_container.sh

screenshots: $(STAMP)
	bash scripts/get_chromium.sh
	SCREENSHOTS=1 $(BIN)/python -m pytest -q tests/synapse/test_browser.py -k "decided and light"

chaos: $(STAMP)
	$(BIN)/python scripts/chaos.py

bench: $(STAMP)
	$(BIN)/python -m benchmarks.scim
	$(BIN)/python -m benchmarks.rooms

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist
