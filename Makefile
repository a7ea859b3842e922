# Every target makes .venv and installs the pinned set by itself; `make help` lists them.
CONFIG ?= configs/digits.toml
PYTHON ?= python3
SECONDS ?= 20
SEEDS  ?= 3
JOBS   ?= 2
EXAMPLES ?= 5000
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUN    := $(BIN)/normforge

.DEFAULT_GOAL := help
.PHONY: help setup hdl sim synth formal report test test-slow coverage mutants lint docs bench bench-accuracy bench-cost bench-delays bench-gp bench-speed bench-units clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'
	@echo "  CONFIG=configs/mine.toml takes another run"

setup: $(READY)  ## create .venv with the pinned set

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and "Python must be 3.11 or later, not " + v)'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[model,hf,sim,synth,formal,vendor,cluster,dev]'
	@touch $@

hdl: $(READY)  ## Verilog for every norm site: train or load, capture, evolve, align, quantize, export, generate
	$(RUN) run $(CONFIG) --until hdl

sim: $(READY)  ## every unit on every input code: cocotb on Verilator (WAVES=1 records waveforms)
	$(RUN) verify $(CONFIG) --missing

synth: $(READY)  ## resources (Yosys: xc7, ECP5, iCE40) and Fmax (nextpnr: ECP5)
	$(RUN) synth $(CONFIG) --missing

formal: $(READY)  ## prove handshake, registers and tables of small units, and of a run's units (SymbiYosys, Yosys)
	$(BIN)/python -m hw.formal $(CONFIG)

report: $(READY)  ## all that is missing, then one page, index.html, and summary.json
	$(RUN) run $(CONFIG)

test: $(READY)  ## all tests but those of test-slow
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup

test-slow: $(READY)  ## hostile input in large numbers, and a run that is killed twenty times (20 minutes at most)
	FUZZ_EXAMPLES=$(EXAMPLES) timeout 6m $(BIN)/python -m pytest -q tests/test_fuzz.py
	timeout 14m $(BIN)/python -m pytest -q -m robust tests/test_kill.py

coverage: $(READY)  ## branches of sw/ir, gp and hw that the tests take: 90 % or more
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[quality]'
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup --cov --cov-report=term:skip-covered

mutants: $(READY)  ## mutation testing of sw/ir (hours; goes on where it was); FILES="sw.ir.schedule*" for some
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[quality]'
	$(BIN)/mutmut run --max-children $(JOBS) $(FILES)

lint: $(READY)  ## ruff, mypy, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)  ## the documentation as a site in build/docs, links checked
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(READY)  ## measured LUT costs of single operations
	$(BIN)/python -m benchmarks.lut_costs

bench-cost: $(READY)  ## the cost model: synthesize random functions, fit, test (about 20 minutes)
	$(BIN)/python -m benchmarks.cost_model --jobs $(JOBS)

bench-delays: $(READY)  ## the delay model: place and route single operations on ECP5 and iCE40
	$(BIN)/python -m benchmarks.delays --jobs $(JOBS)

bench-gp: $(READY)  ## the search against other engines: benchmarks/gp.md (SECONDS, SEEDS, JOBS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	test -f runs/digits/captures.npz || $(RUN) run configs/digits.toml --until capture
	$(BIN)/python -m benchmarks.gp_bench --seconds $(SECONDS) --seeds $(SEEDS) --jobs $(JOBS)

bench-accuracy: $(READY)  ## swap, refit, regimes and integers on digits and glyphs: benchmarks/accuracy.md (JOBS)
	$(BIN)/python -m benchmarks.accuracy --jobs $(JOBS)

bench-speed: $(READY)  ## where people wait: benchmarks/speed.md (about half an hour)
	$(BIN)/python -m benchmarks.speed

bench-units: $(READY)  ## units of ten functions beside published figures and da4ml: benchmarks/units.md (JOBS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.units --jobs $(JOBS)

clean:  ## remove runs and caches, keep .venv
	rm -rf runs build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
