# make demo   set everything up and segment the sample slide
# make test   set everything up and run every check
# make gui    open the viewer with the dock (SLIDE=path opens a slide)
# make story  play in napari what a user does, and check each step (pictures in story/)
# make trust  play what must never go wrong without a word, on three screens (pictures in trust/)
# make lint   ruff, ruff format and mypy only
# make fuzz, faults, privacy, load
#             the campaigns of tests/campaigns, with figures; up to 40 minutes each (ARGS="--self-test")
# make docs   build the documentation site in site/ and draw the architecture picture
# make dist   build the wheel and the source archive in dist/
PYTHON ?= python3
# Qt binding of the environment: PySide6 or PyQt6
QT ?= PySide6
VENV ?= $(if $(filter PySide6,$(QT)),.venv,.venv-$(QT))
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
# Versions to install: constraints.txt, lowest.txt (the lowest permitted) or /dev/null (the newest)
CONSTRAINTS ?= constraints.txt
# Processes that run the tests, each with one thread
PROCESSES ?= 2
export QT_API := $(shell echo $(QT) | tr A-Z a-z)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
CAMPAIGNS := fuzz faults privacy load
.PHONY: help demo test lint $(CAMPAIGNS) docs dist gui system story trust screenshots clean

help:
	@sed -n 's/^# make/make/p' Makefile

$(VENV)/pip-ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; say which to use: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "error: no virtual environment could be made; on Debian: sudo apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/demo-ready: $(VENV)/pip-ready pyproject.toml $(CONSTRAINTS)
	@echo "installing napari-plimseg and what it needs into $(VENV) (minutes the first time)"
	@$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[fast]" $(QT)
	@touch $@

$(VENV)/test-ready: $(VENV)/demo-ready
	@$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[fast]" $(QT) --group test
	@touch $@

$(VENV)/docs-ready: $(VENV)/demo-ready
	@$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --group docs
	@touch $@

$(VENV)/dist-ready: $(VENV)/pip-ready
	@$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) build
	@touch $@

lowest.txt: pyproject.toml
	@$(PYTHON) scripts/lowest_versions.py > $@

system:
	@scripts/system_libraries.sh

demo: system $(VENV)/demo-ready
	@$(BIN)/plimseg demo --out demo-results

lint: $(VENV)/test-ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test: system $(VENV)/test-ready lint
	@PLIMSEG_VIRTUAL_SCREEN=1 OMP_NUM_THREADS=1 scripts/with_screen.sh \
	  $(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal $(PYTEST)

$(CAMPAIGNS): system $(VENV)/test-ready
	@PLIMSEG_VIRTUAL_SCREEN=1 OMP_NUM_THREADS=1 PYTHONPATH=src:training scripts/with_screen.sh \
	  $(BIN)/python -m tests.campaigns.$@ $(ARGS)

docs: $(VENV)/docs-ready
	@$(BIN)/python scripts/draw_architecture.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

dist: $(VENV)/dist-ready
	@$(BIN)/python -m build
	@test -z "$(TAG)" || test -f dist/napari_plimseg-$(patsubst v%,%,$(TAG)).tar.gz || \
	  { echo "error: the tag $(TAG) is not the version of the package"; exit 1; }

gui: system $(VENV)/demo-ready
	@$(BIN)/napari $(SLIDE) --with napari-plimseg PLIMSeg

story: system $(VENV)/demo-ready
	@PLIMSEG_VIRTUAL_SCREEN=1 scripts/with_screen.sh $(BIN)/python scripts/play_story.py $(STORY)

trust: system $(VENV)/demo-ready
	@$(BIN)/python scripts/play_trust.py $(TRUST)

screenshots: system $(VENV)/demo-ready
	@PLIMSEG_VIRTUAL_SCREEN=1 scripts/with_screen.sh $(BIN)/python scripts/make_screenshots.py

clean:
	rm -rf .venv .venv-* demo-results site dist
