# ccpipe: bare `make` lists the targets.
# Run stages:  make stage=dedup submit     (also: plan, local, sbatch, retry, redo, diff, status; no stage = the whole flow)
# A running stage:  make stage=extract scale=+8

stage  ?=
config ?= run.toml
args   ?=
data   ?=
sample ?=
scale  ?=
hours  ?= 0.1
seed   ?= 1
minutes ?= 1

VENV   ?= .venv
PYTHON ?= python3
PY     := $(VENV)/bin/python
MODELS ?= .cache/models
DEMO   ?= demo-run
CCPIPE := $(PY) -m jobs.cli
CHOSEN := --config $(config) $(if $(stage),--stage $(stage)) $(args)

.DEFAULT_GOAL := $(if $(scale),scale,help)
.PHONY: help install models demo test check lint types format plan local submit sbatch retry redo diff estimate gc scale status doctor
.PHONY: bench bench-extract bench-hpc bench-minhash bench-dedup bench-blocklist chaos fuzz clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml .ci/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ccpipe needs Python 3.11 or newer, found " + sys.version.split()[0] + "; make PYTHON=python3.11 ...")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[gpu,dev]'
	@touch $@

install: $(VENV)/.installed  ## virtual environment with everything

models: install  ## small models for the demo and the tests
	@$(PY) -m jobs.demo.models $(MODELS)

demo: models  ## the whole pipeline on bundled pages, on this machine
	@$(CCPIPE) demo --out $(DEMO) --models $(MODELS)

# half of the tests wait for Slurm: four processes keep two cores busy; the tests of one file stay together
test: models  ## all tests
	$(PY) -m pytest -n 4 --dist loadfile $(args)

check: install lint types test  ## what CI runs: lint, types, tests

lint: install  ## ruff, rules and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: install  ## mypy --strict
	$(VENV)/bin/mypy

format: install  ## rewrite with ruff
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

plan local submit sbatch retry redo diff: install
	@$(CCPIPE) $@ $(CHOSEN)

estimate gc: install
	@$(CCPIPE) $@ --config $(config) $(args)

scale: install
	@$(CCPIPE) scale $(CHOSEN) $(scale)

# shown by help:
plan:    ## dry run: arrays, units, resources, and the reason for each
local:   ## run stages on this machine
submit:  ## send stages to Slurm as job arrays with gates
sbatch:  ## print the sbatch scripts instead of sending them
retry:   ## run again what failed or was parked
scale:   ## add tasks to a running stage: make stage=extract scale=+8
redo:    ## take back units that are committed, and what depends on them: make stage=lid redo args="00003 00007" (args=--all: everything)
diff:    ## what another version of a stage kept and this one does not, with examples
estimate:  ## run a sample, and say what the whole input will take (args="--probe 1%")
gc:      ## what old versions and killed processes left (args=--yes removes it)

status: install  ## how far everything is, from files only (args=--watch)
	@$(CCPIPE) status --config $(config) $(args)

doctor: install  ## check Python, models, filesystem, Slurm, GPUs
	@$(CCPIPE) doctor --config $(config) $(args)

bench: install  ## figures of tests/bench (args=stage, minhash or annotators; data=FOLDER of *.warc.gz, or of *.txt)
	$(PY) tests/bench/bench_$(or $(args),stage).py $(if $(data),$(if $(filter-out stage,$(args)),--text) $(data))

bench-extract: install  ## extractors side by side, ours too, on WARCs with gold (data=FOLDER sample=6 args="--texts out-of-fold.jsonl")
	$(PY) tests/bench/bench_extract.py $(data) $(if $(sample),--sample $(sample)) $(args)

bench-blocklist: install  ## URL filter beside a Python set (data=LIST, see docs/urls.md; args="--urls FOLDER --peers PYTHON")
	$(PY) tests/bench/bench_blocklist.py $(data) $(args)

bench-hpc: install  ## overhead per unit of the array toolkit, beside submitit and datatrove (args="--units 1000")
	$(PY) tests/bench/bench_hpc.py $(args)

bench-minhash: install  ## speed and accuracy of signatures beside rensa, datasketch and datatrove (data="FILE ..." of real text)
	$(PY) tests/bench/bench_minhash.py $(if $(data),--text $(data)) $(args)

bench-dedup: install  ## route to mark over synthetic signatures (args="--docs 10000000"); with data="FILE ..." of real text beside datatrove, text-dedup
	$(PY) tests/bench/$(if $(data),bench_dedup_peers.py $(data),bench_dedup.py) $(args)

chaos: models  ## random faults on a real Slurm, and the verdict (hours=1 seed=7)
	$(PY) tests/chaos/campaign.py --hours $(hours) --seed $(seed) $(args)

fuzz: install  ## mutated archives and pages, bounded in time and memory (minutes=10 seed=7 data=FOLDER)
	$(PY) tests/fuzz/fuzz_campaign.py --minutes $(minutes) --seed $(seed) $(if $(data),--data $(data))

clean:  ## remove the demo's run directory and caches
	rm -rf $(DEMO) .pytest_cache .ruff_cache .mypy_cache
