# `make demo` and `make test` are all a new user needs; both set up everything they use.
PYTHON ?= $(shell command -v python3.12 || command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: demo test lint setup proof bench clean system

demo: setup
	$(BIN)/fcnef demo --out demo-report

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m numpydoc lint $$(git ls-files 'rtloop/*.py' 'stimuli/*.py' 'tools/*.py' ':!tools/cli')

# `make proof` lists the proofs, `make proof NAME` runs one and writes docs/proof/NAME.json.
proof: setup
	$(BIN)/python -m tools.proof $(filter-out proof,$(MAKECMDGOALS))

bench: setup
	$(BIN)/fcnef bench

setup: system $(STAMP)

system:
	@$(PYTHON) tools/system.py

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else "fcnef: expected Python 3.11 or 3.12, found %d.%d; set PYTHON=python3.12" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[demo,dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .cache demo-report

ifeq (proof,$(firstword $(MAKECMDGOALS)))
NAMES := $(filter-out proof,$(MAKECMDGOALS))
ifneq ($(NAMES),)
.PHONY: $(NAMES)
$(NAMES): proof
	@:
endif
endif
