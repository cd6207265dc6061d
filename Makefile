# Everything runs in .venv, made on first use; nothing else needs to be installed by hand.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
READY_TO_FUZZ := .venv/.ready-to-fuzz

.DEFAULT_GOAL := help
.PHONY: help setup demo report-demo test test-slow lint audit format protos protos-check chaos soak fuzz bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## make .venv and install lotteryfl and its development tools into it

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY) ## coordinator + 2 workers over gRPC: 20 clients find their tickets on real data
	$(BIN)/lotteryfl run examples/digits.toml --workers 2

report-demo: $(READY) ## the demo, and a page with pictures of it: runs/report-demo/report/index.html
	$(BIN)/lotteryfl run examples/digits.toml --workers 2 --run-dir runs/report-demo/run
	$(BIN)/lotteryfl report runs/report-demo/run --out runs/report-demo/report

test: $(READY) ## the tests, under 10 minutes on 2 cores
	$(BIN)/python -m pytest -m 'not slow' -n 2

test-slow: $(READY) ## the tests that take longer
	$(BIN)/python -m pytest -m slow

lint: $(READY) protos-check ## format, lint, layering and types, and that the generated code is fresh
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# What an index does not know, such as a CPU build of torch, is listed and passed over.
audit: $(READY) ## known vulnerabilities of what is installed, by the Python Package Index's list (network)
	$(BIN)/pip-audit --local --skip-editable --progress-spinner off

format: $(READY) ## rewrite the files the way lint wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: $(READY) ## regenerate protos/ from protos/lotteryfl.proto
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc --proto_path=. \
	  --python_out=$(or $(OUT),.) --grpc_python_out=$(or $(OUT),.) \
	  --mypy_out=$(or $(OUT),.) --mypy_grpc_out=$(or $(OUT),.) lotteryfl/protos/lotteryfl.proto

protos-check: $(READY)
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && $(MAKE) --no-print-directory protos OUT="$$out" >/dev/null && \
	for file in "$$out"/lotteryfl/protos/*; do \
	  cmp -s "$$file" "protos/$${file##*/}" || { echo "protos/$${file##*/} is stale: run 'make protos'"; exit 1; }; \
	done

chaos: $(READY) ## a run survives 200 faults at every point, in under 15 minutes
	$(BIN)/python -m pytest tests/chaos/test_chaos.py

soak: $(READY) ## 2,000 rounds: do memory, open files or threads grow?
	$(BIN)/python -m pytest tests/chaos/test_soak.py

fuzz: $(READY_TO_FUZZ) ## a minute of fuzzing over the kept corpus, SECONDS=600 for longer (Linux on x86-64)
	PYTHONPATH=.:tests $(BIN)/python tests/fuzz/fuzz.py --seconds $(or $(SECONDS),60) $(ONLY)

$(READY_TO_FUZZ): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,fuzz]'
	touch $(READY_TO_FUZZ)

bench: $(READY) ## every figure beside its baseline, in under 20 minutes; ONLY=pruning for one part
	$(BIN)/python -m benchmarks $(ONLY)

clean: ## remove .venv and caches
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
