# One set-up (.venv), made by the first target that needs it; afterwards no network is needed.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
# PyTorch, too? 3 GB on Linux: make check TORCH=1
TORCH :=
TRAINING := $(VENV)/.training$(TORCH)
COMPILED := batch_collection/reading/random_order.c transforms/buffers.h transforms/utf8.h transforms/decoding/plain_json.c transforms/sources/kafka/gather.c
IMAGE ?= REGION-docker.pkg.dev/PROJECT/REPOSITORY/batch-collection:latest
UV := uv==0.13.9
BUILDERS := build==1.6.1 twine==7.0.0
SITE := mkdocs==1.6.1
TEMPLATE ?= gs://BUCKET/templates/batch-collection.json

PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --retries=10
# What this Python's lock says, by its hashes; where it has none, what the lock would be made from.
install = lock=$$($(VENV)/bin/python -c 'import sys; print("requirements/py%d%d$(1).txt" % sys.version_info[:2])'); \
  if [ -e $$lock ]; then $(PIP) --require-hashes -r $$lock; \
  else echo "no $$lock: what is not pinned comes in its newest version"; $(PIP) $(2); fi
# Two workers, for two cores; tests of one service stay together (WORKERS=0: one after another).
WORKERS ?= 2
PYTEST := $(VENV)/bin/python -m pytest -rs --durations=30
# What failed is run once more, alone: on busy cores a deadline passes that nothing broke. Both are shown.
again = || { test $$? = 1 && echo "tests failed (above): these once more, one after another" && \
  $(PYTEST) --last-failed --last-failed-no-failures=none -m $(1); }

.DEFAULT_GOAL := help
.PHONY: help demo test check prepare bench faults format lock dist docs template clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## produce into an embedded broker, collect, show the files, audit them
	@$(VENV)/bin/batch-collection demo

prepare: $(STAMP) ## build what the tests need, once: test and check do it, too
	@$(VENV)/bin/python -m tests.services

test: prepare ## run the tests but the slow ones; says which were skipped, and why
	@$(PYTEST) -m "not slow and not faults" --numprocesses=$(WORKERS) --dist=loadfile \
	  $(call again,"not slow and not faults")

check: $(TRAINING) prepare ## format, lint, types, test, then the slow tests: what CI runs
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	@$(MAKE) --no-print-directory test
	@$(PYTEST) -m "slow and not faults" $(call again,"slow and not faults")

bench: $(TRAINING) ## measure: topics, subscriptions and pipelines collected, batches read, Cloud Storage, engines, a long log
	@$(VENV)/bin/python -m bench.collecting
	@$(VENV)/bin/python -m bench.starting
	@$(VENV)/bin/python -m bench.topics
	@$(VENV)/bin/python -m bench.large_messages
	@$(VENV)/bin/python -m bench.pubsub
	@$(VENV)/bin/python -m bench.kafka_readers
	@$(VENV)/bin/python -m bench.collect_batches
	@$(VENV)/bin/python -m bench.readers
	@$(VENV)/bin/python -m bench.narrowed
	@$(VENV)/bin/python -m bench.storage
	@$(VENV)/bin/python -m bench.engines
	@$(VENV)/bin/python -m bench.log_for_years

faults: prepare ## the long campaign of faults: up to two hours
	@$(PYTEST) -m faults

format: $(STAMP) ## format the code, and let the linter repair what it can
	$(VENV)/bin/ruff check --fix-only --quiet .
	$(VENV)/bin/ruff format .

lock: ## lock all that requirements*.txt need, by hashes, for each Python
	@$(PYTHON) -m venv .cache/lock
	@.cache/lock/bin/python -m pip install --quiet --disable-pip-version-check $(UV)
	@.cache/lock/bin/python requirements/lock.py .cache/lock/bin/uv

dist: ## build the package for an index, and check what it says of itself: dist/
	@$(PYTHON) -m venv .cache/dist
	@.cache/dist/bin/python -m pip install --quiet --disable-pip-version-check $(BUILDERS)
	@rm -rf dist build
	@BATCH_COLLECTION_PURE=1 .cache/dist/bin/python -m build --outdir=dist .
	@.cache/dist/bin/python -m twine check --strict dist/*

docs: ## build the pages as a site, which needs no network to be read: .cache/site
	@$(PYTHON) -m venv .cache/docs
	@.cache/docs/bin/python -m pip install --quiet --disable-pip-version-check $(SITE)
	@.cache/docs/bin/python -m mkdocs build --strict --quiet

template: $(STAMP) ## describe the Flex Template's flags; says what builds it (IMAGE=..., TEMPLATE=gs://...)
	@$(VENV)/bin/python -m flex_template.describe
	@echo "docker build -f flex_template/Dockerfile -t $(IMAGE) ."
	@echo "docker push $(IMAGE)"
	@echo "gcloud dataflow flex-template build $(TEMPLATE) --image=$(IMAGE) --sdk-language=PYTHON \\"
	@echo "  --metadata-file=flex_template/metadata.json"
	@echo "gcloud dataflow flex-template run NAME --region=REGION --template-file-gcs-location=$(TEMPLATE) \\"
	@echo "  --parameters=bootstrap_servers=HOST:9092,topics=TOPIC,output=gs://BUCKET/collected"

clean: ## remove the set-up and all caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .cache $(patsubst %.c,%.*so,$(filter %.c,$(COMPILED)))
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(TRAINING): $(STAMP) requirements-training.txt requirements-torch.txt $(wildcard requirements/*.txt)
	@echo "adding TensorFlow$(if $(TORCH), and PyTorch), once"
	@$(call install,$(if $(TORCH),-torch,-training),-r requirements-training.txt $(if $(TORCH),-r requirements-torch.txt))
	@touch $@

$(STAMP): requirements.txt requirements-dev.txt $(wildcard requirements/*.txt) setup.py $(COMPILED)
	@command -v $(PYTHON) > /dev/null || \
	  { echo "no $(PYTHON) here; install Python 3.10 or newer, or name it: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed, $(PYTHON) is older; name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
	  { echo "$(PYTHON) can't make virtual environments; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "setting up $(VENV), once: about a minute"
	@$(PYTHON) -m venv $(VENV)
	@$(call install,-dev,-r requirements-dev.txt)
	@$(PIP) --no-deps -e .
	@touch $@
