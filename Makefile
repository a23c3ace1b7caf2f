# The verbs a person types. `make serve` and `make test` are all that is needed; both keep their environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: serve test check bench format lock clean

serve: $(VENV)/runtime
	$(BIN)/tidewaiter serve

# Three at a time keep two cores busy, a server to each; the tests of a file stay together. What is compiled is kept,
# whatever the environment says: else each of the three compiles all tests anew. Large pages are for the 64 MiB that the
# hash of a password takes: a third of its time is to be given them in small ones, and tests make a thousand.
test: $(VENV)/dev
	PYTHONDONTWRITEBYTECODE= GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(BIN)/python -m pytest -n 3 --dist loadfile

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@! git ls-files 2>/dev/null | grep -E '(^|/)(uv\.lock|pylock.*\.toml)$$' || (echo "lock files that name hosts are tracked"; exit 1)

# Pull and push beside CNCF Distribution, where it is installed; what the audit log costs, and those who follow it; a log of
# millions; how fast quotas are held and settled; and crash runs. About twenty minutes; each runs by itself too.
bench: $(VENV)/dev
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.auditing
	$(BIN)/python -m benchmarks.tails
	$(BIN)/python -m benchmarks.long_log
	$(BIN)/python -m benchmarks.quotas
	$(BIN)/python -m benchmarks.crashing
	$(BIN)/python -m benchmarks.quota_crashing

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Writes the hashed requirement files anew; they name no host.
lock:
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
		pyproject.toml --output-file requirements/runtime.txt
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
		pyproject.toml --group dev --constraint requirements/runtime.txt --output-file requirements/dev.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tidewaiter needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# The package itself is installed from this folder, without the dependencies that the hashed files bring.
$(VENV)/runtime: requirements/runtime.txt pyproject.toml | $(VENV)/bin/python
	test -e $(VENV)/dev || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/dev: requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@ $(VENV)/runtime
