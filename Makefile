# `make demo` and `make test` are all a new user needs; both set up everything they use.
# The first Python that runs and is 3.11 or 3.12; a name on the path may be a shim that does not.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c '$(FITS)' >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
SHOWN := $(VENV)/.ready-demo
READY := $(VENV)/.ready

.PHONY: demo test lint setup proof bench clean system

demo: system $(SHOWN)
	$(BIN)/fcnef demo --out demo-report

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m numpydoc lint $$(git ls-files 'rtloop/*.py' 'offline/*.py' 'stimuli/*.py' 'tools/*.py' ':!tools/cli' ':!tools/twins')

# Timings compare arithmetic, not thread pools: one BLAS thread on both sides.
proof bench: export OMP_NUM_THREADS = 1
proof bench: export OPENBLAS_NUM_THREADS = 1

# `make proof` lists the proofs, `make proof NAME` runs one and writes docs/proof/NAME.json.
proof: setup
	$(BIN)/python -m tools.proof $(filter-out proof,$(MAKECMDGOALS))

bench: setup
	$(BIN)/fcnef bench

setup: system $(READY)

system:
	@test -n "$(PYTHON)" || { echo "fcnef: expected Python 3.11 or 3.12, found neither; install one or set PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) tools/system.py

# The demonstration needs no PyTorch; the tests of the twins do.
$(SHOWN): pyproject.toml | system
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $(SHOWN)

$(READY): $(SHOWN)
	$(BIN)/python -m pip install --quiet --editable '.[demo,offline,scale,dev]'
	touch $(READY)

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
