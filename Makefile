# Two commands: `make demo` and `make test`. Both set up .venv from requirements.txt first.

VENV := .venv
DOCS_VENV := .venv-docs
RUN := $(VENV)/bin/python
DEMO := demo
TEST_PROCESSES := 2
RUN_NOTEBOOKS := $(patsubst docs/%,build/%,$(wildcard docs/notebooks/*.ipynb))
CODE := $(shell find srn_tf configs -name '*.py' -o -name '*.flags')
# Modules are compiled when they are first imported, which two of three never are. Many containers forbid Python to keep what it
# compiled: every start would take those ten seconds again.
INSTALL := pip install --disable-pip-version-check --quiet --no-compile
unexport PYTHONDONTWRITEBYTECODE

# The Python that .venv was made with; without .venv the first of these that runs and is 3.10 to 3.13.
# Override with `make PYTHON=/path/to/python demo`: .venv is made anew if it is of another version.
FITS := -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
ifndef PYTHON
PYTHON := $(shell for p in "$$($(RUN) -c 'import sys; print(sys._base_executable)' 2>/dev/null)" \
	python3.11 python3.10 python3.12 python3.13 python3 python; do "$$p" $(FITS) && echo "$$p" && break; done)
endif
VERSION := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
READY := $(VENV)/ready-$(VERSION)
RECEIVED = $(if $(PYTHON),$(PYTHON)$(if $(VERSION), is Python $(VERSION), does not run),$(shell python3 --version 2>/dev/null || echo no Python that runs))
CHECK_PYTHON = "$(PYTHON)" $(FITS) || { echo "error: Python 3.10, 3.11, 3.12 or 3.13 is needed. Received: $(RECEIVED)." \
	"Install one of them, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }

.PHONY: setup demo test test-slow lint docs docs-text clean

demo: $(READY)
	$(RUN) tools/train.py --flagfile=configs/scenes.flags --data_dir=$(DEMO)/data --work_dir=$(DEMO)/run --noprint_next
	$(RUN) tools/demo.py --data_dir=$(DEMO)/data --work_dir=$(DEMO)/run --output_dir=$(DEMO)

# Downloads and installs, nothing more.
setup: $(READY)

test: $(READY)-test
	$(RUN) -m pytest -m "not slow" --numprocesses=$(TEST_PROCESSES) --dist=loadfile --no-loadscope-reorder

test-slow: $(READY)-test $(READY)-notebooks
	$(RUN) -m pytest -m slow

lint: $(READY)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

# With what the notebooks print and draw; docs-text shows that only where they were run before, and needs no TensorFlow.
docs: $(RUN_NOTEBOOKS)
	$(MAKE) docs-text

docs-text: $(DOCS_VENV)/ready-$(VERSION)
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --clean
	@echo "Open site/index.html, or with its search: $(DOCS_VENV)/bin/python -m http.server --directory site"

build/notebooks/%.ipynb: docs/notebooks/%.ipynb docs/notebook.py $(CODE) $(READY)-notebooks
	$(RUN) docs/notebook.py run $< $@

$(READY): requirements.txt
	@$(CHECK_PYTHON)
	@echo "Installing packages into $(VENV): about 2 GB, several minutes."
	"$(PYTHON)" -m venv --clear $(VENV)
	$(RUN) -m $(INSTALL) --requirement requirements.txt
	touch $@

# The documentation's own packages.
$(DOCS_VENV)/ready-$(VERSION): requirements-docs.txt
	@$(CHECK_PYTHON)
	"$(PYTHON)" -m venv --clear $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m $(INSTALL) --requirement requirements-docs.txt
	touch $@

# Apache Beam too, and the small readers of other programs, for their tests.
$(READY)-test: $(READY) requirements-beam.txt requirements-formats.txt
	$(RUN) -m $(INSTALL) --requirement requirements.txt --requirement requirements-beam.txt --requirement requirements-formats.txt
	touch $@

# What runs notebooks.
$(READY)-notebooks: $(READY) requirements-notebooks.txt
	$(RUN) -m $(INSTALL) --requirement requirements.txt --requirement requirements-notebooks.txt
	touch $@

clean:
	rm -rf $(VENV) $(DOCS_VENV) $(DEMO) build/notebooks site
