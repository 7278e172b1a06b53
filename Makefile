# make run    sets everything up and serves on port 7512, with the store in manykeys.db
# make test   sets everything up and runs all tests
# make check  style, types, and the tests of layout and documents
# make sbom   writes the software bill of materials, build/manykeys.cdx.json
# make audit  looks up known vulnerabilities of the dependencies
# make bench  measures beside the peers (needs wrk); the table, bench/results.json and docs/bench.png

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
OPTIONS ?=
# Processes that run the tests: `auto` is one for each processor, 0 runs them without any.
PROCESSES ?= auto
# What is installed for the tests; `make test EXTRAS=test,check,ldap` needs a compiler.
EXTRAS ?= test,check

.PHONY: run test check sbom parts audit bench format clean

run: .venv/served
	$(BIN)/manykeys serve $(OPTIONS)

test: .venv/tested
	$(BIN)/python -m pytest --numprocesses=$(PROCESSES) --dist=worksteal $(OPTIONS)

check: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not interop" tests/test_layout.py tests/docs

sbom: .venv/tested
	mkdir -p build
	$(BIN)/python -m tests.tools.sbom > build/manykeys.cdx.json

# The former name.
parts: sbom

audit: .venv/tested
	$(BIN)/python -m tests.tools.vulnerabilities $(OPTIONS)

bench: .venv/measured
	$(BIN)/python -m bench $(OPTIONS)

format: .venv/tested
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist *.egg-info

.venv/made:
	$(PYTHON) -m venv .venv
	touch $@

.venv/served: .venv/made pyproject.toml
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/tested: .venv/made pyproject.toml
	$(BIN)/pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@ .venv/served

.venv/measured: .venv/made pyproject.toml
	$(BIN)/pip install --quiet --editable '.[test,bench]'
	touch $@ .venv/served
