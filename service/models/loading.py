"""One bundle becomes one served model: checked, planned for, loaded and warmed up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from service.bundle import Bundle
from service.config import Settings
from service.engine import DecodingOptions, Engine, EngineLimits, ModelRunner
from service.logging import get_logger
from service.metrics import EngineMetrics, Metrics
from service.runtime import MemoryBudget, RuntimeSettings, load_runners, memory_plan
from service.tokenizer import Tokenizer
from service.translator import LanguagePair, ServedModel

RunnerLoader = Callable[[Bundle, RuntimeSettings], list[ModelRunner]]
"""Makes a model's runners, one for each worker: ONNX Runtime's, or a load test's that only sleep."""

WARM_UP_SECONDS = 120.0
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load_model(
    directory: Path,
    settings: Settings,
    metrics: Metrics,
    budget: MemoryBudget,
    runner_loader: RunnerLoader = load_runners,
) -> ServedModel:
    """A checked bundle with a warm, running engine. Raises BundleError, CheckpointError or ConfigError."""
    bundle = Bundle.load(directory)
    manifest = bundle.manifest
    runtime = RuntimeSettings(
        workers=settings.worker_count,
        threads_per_worker=settings.threads_per_worker,
        row_slots=settings.row_slots,
        max_source_tokens=settings.max_source_tokens,
        max_output_tokens=settings.max_output_tokens,
        provider=settings.provider,
        mode=settings.mode,
        device_id=settings.device_id,
    )
    plan = memory_plan(bundle, runtime)
    get_logger().info("memory_plan", model=manifest.model_id, plan=str(plan))
    budget.spend(plan, model=manifest.model_id)
    tokenizer = Tokenizer.load(bundle.directory)
    runners = runner_loader(bundle, runtime)
    engine = Engine(runners, limits=engine_limits(settings), observer=EngineMetrics(metrics, manifest.model_id))
    model = ServedModel(
        id=manifest.model_id,
        version=manifest.version,
        pairs=tuple(
            LanguagePair(source=pair.source, target=pair.target, target_token=pair.target_token)
            for pair in manifest.language_pairs
        ),
        language_aliases=manifest.language_aliases,
        tokenizer=tokenizer,
        engine=engine,
        max_source_tokens=engine.model.max_source_tokens,
        trusted_source_tokens=min(manifest.trusted_source_tokens, engine.model.max_source_tokens),
        max_target_tokens=engine.model.max_output_tokens,
        supports_alignments=manifest.alignment is not None,
        repeatable=settings.provider == "cpu" or settings.mode == "deterministic",
        precision=manifest.precision,
        provider=_PROVIDERS[settings.provider],
        licence=manifest.licence,
        attribution=manifest.attribution,
    )
    engine.start()
    warm_up(model, row_slots=settings.row_slots)
    metrics.row_slots.labels(model.id).set(sum(runner.limits.row_slots for runner in runners))
    metrics.sentence_slots.labels(model.id).set(sum(runner.limits.sentence_slots for runner in runners))
    metrics.model_info.labels(model.id, model.version, model.precision, model.provider).set(1)
    return model


def warm_up(model: ServedModel, *, row_slots: int) -> None:
    """Decodes a few sentences, greedy and by beams, so that the first caller need not wait for first-time work."""
    source = model.tokenizer.encode("1, 2, 3.", model.pairs[0].target_token).ids
    options = [DecodingOptions(max_output_tokens=8)] * 3
    options.append(DecodingOptions(max_output_tokens=8, beam_size=min(4, row_slots)))
    tickets = [model.engine.submit(source, option) for option in options]
    for ticket in tickets:
        ticket.future.result(timeout=WARM_UP_SECONDS)


def engine_limits(settings: Settings) -> EngineLimits:
    """The engine's bounds on waiting work."""
    return EngineLimits(
        max_waiting_sequences=settings.max_queued_sequences,
        max_waiting_tokens=settings.max_queued_tokens,
        reserved_rows=settings.reserved_rows,
    )
