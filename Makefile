# One set-up (.venv), made by the first target that needs it; afterwards no network is needed.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
# PyTorch, too? 3 GB on Linux: make check TORCH=1
TORCH :=
TRAINING := $(VENV)/.training$(TORCH)
IMAGE ?= REGION-docker.pkg.dev/PROJECT/REPOSITORY/batch-collection:latest
TEMPLATE ?= gs://BUCKET/templates/batch-collection.json

.DEFAULT_GOAL := help
.PHONY: help demo test check bench faults format template clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## produce into an embedded broker, collect, show the files, audit them
	@$(VENV)/bin/batch-collection demo

test: $(STAMP) ## run the tests; says which were skipped, and why
	@$(VENV)/bin/pytest -rs

check: $(TRAINING) ## format, lint, types, then the tests: what CI runs
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest -rs

bench: $(TRAINING) ## measure: topics collected, batches read, Cloud Storage, a long log
	@$(VENV)/bin/python -m bench.collecting
	@$(VENV)/bin/python -m bench.reading
	@$(VENV)/bin/python -m bench.storage
	@$(VENV)/bin/python -m bench.log_for_years

faults: $(STAMP) ## the long campaign of faults: up to an hour
	@$(VENV)/bin/pytest -rs -m faults

format: $(STAMP) ## format the code, and mend what the linter can mend
	$(VENV)/bin/ruff check --fix-only --quiet .
	$(VENV)/bin/ruff format .

template: $(STAMP) ## describe the Flex Template's flags; says what builds it (IMAGE=..., TEMPLATE=gs://...)
	@$(VENV)/bin/python -m flex_template.describe
	@echo "docker build -f flex_template/Dockerfile -t $(IMAGE) ."
	@echo "docker push $(IMAGE)"
	@echo "gcloud dataflow flex-template build $(TEMPLATE) --image=$(IMAGE) --sdk-language=PYTHON \"
	@echo "  --metadata-file=flex_template/metadata.json"
	@echo "gcloud dataflow flex-template run NAME --region=REGION --template-file-gcs-location=$(TEMPLATE) \"
	@echo "  --parameters=bootstrap_servers=HOST:9092,topics=TOPIC,output=gs://BUCKET/collected"

clean: ## remove the set-up and all caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(TRAINING): $(STAMP) requirements-training.txt requirements-torch.txt
	@echo "adding TensorFlow$(if $(TORCH), and PyTorch), once"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	  -r requirements-training.txt $(if $(TORCH),-r requirements-torch.txt)
	@touch $@

$(STAMP): requirements.txt requirements-dev.txt setup.py
	@command -v $(PYTHON) > /dev/null || \
	  { echo "no $(PYTHON) here; install Python 3.10 or newer, or name it: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed, $(PYTHON) is older; name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
	  { echo "$(PYTHON) can't make virtual environments; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "setting up $(VENV), once: about a minute"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	  -r requirements-dev.txt -e .
	@touch $@
