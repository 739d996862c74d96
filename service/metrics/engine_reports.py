"""What one model's engine reports, put on the metrics page."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from prometheus_client import Gauge

from service.engine import FinishReason, RefusalReason, StepRecord, Timings
from service.metrics.definitions import Metrics
from service.metrics.step_histogram import StepCounts


@dataclass(frozen=True, slots=True)
class _StepWriters:
    """Where one worker's thread counts its steps."""

    rows: StepCounts
    encode: StepCounts
    decode: StepCounts
    search: StepCounts


class _GaugeShare:
    """One engine's share of a gauge: two versions of a model have one gauge while one of them drains."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._value = 0

    def set(self, value: int) -> None:
        if value != self._value:
            self._gauge.inc(value - self._value)
            self._value = value


class EngineMetrics:
    """What one model's engine reports, as metrics; implements EngineObserver. Called from worker threads, so cheap."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        # The children are looked up here once: a lookup costs more than what it finds.
        self._metrics = metrics
        self._model = model
        self._steps: dict[int, _StepWriters] = {}
        self._padding_ratio = metrics.encoder_padding_ratio.labels(model)
        self._encoder_tokens = metrics.encoder_tokens.labels(model)
        self._encoder_padding = metrics.encoder_padding.labels(model)
        self._copied_bytes = metrics.copied_bytes.labels(model)
        self._new_tokens = metrics.new_tokens.labels(model)
        self._full_rows = metrics.full_rows.labels(model)
        self._queue_seconds = metrics.queue_seconds.labels(model)
        self._encode_seconds = metrics.encode_seconds.labels(model)
        self._decode_seconds = metrics.decode_seconds.labels(model)
        self._first_token_seconds = metrics.first_token_seconds.labels(model)
        self._queue_sequences = _GaugeShare(metrics.queue_sequences.labels(model))
        self._queue_tokens = _GaugeShare(metrics.queue_tokens.labels(model))
        self._slots: dict[int, tuple[_GaugeShare, _GaugeShare]] = {}
        self._refusals = {reason: metrics.refusals.labels(model, reason.value) for reason in RefusalReason}
        self._sequences = {reason: metrics.sequences.labels(model, reason.value) for reason in FinishReason}

    def step(self, record: StepRecord) -> None:
        """One engine step ended."""
        writers = self._steps.get(record.worker) or self._open(record.worker)
        if record.rows:
            writers.rows.observe(record.rows)
            writers.decode.observe(record.decode_seconds)
            writers.search.observe(record.search_seconds)
            self._new_tokens.inc(record.new_tokens)
        if record.encoded_tokens:
            writers.encode.observe(record.encode_seconds)
            self._encoder_tokens.inc(record.encoded_tokens)
            padding = record.padded_tokens - record.encoded_tokens
            self._encoder_padding.inc(padding)
            self._padding_ratio.observe(padding / record.padded_tokens)
        if record.copied_bytes:
            self._copied_bytes.inc(record.copied_bytes)
        if record.full_rows:
            self._full_rows.inc(record.full_rows)

    def _open(self, worker: int) -> _StepWriters:
        rows, seconds, model = self._metrics.step_rows, self._metrics.step_seconds, self._model
        phases = [seconds.writer(model, phase) for phase in ("encode", "decode", "search")]
        writers = _StepWriters(rows.writer(model), *phases)
        self._steps[worker] = writers
        # When the engine has gone, which happens while others serve.
        weakref.finalize(self, rows.retire, [writers.rows])
        weakref.finalize(self, seconds.retire, phases)
        return writers

    def refused(self, reason: RefusalReason) -> None:
        """A sequence was refused at submission."""
        self._refusals[reason].inc()

    def finished(self, reason: FinishReason, timings: Timings) -> None:
        """A sequence left the engine."""
        self._sequences[reason].inc()
        self._queue_seconds.observe(timings.queue_seconds)
        if timings.steps:
            self._encode_seconds.observe(timings.encode_seconds)
            self._decode_seconds.observe(timings.decode_seconds)
            self._first_token_seconds.observe(timings.first_token_seconds)

    def queue(self, sequences: int, tokens: int) -> None:
        """The queue's depth changed."""
        self._queue_sequences.set(sequences)
        self._queue_tokens.set(tokens)

    def slots(self, worker: int, rows: int, sentences: int) -> None:
        """A worker's slots in use changed."""
        if worker not in self._slots:
            labels = (self._model, str(worker))
            self._slots[worker] = (
                _GaugeShare(self._metrics.row_slots_used.labels(*labels)),
                _GaugeShare(self._metrics.sentence_slots_used.labels(*labels)),
            )
        used_rows, used_sentences = self._slots[worker]
        used_rows.set(rows)
        used_sentences.set(sentences)
