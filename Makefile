# Two commands: `make demo` and `make test`. Both set up .venv from requirements.txt first.

VENV := .venv
RUN := $(VENV)/bin/python
DEMO := demo
TEST_PROCESSES := 2

# The first of these that runs and is 3.10 or 3.11; override with `make PYTHON=/path/to/python demo`.
PYTHON ?= $(shell for p in python3.11 python3.10 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 12))' 2>/dev/null && echo $$p && break; done)

.PHONY: demo test test-slow lint clean

demo: $(VENV)/ready
	$(RUN) tools/train.py --flagfile=configs/scenes.flags --data_dir=$(DEMO)/data --work_dir=$(DEMO)/run
	$(RUN) tools/demo.py --data_dir=$(DEMO)/data --work_dir=$(DEMO)/run --output_dir=$(DEMO)

test: $(VENV)/ready-beam
	$(RUN) -m pytest -m "not slow" --numprocesses=$(TEST_PROCESSES) --dist=loadfile

test-slow: $(VENV)/ready-beam
	$(RUN) -m pytest -m slow

lint: $(VENV)/ready
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

$(VENV)/ready: requirements.txt
	@python_found='$(PYTHON)'; if [ -z "$$python_found" ]; then \
		echo "error: Python 3.10 or 3.11 is needed, because TensorFlow 2.15 (the last that tensorflow-addons works with)" \
		"has no build for another. Received: $$(python3 --version 2>&1 || echo no Python). Install one of them," \
		"or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v < (3, 12) else \
		"error: Python 3.10 or 3.11 is needed, because TensorFlow 2.15 (the last that tensorflow-addons works with) has no build for another. Received: %d.%d." % v)'
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --disable-pip-version-check --quiet --requirement requirements.txt
	touch $@

# Apache Beam too, for its tests.
$(VENV)/ready-beam: $(VENV)/ready requirements-beam.txt
	$(RUN) -m pip install --disable-pip-version-check --quiet --requirement requirements.txt --requirement requirements-beam.txt
	touch $@

clean:
	rm -rf $(VENV) $(DEMO)
