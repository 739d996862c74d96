"""Every metric of the service, on one page. Labels take few and known values only: none that a client can grow."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)

from service.metrics.gpu_memory import GpuMemoryCollector
from service.metrics.step_histogram import StepHistogram

REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STEP_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
ROW_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
RATIO_BUCKETS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MODEL = ("model",)


class Metrics:
    """All metrics in one registry; built once, by bootstrap."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._define_calls()
        self._define_phases()
        self._define_batching()
        self._define_answers()
        self._define_models()

    def _define_calls(self) -> None:
        self.requests = self._counter("requests", "Calls that ended.", ("method", "model", "code"))
        self.request_seconds = self._histogram(
            "request_seconds", "From a call's arrival to its answer, OK only.", ("method", "model", "length_class")
        )
        self.requests_in_flight = self._gauge("requests_in_flight", "Calls that run now.", ("method",))
        self.bulk_items = self._counter("bulk_items", "Items of bulk streams that ended.", ("model", "code"))
        self.cancellations = self._counter("cancellations", "Calls that the client gave up.", ("method",))
        self.refusal_seconds = self._histogram(
            "refusal_seconds", "From a call's arrival to its refusal, before any work.", ("method",)
        )
        self.token_characters = self._counter(
            "token_characters", "Code points that were counted against a token, by its name in the file.", ("token",)
        )
        self.token_refusals = self._counter(
            "token_refusals", "Calls refused because a token's allowance was used up.", ("token", "limit")
        )
        self.deadline_slack = self._histogram(
            "deadline_slack_seconds", "Time left before the deadline when a call succeeded.", ("method",)
        )

    def _define_phases(self) -> None:
        self.tokenize_seconds = self._histogram("tokenize_seconds", "Splitting a call into sentences and tokens.")
        self.queue_seconds = self._histogram("queue_seconds", "A sentence's wait for a slot.")
        self.encode_seconds = self._histogram("encode_seconds", "A sentence's time in the encoder.")
        self.decode_seconds = self._histogram("decode_seconds", "A sentence's time in the decoder, all its steps.")
        self.detokenize_seconds = self._histogram("detokenize_seconds", "Turning a call's tokens back into text.")
        self.first_token_seconds = self._histogram("first_token_seconds", "A sentence's wait for its first token.")

    def _define_batching(self) -> None:
        self.step_seconds = self._step_histogram(
            "step_seconds", "Parts of one engine step.", ("model", "phase"), STEP_BUCKETS
        )
        self.step_rows = self._step_histogram("step_rows", "Rows decoded in one step.", MODEL, ROW_BUCKETS)
        self.encoder_padding_ratio = self._histogram(
            "encoder_padding_ratio", "Share of padding in what one step encodes.", buckets=RATIO_BUCKETS
        )
        self.encoder_tokens = self._counter("encoder_tokens", "Source tokens that the encoder read.", MODEL)
        self.encoder_padding = self._counter("encoder_padding_tokens", "Padding that the encoder computed.", MODEL)
        self.copied_bytes = self._counter("copied_bytes", "Bytes of keys and values that beams moved.", MODEL)
        self.new_tokens = self._counter("decoded_tokens", "Tokens that decoding steps added, all beams.", MODEL)
        self.full_rows = self._counter("full_rows", "Rows that needed the scores of the whole vocabulary.", MODEL)
        self.queue_sequences = self._gauge("queue_sequences", "Sentences that wait.", MODEL)
        self.queue_tokens = self._gauge("queue_tokens", "Source tokens that wait.", MODEL)
        self.row_slots_used = self._gauge("row_slots_used", "Row slots in use.", ("model", "worker"))
        self.sentence_slots_used = self._gauge("sentence_slots_used", "Sentence slots in use.", ("model", "worker"))
        self.row_slots = self._gauge("row_slots", "Row slots of all workers.", MODEL)
        self.sentence_slots = self._gauge("sentence_slots", "Sentence slots of all workers.", MODEL)

    def _define_answers(self) -> None:
        self.refusals = self._counter("refusals", "Sentences refused at once.", ("model", "reason"))
        self.sequences = self._counter("sequences", "Sentences that left the engine.", ("model", "reason"))
        self.source_tokens = self._counter("source_tokens", "Source tokens of answered calls.", MODEL)
        self.target_tokens = self._counter("target_tokens", "Target tokens of answered calls.", MODEL)
        self.truncations = self._counter("truncations", "Sentences stopped by the output limit.", MODEL)
        self.unknown_characters = self._counter("unknown_characters", "Source characters without a token.", MODEL)
        self.split_pieces = self._counter("split_pieces", "Pieces of sentences that were too long.", MODEL)
        self.fallbacks = self._counter("fallbacks", "Sentences decoded again with a guard.", ("model", "reason"))
        self.cache_lookups = self._counter(
            "cache_lookups", "Sentences of answered calls that may come from the cache.", ("model", "result")
        )
        self.cache_bytes = self._gauge("cache_bytes", "Memory that cached translations take.")

    def _define_models(self) -> None:
        self.model_load_seconds = self._gauge("model_load_seconds", "Time that loading and warming up took.", MODEL)
        self.model_info = self._gauge(
            "model_info", "1 for each model served.", ("model", "version", "precision", "provider")
        )
        self.models = self._gauge("models", "Models in memory: those that serve, and those that drain.", ("state",))
        self.model_loads = self._counter("model_loads", "Bundles that were loaded, or refused.", ("outcome",))
        self.planned_memory = self._gauge("planned_memory_bytes", "Memory that is planned for the models in memory.")
        self.pivots = self._counter("pivots", "Translations through a third language, by the last model.", MODEL)
        self.memory_limit = self._gauge("memory_limit_bytes", "Memory that models may plan for; 0: no limit.")
        build = Info("dragoman_build", "Version of the service.", registry=self.registry)
        build.info({"version": _own_version()})

    def watch_gpu(self, device: int) -> None:
        """Put the memory of GPU `device` on the page, as far as its driver tells."""
        self.registry.register(GpuMemoryCollector(device))

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"dragoman_{name}", text, labels, registry=self.registry)

    def _step_histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> StepHistogram:
        found = StepHistogram(f"dragoman_{name}", text, labels, buckets)
        self.registry.register(found)
        return found

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"dragoman_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...] = MODEL, *, buckets: tuple[float, ...] = REQUEST_BUCKETS
    ) -> Histogram:
        return Histogram(f"dragoman_{name}", text, labels, registry=self.registry, buckets=buckets)


def _own_version() -> str:
    try:
        return version("dragoman")
    except PackageNotFoundError:
        return "unknown"
