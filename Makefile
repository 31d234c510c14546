# make demo   set everything up and segment the sample slide
# make test   set everything up and run every check
# make gui    open the viewer with the dock (SLIDE=path opens a slide)
# make story  play in napari what a user does, and check each step (pictures in story/)
# make lint   ruff, ruff format and mypy only
PYTHON ?= python3
# Qt binding of the environment: PySide6 or PyQt6
QT ?= PySide6
VENV ?= $(if $(filter PySide6,$(QT)),.venv,.venv-$(QT))
BIN := $(VENV)/bin
export QT_API := $(shell echo $(QT) | tr A-Z a-z)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint gui system story screenshots clean

help:
	@sed -n 's/^# make/make/p' Makefile

$(VENV)/pip-ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; say which to use: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "error: no virtual environment could be made; on Debian: sudo apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/demo-ready: $(VENV)/pip-ready pyproject.toml constraints.txt
	@echo "installing napari-plimseg and what it needs into $(VENV) (minutes the first time)"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . $(QT)
	@touch $@

$(VENV)/test-ready: $(VENV)/demo-ready
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . $(QT) --group test
	@touch $@

system:
	@scripts/system_libraries.sh

demo: system $(VENV)/demo-ready
	@$(BIN)/plimseg demo --out demo-results

lint: $(VENV)/test-ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test: system $(VENV)/test-ready lint
	@PLIMSEG_VIRTUAL_SCREEN=1 scripts/with_screen.sh $(BIN)/python -m pytest $(PYTEST)

gui: system $(VENV)/demo-ready
	@$(BIN)/napari $(SLIDE) --with napari-plimseg PLIMSeg

story: system $(VENV)/demo-ready
	@PLIMSEG_VIRTUAL_SCREEN=1 scripts/with_screen.sh $(BIN)/python scripts/play_story.py $(STORY)

screenshots: system $(VENV)/demo-ready
	@PLIMSEG_VIRTUAL_SCREEN=1 scripts/with_screen.sh $(BIN)/python scripts/make_screenshots.py

clean:
	rm -rf .venv .venv-* demo-results
