# Sets itself up: needs Python >= 3.11 and git, nothing else. PYTHON=python3.13 make test uses another Python.
PYTHON ?= $(firstword $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p; done))
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test browser check bench quality record clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY)  ## the main job, without a key and without a network
	@$(BIN)/rlm demo

# `--dist worksteal` keeps most of a file's tests together. Those that have to be alone get a run of their own.
ALONE := alone or ray
WORKERS ?= 2

test: $(READY)  ## all tests, without a network; both runs take place, whatever the first one finds
	@ended=0; \
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m 'not ($(ALONE))' || ended=$$?; \
	$(BIN)/python -m pytest -m '$(ALONE)' || ended=$$?; \
	exit $$ended

browser:  ## the browser that a run's page is tested in, where apt-get may install it; those tests are skipped without
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || command -v chromium-browser >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get -qq update && apt-get -qq install --yes --no-install-recommends chromium >/dev/null; } \
		|| echo "no chromium here: the tests of a run's page in a browser will be skipped"

check: $(READY)  ## what has to be quiet before a commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory test

bench: $(READY)  ## speed, beside the peers in environments of their own
	$(BIN)/python -m tests.benchmarks.speed

quality: $(READY)  ## how often long contexts are answered right: MODEL=openai/gpt-5-mini, more in OPTIONS="--seeds 3"
	$(BIN)/python -m tests.benchmarks.long_context --model $(or $(MODEL),$(error name a model: make quality MODEL=openai/gpt-5-mini)) $(OPTIONS)

record: $(READY)  ## renew all recordings; needs an OpenAI-compatible server with a model "qwen" at 127.0.0.1:8089
	RECORD=1 $(BIN)/python -m pytest --timeout=0 tests/models/test_litellm.py tests/cookbooks
	RECORD=1 $(BIN)/python -m tests.record

clean:
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache
