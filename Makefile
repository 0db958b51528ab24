# Every target works from a fresh clone with Python 3.11 or newer and make; a second call reuses
# .venv. Another interpreter: make PYTHON=python3.12 ...
PYTHON ?= python3
BIN := .venv/bin
SOURCES := setup.py constraints.txt
# Processes for pytest; two fill the cores of a small CI machine.
JOBS ?= 2

.PHONY: install quickstart test test-slow test-torch plan-all update-recipes lint clean

install: .venv/installed

quickstart: .venv/installed
	$(BIN)/python -m multimodal.quickstart --workdir=runs/quickstart

test: lint
	$(BIN)/python -m pytest -n $(JOBS)

test-slow: .venv/installed-test
	$(BIN)/python -m pytest -m slow

# Exports in the libraries that they are for; torch for Linux comes with CUDA, gigabytes of it.
test-torch: .venv/installed-torch
	$(BIN)/python -m pytest -m torch

# Every full-size recipe, and what its options make of it, on the accelerator that it names: minutes
# each. It ends with an error if one does not fit.
FULL_SIZE := $(shell grep -lE '\b(v4|v5e|v5p|v6e|tpu7x|a100|h100|h200):[0-9]' configs/*.py)
FULL_SIZE += configs/clip_l14.py:res=336,start=RUN configs/clipa_l16.py:stage=finetune,start=RUN
FULL_SIZE += configs/lit_b16.py:precomputed=true configs/siglip2_b16.py:naflex=true
FULL_SIZE += configs/vit_b16_supervised.py:classes=1000
plan-all: .venv/installed-test
	@status=0; for config in $(FULL_SIZE); do \
	  $(BIN)/python -m multimodal.plan --config=$$config --line || status=1; \
	done; exit $$status

# A change of a recipe is deliberate: tests compare with what this writes.
update-recipes: .venv/installed-test
	$(BIN)/python -m tests.configs.recipes

lint: .venv/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written only when pip has finished, so a broken installation is made again.
.venv/installed: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

.venv/installed-torch: .venv/installed-test
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[test,torch]"
	touch $@
