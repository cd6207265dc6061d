# Everything runs in .venv, made on first use; nothing else needs to be installed by hand.
# PYTHON=python3.12 is what .venv is made with; without it the first that runs and is new enough. On Windows a checkout wants
# core.symlinks=true, or the links in lotteryfl/ are files.
BIN := .venv/bin
EXTRAS := $(shell sed -n '/^\[project.optional-dependencies\]/,/^\[/s/ = \[.*//p' pyproject.toml)

# What is installed so far: what running needs, and what each extra adds.
READY := .venv/.ready
READY_TO_REPORT := $(READY)-report
READY_TO_DEVELOP := $(READY)-dev
READY_TO_FUZZ := $(READY)-fuzz
READY_TO_PROFILE := $(READY)-profile
READY_FOR_SITE := $(READY)-site

# Heavy libraries that models come from: an environment of their own, and .venv stays what the other targets need.
LIBRARIES := .venv-extras

# What launches runs on clusters is tested with: helm, kubectl and the schemas of Kubernetes' API; and Ray.
HELM := .venv-helm
RAY := .venv-ray

# The peer that benchmarks run beside.
PEER := .venv-peer
FLOWER := flwr==1.42.0

# What a release is made with.
RELEASING := .venv-release
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

# Two commands of recipes: a virtual environment in a folder, and Debian's packages.
venv = python=$$(tools/find-python $(if $(PYTHON),'$(PYTHON)')) && "$$python" -m venv $(1)
apt-get = test "$$(id -u)" = 0 || sudo=sudo; $$sudo apt-get install --yes --no-install-recommends $(1)

.DEFAULT_GOAL := help
.PHONY: help setup $(EXTRAS:%=setup-%) demo report-demo board test test-slow test-page test-compose test-extras \
  coverage lint audit format protos protos-check chaos soak fuzz bench bench-peer profile gpu-check package \
  try-package sbom requirements clean test-ssh test-helm test-ray test-slurm site front test-docs experiments \
  experiments-tables
.NOTPARALLEL: # one pip at a time

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## make .venv and install lotteryfl into it; setup-dev, setup-report …: with that extra of pyproject.toml

$(EXTRAS:%=setup-%): setup-%: $(READY)-%

$(BIN)/python:
	@test ! -f lotteryfl/server || { echo "lotteryfl/server is a file and should be a link: git config core.symlinks true," \
	  "then git checkout -- lotteryfl" >&2; exit 1; }
	$(call venv,.venv)

$(READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing lotteryfl and what it needs into .venv, torch among it: that takes minutes"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(EXTRAS:%=$(READY)-%): $(READY)-%: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

SEEN_BY := dashboard metrics tensorboard

demo: $(READY) $(if $(DASHBOARD),$(SEEN_BY:%=$(READY)-%)) ## coordinator + 2 workers over gRPC: 20 clients find their tickets; DASHBOARD=127.0.0.1:8080: seen by a page and all else
	$(if $(DASHBOARD),tools/demo-seen $(BIN) $(DASHBOARD),$(BIN)/lotteryfl run examples/digits.toml --workers 2)

report-demo: $(READY_TO_REPORT) ## the demo, and a page with pictures of it: runs/report-demo/report/index.html
	$(BIN)/lotteryfl run examples/digits.toml --workers 2 --run-dir runs/report-demo/run
	$(BIN)/lotteryfl report runs/report-demo/run --out runs/report-demo/report

RECORDS := results/records

board: $(READY) ## the records in results/records, where there are any, as a page: board/index.html
	@if test -d $(RECORDS); then $(BIN)/lotteryfl board $(RECORDS) --out board; else echo "no $(RECORDS): no board"; fi

# Three at once on two cores: some wait for something else.
test: $(READY_TO_DEVELOP) ## the tests, under 10 minutes on 2 cores
	$(BIN)/python -m pytest -m 'not slow' -n 3

coverage: $(READY_TO_DEVELOP) ## the tests, and how much of the code they run: not less than pyproject.toml says
	$(BIN)/python -m pytest -m 'not slow' -n 3 --cov

test-page: $(READY_TO_DEVELOP) ## the page in a browser, all of it; installs Debian's Chromium where there is none
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit; done; \
	$(call apt-get,chromium)
	$(BIN)/python -m pytest tests/page

# An engine that is there but cannot be reached is started by its own means: as a service, or by Docker's desktop program.
test-compose: $(READY_TO_DEVELOP) ## Compose for real, also over several hosts; installs Debian's docker.io and docker-compose where there is no Docker
	@command -v docker >/dev/null && { command -v docker-compose || docker compose version; } >/dev/null && exit; \
	$(call apt-get,docker.io docker-compose)
	$(BIN)/python -m pytest tests/compose

test-slurm: $(READY_TO_DEVELOP) ## runs on a real Slurm of two nodes on this machine; installs Debian's slurm-wlm and munge where there is none
	@PATH="$$PATH:/usr/sbin"; for name in munged slurmctld slurmd; do command -v $$name >/dev/null || missing=yes; done; \
	test -n "$$missing" || exit 0; \
	$(call apt-get,slurm-wlm munge)
	$(BIN)/python -m pytest -m slow tests/integration/slurm

test-ssh: $(READY_TO_DEVELOP) ## launch ssh on a real sshd, all of it; installs Debian's OpenSSH where there is none
	@command -v /usr/sbin/sshd >/dev/null && exit; \
	$(call apt-get,openssh-client openssh-server)
	$(BIN)/python -m pytest tests/launching/ssh tests/integration/launching/test_ssh.py

$(HELM)/.ready:
	$(call venv,$(HELM))
	$(HELM)/bin/python -m pip install --quiet kubernetes-validate
	tools/kube-tools $(HELM)/bin
	touch $@

test-helm: $(READY_TO_DEVELOP) $(HELM)/.ready ## the chart by real helm; CONTEXT=kind IMAGE=lotteryfl:0.1.0: a launch on that cluster, too
	PATH="$$PATH:$(CURDIR)/$(HELM)/bin" $(CONTEXT:%=LOTTERYFL_TEST_CLUSTER=%) $(IMAGE:%=LOTTERYFL_TEST_IMAGE=%) \
	  $(BIN)/python -m pytest tests/launching/kubernetes tests/integration/launching/test_kubernetes.py \
	  tests/integration/launching/test_cluster.py

test-slow: $(READY_TO_DEVELOP) ## the tests that take longer
	$(BIN)/python -m pytest -m slow

# torchvision, which timm needs too, asks for the torch that it was built with, in the place of the one that is pinned.
$(LIBRARIES)/.ready: pyproject.toml constraints.txt
	$(call venv,$(LIBRARIES))
	$(LIBRARIES)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,datasets,peft,transformers]'
	$(LIBRARIES)/bin/python -m pip install --quiet --no-deps timm torchvision
	touch $@

test-extras: $(LIBRARIES)/.ready ## what is tested with timm, torchvision, transformers, peft and datasets, in .venv-extras
	LOTTERYFL_TEST_EXTRAS=1 $(LIBRARIES)/bin/python -m pytest -m extras -n 2

$(RAY)/.ready: pyproject.toml constraints.txt
	$(call venv,$(RAY))
	$(RAY)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,ray]'
	touch $@

test-ray: $(RAY)/.ready ## `launch ray` on a real Ray of several raylets, in .venv-ray
	$(RAY)/bin/python -m pytest -m ray

test-docs: $(READY_TO_DEVELOP) ## every block of code of the documents, slow ones too, and how many are run
	$(BIN)/python -m tests.docs.blocks
	$(BIN)/python -m pytest tests/docs

lint: $(READY_TO_DEVELOP) protos-check site ## format, lint, layering and types, that the generated code is fresh, and that the site builds
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# Not --quiet: what is not said is not counted, and --strict then passes whatever is wrong.
site: $(READY_TO_DEVELOP) $(READY_FOR_SITE) ## the documents and references as a site, read without server or network: dist/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

front: $(READY_TO_DEVELOP) ## the README's picture, docs/images/front.svg, of the records of two tables in docs/experiments.md
	$(BIN)/python -m tools.site.front

# What an index does not know, such as a CPU build of torch, is listed and passed over.
audit: $(READY_TO_DEVELOP) ## known vulnerabilities of what is installed, by the Python Package Index's list (network)
	$(BIN)/pip-audit --local --skip-editable --progress-spinner off

format: $(READY_TO_DEVELOP) ## rewrite the files the way lint wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: $(READY_TO_DEVELOP) ## regenerate protos/ from protos/lotteryfl.proto
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc --proto_path=. \
	  --python_out=$(or $(OUT),.) --grpc_python_out=$(or $(OUT),.) \
	  --mypy_out=$(or $(OUT),.) --mypy_grpc_out=$(or $(OUT),.) lotteryfl/protos/lotteryfl.proto

protos-check: $(READY_TO_DEVELOP)
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && $(MAKE) --no-print-directory protos OUT="$$out" >/dev/null && \
	for file in "$$out"/lotteryfl/protos/*; do \
	  cmp -s "$$file" "protos/$${file##*/}" || { echo "protos/$${file##*/} is stale: run 'make protos'"; exit 1; }; \
	done

chaos: $(READY_TO_DEVELOP) ## a run survives 200 faults at every point, in under 15 minutes
	$(BIN)/python -m pytest tests/chaos/test_chaos.py

soak: $(READY_TO_DEVELOP) ## 2,000 rounds: do memory, open files or threads grow?
	$(BIN)/python -m pytest tests/chaos/test_soak.py

fuzz: $(READY_TO_DEVELOP) $(READY_TO_FUZZ) ## a minute of fuzzing over the kept corpus, SECONDS=600 for longer (Linux on x86-64)
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(ONLY)

bench: $(READY_TO_DEVELOP) ## every figure beside its baseline, in under 20 minutes; ONLY=pruning for one part
	$(BIN)/python -m benchmarks $(ONLY)

experiments: $(READY_TO_DEVELOP) ## the runs behind docs/experiments.md: PART=digits-finals what has no record yet, without it what is done; DATA=FOLDER SEED=0 JOBS=2
	$(BIN)/python -m benchmarks.experiments $(PART) $(DATA:%=--data-dir %) $(SEED:%=--seed %) $(JOBS:%=--jobs %)

# The bars of a diagram of ranks come in the order of hashes.
experiments-tables: $(READY_TO_DEVELOP) ## write the tables and pictures of docs/experiments.md anew, out of results/records
	PYTHONHASHSEED=0 $(BIN)/python -m benchmarks.experiments.tables

$(PEER)/.ready:
	$(call venv,$(PEER))
	$(PEER)/bin/python -m pip install --quiet '$(FLOWER)' || { echo "$(FLOWER): cannot be installed here" >&2; exit 1; }
	touch $@

bench-peer: $(READY_TO_DEVELOP) $(PEER)/.ready ## whole rounds beside Flower's, in turn, in 15 minutes or so; writes benchmarks/PEER.md
	$(BIN)/python -m benchmarks.peer $(PEER)/bin/python

profile: $(READY_TO_DEVELOP) $(READY_TO_PROFILE) ## where a sparse round's time goes, and a fleet's: benchmarks/profile.svg (Linux)
	$(BIN)/python -m benchmarks.profile

# Where there is a card and no package index, GPU_PYTHON=python3 is whose torch and packages are used; nothing is installed.
gpu-check: $(if $(GPU_PYTHON),,$(READY_TO_DEVELOP)) ## what holds on an accelerator, how fast it is: OUT=FILE ONLY=bits; DEVICE=cpu QUICK=1: dry
	PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" $(or $(GPU_PYTHON),$(BIN)/python) -m benchmarks.gpu \
	  $(DEVICE:%=--device %) $(if $(QUICK),--quick) $(OUT:%=--out %) $(SECONDS:%=--seconds %) $(ONLY)

$(RELEASING)/.ready: requirements/release.txt
	$(call venv,$(RELEASING))
	$(RELEASING)/bin/python -m pip install --quiet --require-hashes --requirement requirements/release.txt
	touch $@

package: $(RELEASING)/.ready ## sdist and wheel of the last commit, in dist/
	tools/package $(RELEASING)/bin

# Without HASHED=1 pip finds what is needed, torch from where it is set up to look; with it, what requirements/ has and nothing else.
try-package: package ## that wheel in a clean environment, and a short run there; PYTHON=python3.13, HASHED=1
	python=$$(tools/find-python $(if $(PYTHON),'$(PYTHON)')) && \
	  tools/try-package "$$python" dist/lotteryfl-$(VERSION)-py3-none-any.whl $(if $(HASHED),requirements/torch.txt requirements/run.txt)

# It is of what requirements/ has, with all hashes; or of an environment, such as that of an image, with licences and who wants what.
sbom: $(RELEASING)/.ready ## a bill of materials (CycloneDX) of what running installs, in dist/; OF=/path/to/python: of what is installed there
	mkdir -p dist
ifdef OF
	$(RELEASING)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-file dist/lotteryfl-$(VERSION)-installed.cdx.json '$(OF)'
else
	cat requirements/torch.txt requirements/run.txt | $(RELEASING)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
	  --output-file dist/lotteryfl-$(VERSION).cdx.json -
endif

requirements: $(RELEASING)/.ready ## renew requirements/ within pyproject.toml and constraints.txt (network)
	tools/lock $(RELEASING)/bin/uv

clean: ## remove .venv and caches
	rm -rf .venv $(LIBRARIES) $(PEER) $(RELEASING) $(HELM) $(RAY) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.*
