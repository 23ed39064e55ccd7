# Two commands do everything: `make demo` and `make test`. Each sets up .venv itself; only python3 and make are needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CPU_INDEX := https://download.pytorch.org/whl/cpu
TORCH := torch==2.13.0
LIGHT := .venv312
BENCH := .venv-bench
FOREIGN := .venv-foreign
PEERS := torchcam==0.5.0 captum==0.9.0 monai==1.6.1 grad-cam==1.5.7 ttach==0.0.3 medcam==0.1.22
PEER_NEEDS := numpy scipy tqdm matplotlib opencv-python-headless scikit-learn scikit-image nibabel pandas
FOREIGN_NEEDS := monai==1.6.1 einops huggingface_hub safetensors tokenizers regex pyyaml
NETWORKS := torchvision==0.29.1 timm==1.0.31 transformers==5.24.0
WITHOUT_TORCH := test_volume test_formats test_odd_files test_dicom test_as_they_come test_readers test_card test_trust test_pickles test_weightsfile test_regions test_files test_job test_palette test_pictures test_scene test_methods test_light test_choice test_summary
# One process of tests for each of up to four cores, and one thread in each: small networks gain nothing from more. Many
# tests start processes of their own, which would compile MedXAI anew where Python may not write what it compiled.
IN_PARALLEL := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=
SPREAD := -n auto --maxprocesses 4 --dist worksteal
LIGHT_NEEDS := "numpy>=1.26" "scikit-image>=0.22" "SimpleITK>=2.3" "pydantic>=2.7" "typer>=0.12" "rich>=13" "pydicom>=3.0" \
  "psutil>=5.9" "slicer-core>=5.12" "pytest>=8" "pytest-timeout>=2.3" "pytest-xdist>=3.5" "hypothesis>=6.100" "nibabel>=5" "setuptools>=77" "platformdirs>=4.2"

.PHONY: demo test lint clean

demo: $(VENV)/.demo
	$(BIN)/medxai demo -o demo

test:
	@$(MAKE) --no-print-directory -j2 $(VENV)/.test light
	@$(MAKE) --no-print-directory lint
	$(IN_PARALLEL) $(BIN)/python -m pytest $(SPREAD)

# In two minutes on two cores: all but what is marked slow (SLOW in Testing/conftest.py).
.PHONY: test-quick
test-quick: $(VENV)/.test
	$(IN_PARALLEL) $(BIN)/python -m pytest $(SPREAD) -m "not slow"

lint: $(VENV)/.test
	$(BIN)/ruff check MedXAI MedXAILib Testing Docs
	$(BIN)/ruff format --check MedXAI MedXAILib Testing Docs
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Python 3.12 is Slicer's own: where it is at hand (on the path or in pyenv), whatever needs no torch runs on it too, from the
# sources as they are.
.PHONY: light
light: $(LIGHT)/.ready
	@if [ ! -x $(LIGHT)/bin/python ]; then echo "Python 3.12 is not at hand: the tests run on $$($(PYTHON) --version) only."; exit 0; fi; \
	echo "$$($(LIGHT)/bin/python --version), without torch:"; \
	PYTHONPATH="$(CURDIR)" $(IN_PARALLEL) $(LIGHT)/bin/python -m pytest $(SPREAD) $(WITHOUT_TORCH:%=Testing/Python/%.py)

$(LIGHT)/.ready: pyproject.toml Makefile Testing/constraints.txt
	@for p in python3.12 $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.12*/bin/python; do \
	  if "$$p" -c 'import ensurepip' 2>/dev/null; then found=$$p; break; fi; done; \
	if [ -z "$$found" ]; then exit 0; fi; \
	set -e; test -d $(LIGHT) || "$$found" -m venv $(LIGHT); \
	$(LIGHT)/bin/python -m pip install -q -c Testing/constraints.txt $(LIGHT_NEEDS); touch $@

# The attribution engine beside its peers; they come without their needs, which would bring torchvision and CUDA.
.PHONY: bench
bench: $(VENV)/.demo $(BENCH)/.peers
	$(BIN)/python Testing/Benchmarks/engine.py $(BENCH)/bin/python

# The same against an earlier state of the sources (BASE=<commit>): CPU time in rounds that alternate, and memory.
.PHONY: bench-same
bench-same: $(VENV)/.demo
	@test -n "$(BASE)" || { echo "Give the earlier state: make bench-same BASE=<commit>"; exit 2; }
	$(BIN)/python Testing/Benchmarks/engine.py $(BIN)/python --against $(BASE)

# What a cohort costs beside its cases: throughput of workers, overhead, memory. See Testing/Benchmarks/README.md.
.PHONY: bench-cohort
bench-cohort: $(VENV)/.test
	$(BIN)/python Testing/Benchmarks/cohort.py

$(BENCH)/.peers: $(BENCH)/.torch
	$(BENCH)/bin/python -m pip install -q $(PEER_NEEDS)
	$(BENCH)/bin/python -m pip install -q --no-deps $(PEERS)
	@touch $@

# Where MedXAI says that a feature cell lies, against where it lies: random networks. See Testing/Checks/README.md.
.PHONY: check-place
check-place: $(VENV)/.test
	$(BIN)/python Testing/Checks/place.py

# Whether the probe tells a right place from a wrong one: networks with their own trace, and with one that was made wrong.
.PHONY: check-confirm
check-confirm: $(VENV)/.test
	$(BIN)/python Testing/Checks/confirm.py

# Gradients and maps of published architectures, against autograd done literally; in an environment of its own.
.PHONY: check-foreign
check-foreign: $(FOREIGN)/.networks
	$(FOREIGN)/bin/python Testing/Checks/foreign.py

# Without their needs, which would bring another torch.
$(FOREIGN)/.networks: $(FOREIGN)/.torch pyproject.toml
	$(FOREIGN)/bin/python -m pip install -q -e . $(FOREIGN_NEEDS)
	$(FOREIGN)/bin/python -m pip install -q --no-deps $(NETWORKS)
	@touch $@

# Which inputs the zoo's models call unlike what they know: their own test sets, and others. Goes on where it stopped.
.PHONY: check-input
check-input: $(VENV)/.test
	$(BIN)/python Testing/Checks/input_kinds.py

# Damaged files of every format, and of every kind of weights file: read as another reader does, or refused. Goes on where
# it stopped.
.PHONY: check-fuzz
check-fuzz: $(VENV)/.test
	$(BIN)/python Testing/Checks/fuzz.py

# Runs that are killed, told to end, on a full or read-only disk, or two at once, at every stage.
.PHONY: check-runs
check-runs: $(VENV)/.test
	$(BIN)/python Testing/Checks/runs.py

# A cohort of 400 cases, killed at random moments and on full disks: about 5 minutes.
.PHONY: check-cohort
check-cohort: $(VENV)/.test
	$(BIN)/python Testing/Checks/cohort.py

# How well the engine for Dask keeps many workers busy: pieces that sleep. See Testing/Checks/README.md.
.PHONY: check-scale
check-scale: $(VENV)/.test
	$(BIN)/python Testing/Checks/scale.py

# After values were changed on purpose and their numbers raised (MedXAILib/stages.py, a method's number).
.PHONY: freeze
freeze: $(VENV)/.test
	MEDXAI_FREEZE=1 $(BIN)/python -m pytest -q Testing/Python/test_stages.py

# The figures on the cards of the zoo, measured again. Goes on where it stopped.
.PHONY: check-zoo
check-zoo: $(VENV)/.test
	$(BIN)/python Testing/Checks/zoo.py

# Whether an earlier state of the sources (BASE=<commit>) writes the same files.
.PHONY: check-same
check-same: $(VENV)/.test
	@test -n "$(BASE)" || { echo "Give the earlier state: make check-same BASE=<commit>"; exit 2; }
	$(BIN)/python Testing/Checks/same.py $(BASE)

# PyTorch's CPU builds: an extra index, used only where it answers within 3 s, so that nothing stalls without it.
$(VENV)/.torch $(BENCH)/.torch $(FOREIGN)/.torch: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "MedXAI needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: install it (Debian, Ubuntu: apt-get install python3-venv)."; exit 1; }
	test -d $(@D) || $(PYTHON) -m venv $(@D)
	extra=$$($(PYTHON) -c 'import urllib.request as u; u.urlopen("$(CPU_INDEX)/torch/", timeout=3); print("--extra-index-url $(CPU_INDEX)")' 2>/dev/null); \
	  $(@D)/bin/python -m pip install -q $$extra "$(TORCH)"
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install -q -e ".[demo]"
	@touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml Testing/constraints.txt
	$(BIN)/python -m pip install -q -c Testing/constraints.txt -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) $(LIGHT) $(BENCH) $(FOREIGN) build dist *.egg-info
