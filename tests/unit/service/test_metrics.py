"""The metrics page: what the engine reports arrives, and clients cannot make it grow."""

from __future__ import annotations

import gc
from dataclasses import replace
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from service.engine import EngineObserver, FinishReason, RefusalReason, StepRecord, Timings
from service.metrics import ROW_BUCKETS, EngineMetrics, Metrics, exemplar, gpu_memory, length_class

TIMINGS = Timings(queue_seconds=0.01, encode_seconds=0.02, decode_seconds=0.3, first_token_seconds=0.05, steps=7)
STEP = StepRecord(
    worker=0,
    rows=5,
    sentences=2,
    new_tokens=4,
    encoded_tokens=30,
    padded_tokens=36,
    copied_bytes=1024,
    full_rows=1,
    encode_seconds=0.004,
    decode_seconds=0.002,
    search_seconds=0.0001,
)


def test_what_the_engine_reports_is_on_the_page() -> None:
    """Steps, queue, slots, refusals and finished sentences, each under its model."""
    registry = CollectorRegistry()
    observer: EngineObserver = EngineMetrics(Metrics(registry), "m")
    observer.step(STEP)
    observer.queue(3, 40)
    observer.slots(1, 5, 2)
    observer.refused(RefusalReason.QUEUE_FULL)
    observer.finished(FinishReason.EOS, TIMINGS)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"dragoman_{name}", {"model": "m", **labels})

    assert value("step_seconds_sum", phase="decode") == 0.002
    assert value("step_rows_sum") == 5
    assert value("encoder_tokens_total") == 30
    assert value("encoder_padding_tokens_total") == 6
    assert value("encoder_padding_ratio_sum") == pytest.approx(6 / 36)
    assert value("decoded_tokens_total") == 4
    assert value("copied_bytes_total") == 1024
    assert value("full_rows_total") == 1
    assert (value("queue_sequences"), value("queue_tokens")) == (3, 40)
    assert (value("row_slots_used", worker="1"), value("sentence_slots_used", worker="1")) == (5, 2)
    assert value("refusals_total", reason="queue_full") == 1
    assert value("sequences_total", reason="eos") == 1
    assert value("decode_seconds_sum") == 0.3
    assert value("queue_seconds_sum") == 0.01


def test_a_sentence_that_never_ran_counts_its_wait_only() -> None:
    """Cancelled in the queue: no encode or decode time of zero spoils the quantiles."""
    registry = CollectorRegistry()
    waiting = Timings(queue_seconds=1.0, encode_seconds=0.0, decode_seconds=0.0, first_token_seconds=0.0, steps=0)
    EngineMetrics(Metrics(registry), "m").finished(FinishReason.CANCELLED, waiting)
    assert registry.get_sample_value("dragoman_queue_seconds_count", {"model": "m"}) == 1
    assert not registry.get_sample_value("dragoman_decode_seconds_count", {"model": "m"})


def test_every_metric_of_ours_has_a_prefix_and_a_help_text() -> None:
    """And the page can be rendered."""
    registry = CollectorRegistry()
    Metrics(registry)
    for family in registry.collect():
        assert family.documentation, family.name
        assert family.name.startswith(("dragoman_", "process_", "python_")), family.name
    assert b"dragoman_build_info" in generate_latest(registry)


def test_steps_of_engines_that_have_gone_stay_counted() -> None:
    """A model replaced by its next version, and two workers: one sum, which never falls."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)

    def count() -> float | None:
        return registry.get_sample_value("dragoman_step_seconds_count", {"model": "m", "phase": "decode"})

    old, new = EngineMetrics(metrics, "m"), EngineMetrics(metrics, "m")
    old.step(STEP)
    old.step(replace(STEP, worker=1))
    new.step(STEP)
    assert count() == 3
    del old
    gc.collect()
    assert count() == 3
    new.step(STEP)
    assert count() == 4


def test_a_step_is_counted_where_the_library_would() -> None:
    """In the first bucket whose bound it does not exceed, and in all above; what exceeds all of them, in the last."""
    registry, library = CollectorRegistry(), CollectorRegistry()
    metrics = Metrics(registry)
    theirs = Histogram("dragoman_step_rows", "x", ("model",), buckets=ROW_BUCKETS, registry=library)
    for rows in (1, 2, 3, 64, 256, 300):
        EngineMetrics(metrics, "m").step(replace(STEP, rows=rows))
        theirs.labels("m").observe(rows)
    page = generate_latest(registry).decode().splitlines()
    expected = [line for line in generate_latest(library).decode().splitlines() if "_created" not in line]
    assert [line for line in page if line.startswith("dragoman_step_rows")] == expected[2:]


@pytest.mark.parametrize(
    ("characters", "expected"), [(0, "none"), (1, "short"), (200, "short"), (201, "medium"), (2001, "long")]
)
def test_a_call_has_the_length_class_of_its_text(characters: int, expected: str) -> None:
    """So that a book is not measured by the objective of a sentence."""
    assert length_class(characters) == expected


def test_an_exemplar_names_the_trace_on_the_openmetrics_page() -> None:
    """And a call that nobody traces leaves none."""
    registry = CollectorRegistry()
    latency = Metrics(registry).request_seconds.labels("Translate", "m", "short")
    latency.observe(0.002, exemplar(""))
    assert b"trace_id" not in generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    latency.observe(0.002, exemplar("ab" * 16))
    page: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    assert f'# {{trace_id="{"ab" * 16}"}} 0.002'.encode() in page


class FakeDriver:
    """NVIDIA's management library with one GPU, or none."""

    class NVMLError(Exception):
        """What the library raises."""

    def __init__(self, *, gpus: int) -> None:
        self._gpus = gpus

    def nvmlInit(self) -> None:  # noqa: N802 - the library's names
        """Nothing to do."""

    def nvmlDeviceGetHandleByIndex(self, device: int) -> int:  # noqa: N802
        """The GPU, if it is there."""
        if device >= self._gpus:
            raise self.NVMLError
        return device

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        """A quarter used."""
        return SimpleNamespace(used=25, total=100)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:  # noqa: N802
        """Half busy, in percent."""
        return SimpleNamespace(gpu=50)


@pytest.mark.parametrize("gpus", [0, 1])
def test_the_memory_of_the_gpu_is_on_the_page(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    """Asked at each scrape; without a driver that answers there is no value, and the page is whole."""
    monkeypatch.setattr(gpu_memory, "pynvml", FakeDriver(gpus=gpus))
    registry = CollectorRegistry()
    Metrics(registry).watch_gpu(0)
    expected = {"gpu_memory_used_bytes": 25.0, "gpu_memory_bytes": 100.0, "gpu_busy_ratio": 0.5}
    for name, value in expected.items():
        found = registry.get_sample_value(f"dragoman_{name}", {"device": "0"})
        assert found == (value if gpus else None)
    assert b"dragoman_gpu_memory_bytes" in generate_latest(registry)
