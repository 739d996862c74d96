"""One bundle becomes one served model, started and tested; and one that is served no more gives its memory back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

from service.bundle import Bundle
from service.config import Settings
from service.engine import Engine, EngineLimits, ModelRunner
from service.logging import get_logger
from service.metrics import EngineMetrics, Metrics
from service.models.private_copy import private_copy
from service.models.self_test import self_test
from service.runtime import MemoryBudget, MemoryPlan, RuntimeSettings, load_runners, memory_plan
from service.tokenizer import Tokenizer
from service.translator import LanguagePair, ServedModel

RunnerLoader = Callable[[Bundle, RuntimeSettings], list[ModelRunner]]
"""Makes a model's runners, one for each worker: ONNX Runtime's, or a load test's that only sleep."""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedModel:
    """A model whose engine runs, and the memory that was planned for it."""

    model: ServedModel
    plan: MemoryPlan


class ModelLoader:
    """Loads and unloads within one memory budget; what it does takes long, so call it off the event loop."""

    def __init__(self, settings: Settings, metrics: Metrics, *, runners: RunnerLoader = load_runners) -> None:
        self._settings = settings
        self._metrics = metrics
        self._runners = runners
        self._budget = MemoryBudget(settings.memory_limit_bytes)
        self._counting = threading.Lock()  # one model may be loaded while another is unloaded
        self._known: Counter[tuple[str, ...]] = Counter()
        self._runtime = RuntimeSettings(
            workers=settings.worker_count,
            threads_per_worker=settings.threads_per_worker,
            row_slots=settings.row_slots,
            max_source_tokens=settings.max_source_tokens,
            max_output_tokens=settings.max_output_tokens,
            provider=settings.provider,
            mode=settings.mode,
            device_id=settings.device_id,
        )

    def load(self, bundle: Bundle) -> LoadedModel:
        """A warm model that has passed its self-test.

        Raises: BundleError, CheckpointError, ConfigError; memory planned and taken has been given back then.
        """
        manifest, plan = bundle.manifest, memory_plan(bundle, self._runtime_of(bundle))
        get_logger().info("memory_plan", model=manifest.model_id, version=manifest.version, plan=str(plan))
        with self._counting:
            self._budget.spend(plan, model=manifest.model_id)
        try:
            # Folders of a directory are there to be changed; those that were named one by one may be large, and stay.
            with private_copy(bundle) if self._settings.bundle_directory else nullcontext(bundle) as opened:
                model = self._start(opened)
        except BaseException:
            with self._counting:
                self._budget.give_back(plan)
            raise
        with self._counting:
            self._count(model, plan, sign=1)
        return LoadedModel(model=model, plan=plan)

    def unload(self, loaded: LoadedModel, *, grace_seconds: float) -> None:
        """Ends the engine; what it has accepted gets `grace_seconds`. The memory goes with the last reference."""
        loaded.model.engine.shutdown(grace_seconds=grace_seconds)
        with self._counting:
            self._budget.give_back(loaded.plan)
            self._count(loaded.model, loaded.plan, sign=-1)

    def _runtime_of(self, bundle: Bundle) -> RuntimeSettings:
        size = sum(entry.bytes for entry in bundle.manifest.files.values())
        return replace(self._runtime, lone_threads=self._settings.lone_thread_count(size))

    def _start(self, bundle: Bundle) -> ServedModel:
        tokenizer = Tokenizer.load(bundle.directory)
        observer = EngineMetrics(self._metrics, bundle.manifest.model_id)
        runners = self._runners(bundle, self._runtime_of(bundle))
        engine = Engine(runners, limits=engine_limits(self._settings), observer=observer)
        engine.start()
        try:
            model = served_model(bundle, tokenizer, engine, self._runtime)
            self_test(model)
        except BaseException:
            engine.shutdown(grace_seconds=0.0)
            raise
        return model

    def _count(self, model: ServedModel, plan: MemoryPlan, *, sign: int) -> None:
        """The model's share of the gauges that all models, and both versions during a reload, add up to."""
        metrics, settings, limits = self._metrics, self._settings, model.engine.model
        metrics.planned_memory.inc(sign * plan.total)
        metrics.row_slots.labels(model.id).inc(sign * limits.row_slots * settings.worker_count)
        metrics.sentence_slots.labels(model.id).inc(sign * limits.sentence_slots * settings.worker_count)
        info = (model.id, model.version, model.precision, model.provider)
        self._known[info] += sign
        if self._known[info]:
            metrics.model_info.labels(*info).set(1)
        else:
            del self._known[info]
            metrics.model_info.remove(*info)


def served_model(bundle: Bundle, tokenizer: Tokenizer, engine: Engine, runtime: RuntimeSettings) -> ServedModel:
    """What the translator must know of the model in `bundle`."""
    manifest, limits = bundle.manifest, engine.model
    return ServedModel(
        id=manifest.model_id,
        version=manifest.version,
        pairs=tuple(
            LanguagePair(source=pair.source, target=pair.target, target_token=pair.target_token)
            for pair in manifest.language_pairs
        ),
        language_aliases=manifest.language_aliases,
        tokenizer=tokenizer,
        engine=engine,
        max_source_tokens=limits.max_source_tokens,
        trusted_source_tokens=min(manifest.trusted_source_tokens, limits.max_source_tokens),
        max_target_tokens=limits.max_output_tokens,
        supports_alignments=manifest.alignment is not None,
        precision=manifest.precision,
        provider=_PROVIDERS[runtime.provider],
        repeatable=runtime.provider == "cpu" or runtime.mode == "deterministic",
        licence=manifest.licence,
        attribution=manifest.attribution,
    )


def engine_limits(settings: Settings) -> EngineLimits:
    """The engine's bounds on waiting work."""
    return EngineLimits(
        max_waiting_sequences=settings.max_queued_sequences,
        max_waiting_tokens=settings.max_queued_tokens,
        reserved_rows=settings.reserved_rows,
        static_batching=settings.static_batching,
    )
