PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo walk test coverage model mutants few-mutants lint lock audit deploy screenshots chaos bench release clean

demo: $(STAMP)
	$(BIN)/scim-matrix demo
	$(BIN)/scim-matrix demo --mas

# The first hour of an administrator, from an empty folder to people in a room, mistakes included.
walk: $(STAMP)
	$(BIN)/python -m scripts.first_hour

# Four at a time on two cores: most of them wait for a server more than half of the time.
test: lint
	bash scripts/get_chromium.sh
	bash scripts/get_postgresql.sh
	$(BIN)/python -m pytest -n 4 --dist worksteal --durations=40

# What the tests run of the code; counting it makes them a third slower.
coverage: $(STAMP)
	bash scripts/get_chromium.sh
	bash scripts/get_postgresql.sh
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term

# The model test with other moves each time, until the time is over (SECONDS) or it finds something;
# STEPS moves an example.
SECONDS ?= 1800
STEPS ?= 40
model: $(STAMP)
	$(BIN)/python -m scripts.model --seconds $(SECONDS) --steps $(STEPS)

# Which single changes of the code, of a sample, no test notices: an hour, and it goes on where it
# was cut off (SEED, SAMPLE). Those that change nothing are listed in scripts/equivalent.toml.
SEED ?= 1
SAMPLE ?= 600
mutants: $(STAMP)
	$(BIN)/python -m scripts.mutants --seed $(SEED) --sample $(SAMPLE)

# A few of those that a test noticed, and of lines that changed since then: minutes.
few-mutants: $(STAMP)
	$(BIN)/python -m scripts.mutants --check 8

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m scripts.settings_table --check
	$(BIN)/python -m scripts.problems_page --check
	$(BIN)/bandit -q -c pyproject.toml -r src
	$(BIN)/python -m scripts.check_lock

# The versions in the image, with hashes: whoever installs from them gets what was tested.
LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock: $(STAMP)
	$(LOCK) --extra postgresql --output-file deploy/requirements.txt setup.cfg
	echo 'setuptools>=77' | $(LOCK) --output-file deploy/requirements-build.txt -

# Asks PyPI for known vulnerabilities of what is locked.
audit: $(STAMP)
	$(BIN)/pip-audit --disable-pip --require-hashes -r deploy/requirements.txt

deploy: $(STAMP)
	bash scripts/check_deploy.sh
	bash scripts/check_container.sh

screenshots: $(STAMP)
	bash scripts/get_chromium.sh
	SCREENSHOTS=1 $(BIN)/python -m pytest -q tests/synapse/test_browser.py -k office

chaos: $(STAMP)
	bash scripts/get_postgresql.sh
	EVERY_FENCE=1 $(BIN)/python -m pytest -q tests/service/test_replicas.py -k paused_starts
	$(BIN)/python -m scripts.chaos one
	$(BIN)/python -m scripts.chaos replicas
	$(BIN)/python -m scripts.chaos restarts
	$(BIN)/python -m scripts.chaos rollouts

bench: $(STAMP)
	$(BIN)/python -m benchmarks.scim
	$(BIN)/python -m benchmarks.rooms
	$(BIN)/python -m benchmarks.backlog
	$(BIN)/python -m benchmarks.pages

# docs/releasing.md: URL is where the project is published.
release: $(STAMP) $(BIN)/cyclonedx-py
	$(BIN)/python -m scripts.release --url "$(URL)"

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	# setuptools warns of any such installation, at length.
	PYTHONWARNINGS='ignore:Editable installation' \
		$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# Apart from all else: it brings a package with it that jsonschema imports wherever it finds it, and
# that takes longer than everything else that the service imports.
$(BIN)/cyclonedx-py: $(STAMP)
	UV_TOOL_DIR=$(VENV)/tools UV_TOOL_BIN_DIR=$(BIN) $(BIN)/uv tool install --quiet --force \
		'cyclonedx-bom>=5'
	touch $@

clean:
	rm -rf $(VENV) build dist
