# What a person runs: each target makes .venv and installs what it needs first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Flags for the one step that installs torch, for example --index-url with PyTorch's CPU index.
export TORCH_FLAGS ?=
.PHONY: help install demo test test-all loadtest bench bench-peers gpu-smoke gpu-bench deploy-check audit lint format proto proto-baseline clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 18

$(VENV)/.installed: pyproject.toml constraints.txt .ci/install
	@.ci/install $(VENV) $(PYTHON)
	@touch $@

install: $(VENV)/.installed ## Make .venv with everything in it

# DEMO_FLAGS=--stay goes on serving, for the page.
DEMO_FLAGS ?=
demo: $(VENV)/.installed ## Export the bundled model, serve it, translate, show alignments and latencies
	@$(BIN)/python -m examples.demo $(DEMO_FLAGS)

# One thread: where cores are shared, OpenMP's threads wait for the one that was preempted.
test test-all: export OMP_NUM_THREADS ?= 1
# Files go to two processes as they come; a file stays whole, as its tests share what they exported.
TEST_PROCESSES ?= 2
test: $(VENV)/.installed ## Unit, integration and end-to-end tests (under 8 minutes)
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

test-all: $(VENV)/.installed ## All tests, the long ones too, one after the other as they measure
	@$(BIN)/python -m pytest -m ""

# On a machine with a GPU: first replace ONNX Runtime in the environment, as docs/gpu.md says. Exit code 3: no GPU here.
gpu-smoke: $(VENV)/.installed ## Twenty ragged decode steps in fp16 on a GPU, compared with the CPU
	@$(BIN)/python -m tests.gpu_smoke $(GPU_SMOKE_FLAGS)

# As for gpu-smoke; what is compared is set as for bench. The bundle is exported where it is not there yet.
GPU_BUNDLE ?= bundles/gpu-fp16
GPU_BENCH_FLAGS ?=
gpu-bench: $(VENV)/.installed ## Engine in fp16 beside transformers and CTranslate2 on a GPU, and beside its ceilings
	@[ -n "$(BENCH_CHECKPOINT)" ] && [ -n "$(BENCH_TEXT)" ] || { \
		echo "Set BENCH_CHECKPOINT and BENCH_TEXT, or DRAGOMAN_TEST_DATA: see docs/gpu.md" >&2; exit 2; }
	@$(BIN)/python -m loadtests.bench.gpu.device $(GPU_BENCH_FLAGS)
	@[ -d "$(GPU_BUNDLE)" ] || $(BIN)/python -m exporter export --checkpoint "$(BENCH_CHECKPOINT)" --precision fp16 --output "$(GPU_BUNDLE)"
	@$(BIN)/python -m loadtests.bench.gpu --bundle "$(GPU_BUNDLE)" --checkpoint "$(BENCH_CHECKPOINT)" \
		--text "$(BENCH_TEXT)" $(GPU_BENCH_FLAGS)

# What is compared: a Marian checkpoint, sentences and their references; set each, or DRAGOMAN_TEST_DATA for all three.
BENCH_CHECKPOINT ?= $(if $(DRAGOMAN_TEST_DATA),$(DRAGOMAN_TEST_DATA)/models/opus-mt-zh-en)
BENCH_TEXT ?= $(if $(DRAGOMAN_TEST_DATA),$(DRAGOMAN_TEST_DATA)/data/flores/dev.zh.gz)
BENCH_REFERENCES ?= $(if $(DRAGOMAN_TEST_DATA),$(DRAGOMAN_TEST_DATA)/data/flores/dev.en.gz)
BENCH_BUNDLE ?= bundles/bench-int8
BENCH_FLAGS ?=
bench: $(VENV)/.installed ## Engine beside CTranslate2 and transformers as libraries (an hour, an idle machine)
	@[ -n "$(BENCH_CHECKPOINT)" ] && [ -n "$(BENCH_TEXT)" ] && [ -n "$(BENCH_REFERENCES)" ] || { \
		echo "Set BENCH_CHECKPOINT, BENCH_TEXT and BENCH_REFERENCES, or DRAGOMAN_TEST_DATA: see docs/benchmarks.md" >&2; exit 2; }
	@[ -d "$(BENCH_BUNDLE)" ] || $(BIN)/python -m exporter export --checkpoint "$(BENCH_CHECKPOINT)" --precision int8 --output "$(BENCH_BUNDLE)"
	@$(BIN)/python -m loadtests.bench --bundle "$(BENCH_BUNDLE)" --checkpoint "$(BENCH_CHECKPOINT)" \
		--text "$(BENCH_TEXT)" --references "$(BENCH_REFERENCES)" $(BENCH_FLAGS)

# Programs of the checks go to TOOLS; podman and Prometheus come from the path, else root installs Debian's.
TOOLS ?= $(VENV)/deploy-tools
deploy-check: $(VENV)/.installed ## Dockerfile, chart, rules and manifests; the image built, run, scraped and drained
	@$(BIN)/python -m deploy.check --tools $(TOOLS)
	@$(BIN)/python -m pytest -m "" tests/unit/deploy tests/e2e/test_image.py tests/e2e/test_prometheus.py

# The same weights, cores and text for all servers; each is swept for its best set-up first.
PEERS_FLAGS ?=
bench-peers: $(VENV)/.installed ## Our server beside CTranslate2's and transformers' at rising load (90 minutes, an idle machine)
	@[ -n "$(BENCH_CHECKPOINT)" ] && [ -n "$(BENCH_TEXT)" ] || { \
		echo "Set BENCH_CHECKPOINT and BENCH_TEXT, or DRAGOMAN_TEST_DATA: see docs/benchmarks.md" >&2; exit 2; }
	@[ -d "$(BENCH_BUNDLE)" ] || $(BIN)/python -m exporter export --checkpoint "$(BENCH_CHECKPOINT)" --precision int8 --output "$(BENCH_BUNDLE)"
	@$(BIN)/python -m loadtests.peers --bundle "$(BENCH_BUNDLE)" --checkpoint "$(BENCH_CHECKPOINT)" \
		--text "$(BENCH_TEXT)" $(PEERS_FLAGS)

# With a runner that only sleeps, so that it says something of admission, fairness and draining on any machine.
LOADTEST_FLAGS ?= suite --sleeping --seconds 4
loadtest: $(VENV)/.installed ## Load scenarios on a sleeping server, with thresholds and a report (two minutes)
	@$(BIN)/python -m loadtests $(LOADTEST_FLAGS)

lint: $(VENV)/.installed ## Style, format, strict typing and the wire contract
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted: run make format"; $(BIN)/ruff format --check .; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/buf lint
	@$(BIN)/buf breaking --against proto/baseline.binpb
	@echo "lint: ruff, mypy --strict and buf are clean"

AUDIT_OUTPUT ?= build
audit: $(VENV)/.installed ## Licences of all that is installed, and an SBOM (build/sbom.cdx.json)
	@$(BIN)/python -m pytest -q tests/unit/test_licences.py
	@.ci/audit $(VENV) $(AUDIT_OUTPUT)

format: $(VENV)/.installed ## Format the code in place
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

proto: $(VENV)/.installed ## Generate the Python stubs from proto/
	@$(BIN)/python proto/generate_stubs.py

# What clients may rely on: `make lint` refuses a contract that breaks it. To be written again when a release is made.
proto-baseline: $(VENV)/.installed ## Take today's contract as the one that must not be broken
	@$(BIN)/buf build --exclude-source-info -o proto/baseline.binpb

clean: ## Remove .venv, caches and exported bundles
	@rm -rf $(VENV) bundles build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
