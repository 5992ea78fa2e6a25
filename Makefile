# The commands of the companion: `make help` lists them.
PYTHON ?= python3
CORES ?= all
PROFILE ?=
FRESH ?=
ONLY ?=
SNAKEMAKE ?=
LAB ?=
UPGRADE ?=
MINUTES ?=
WRITE ?=
READ_ONLY := --ServerApp.contents_manager_class=companion.workflow.lab.Protecting

NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts/
else
BIN := .venv/bin/
endif

# Tests run one process a core, four at most for the memory's sake; tests/test_notebooks.py calls nbval, a notebook at a time.
WORKERS := --numprocesses auto --maxprocesses 4 --dist worksteal

# The environment's own packages and kernel, whatever else this shell has set up.
export JUPYTER_PREFER_ENV_PATH := 1
unexport JUPYTER_PATH PYTHONPATH PYTHONHOME

# FRESH=no would be taken for a wish, and FRESH='0 1' for either.
$(foreach name,FRESH WRITE UPGRADE,$(if $(filter-out 0 1,$($(name)) $(words $($(name)))),$(error $(name)=$($(name)) must be 0 or 1)))

ifneq ($(filter figures,$(MAKECMDGOALS)),)
ifneq ($(filter-out laptop paper quick,$(PROFILE))$(filter-out 0 1,$(words $(PROFILE))),)
$(error PROFILE=$(PROFILE) is unknown; known: laptop, paper, quick)
endif
ifneq ($(MINUTES),)
ifneq ($(filter-out 0,$(FRESH))$(filter-out all,$(CORES))$(SNAKEMAKE),)
$(error MINUTES=$(MINUTES) goes with PROFILE and ONLY alone: it trains what has no record, a notebook at a time)
endif
endif
ifneq ($(filter-out 0,$(FRESH)),)
ifeq ($(filter laptop paper,$(PROFILE)),)
$(error FRESH=$(FRESH) retrains everything of a profile: give PROFILE=laptop or PROFILE=paper, too)
endif
endif
endif

.PHONY: help environment figures bench test attack lab notebooks site lock clean
.DEFAULT_GOAL := help

help:
	@echo "make figures                  every figure from the committed records, then every notebook at quick"
	@echo "make figures PROFILE=laptop   train what has no record, at laptop or paper; FRESH=1: train everything"
	@echo "make figures PROFILE=paper MINUTES=25   train what fits that time, the most wanted first"
	@echo "make bench                    measure speed anew (notebook 91), with nothing else at work on the machine"
	@echo "make test                     lint, tests, and the notebooks against their committed outputs"
	@echo "make attack                   what users, kills and disks may do, tried at random; up to an hour"
	@echo "make lab                      JupyterLab, the committed notebooks read-only; WRITE=1: to change them"
	@echo "make notebooks                re-execute the committed notebooks and renew README's tables, from records"
	@echo "make site                     README, notebooks, lib's pages and a glossary as HTML, in build/site"
	@echo "make environment              only set up .venv/; every command above does that first"
	@echo "make lock                     renew requirements.txt and environment.yml; UPGRADE=1: newest versions"
	@echo "make clean                    remove caches, logs, the site, wheels, quick and custom figures; never data or records"
	@echo "Settings: PYTHON=python3.12  CORES=4  ONLY=01 (notebooks so named)  LAB=\"--port 9999\""
	@echo "          SNAKEMAKE=\"--executor slurm --jobs 20\" (more options of Snakemake's)"

# Said before .ci/setup.py is read: an old Python would take its syntax for an error.
environment:
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('Python %d.%d is too old; 3.11 to 3.13 do, e.g. make figures PYTHON=python3.13' % sys.version_info[:2])"
	@$(PYTHON) .ci/setup.py

figures: environment
ifneq ($(MINUTES),)
	@$(BIN)python -m companion.workflow.within "$(MINUTES)" profile=$(or $(PROFILE),paper) $(if $(ONLY),"only=$(ONLY)*")
else
	@$(BIN)python -m companion.workflow.launch "$(CORES)" $(if $(PROFILE),profile=$(PROFILE)) $(if $(FRESH),fresh=$(FRESH)) \
		$(if $(ONLY),"only=$(ONLY)*") -- $(SNAKEMAKE)
endif

# The runner takes one call at a time in a checkout, and a notebook's timing part takes all of its cores.
bench: environment
	@rm -f logs/laptop-fresh/91_bench/figures.done
	@$(BIN)python -m companion.workflow.launch "$(CORES)" profile=laptop fresh=1 "only=91_bench*" -- $(SNAKEMAKE)

test: environment
	$(BIN)ruff check .
	$(BIN)ruff format --check .
	$(BIN)pytest $(WORKERS)

attack: environment
	$(BIN)pytest $(WORKERS) tests/attack

lab: environment
	$(BIN)jupyter lab $(if $(filter-out 0,$(WRITE)),,$(READ_ONLY)) $(LAB)

notebooks: environment
	@$(if $(NOTEBOOKS),$(BIN)python -m companion.workflow.normalise notebooks/*.ipynb,echo "no notebooks")
	@$(BIN)python -m companion.workflow.readme

site: environment
	@$(BIN)python -m companion.site

lock: environment
	@$(PYTHON) .ci/setup.py pip compile --quiet --no-config --universal --all-extras --generate-hashes --custom-compile-command "make lock" \
		$(if $(filter-out 0,$(UPGRADE)),--upgrade) pyproject.toml --output-file requirements.txt
	@$(BIN)python .ci/environment.py > environment.yml
	@$(PYTHON) .ci/setup.py

clean:
	rm -rf logs figures/quick figures/custom .snakemake .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find .ci lib tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
