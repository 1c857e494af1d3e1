# make demo | make demo DATA=DIR OUTPUT=DIR ARGS='flags of jobs/pipeline.py' | make test | make test-long | make lint | make clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
OUTPUT ?= $(if $(DATA),demo-data,demo)
ARGS ?=

.PHONY: demo test test-long lint clean install

install: $(VENV)/.installed

# constraints.txt pins every package exactly; without it a newer torchvision would be mixed with another torch.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or 3.12 is needed, this is %d.%d; call: make PYTHON=python3.12 ..." % sys.version_info[:2] if not (3, 11) <= sys.version_info[:2] <= (3, 12) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/python jobs/pipeline.py --output "$(OUTPUT)" $(if $(DATA),--annotations "$(DATA)/annotated" --images "$(DATA)/images") $(ARGS)

test: install
	$(BIN)/python -m pytest -m "not long" -n 2 --dist loadgroup

test-long: install
	$(BIN)/python -m pytest -m long --timeout 7200

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy gaugan jobs tune serve cluster benchmarks

# Removes what this Makefile made; results of your own runs stay.
clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
