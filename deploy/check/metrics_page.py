"""Prints a metrics page on which everything has happened once, for `promtool check metrics`."""

from __future__ import annotations

import sys

from prometheus_client import CollectorRegistry, generate_latest

from service.engine import FinishReason, RefusalReason, StepRecord, Timings
from service.metrics import EngineMetrics, Metrics


def filled_page() -> str:
    """The page of a service that has translated, refused and failed."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.watch_gpu(0)
    engine = EngineMetrics(metrics, "m")
    engine.step(
        StepRecord(
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
    )
    engine.queue(3, 40)
    engine.slots(0, 5, 2)
    timings = Timings(queue_seconds=0.01, encode_seconds=0.02, decode_seconds=0.3, first_token_seconds=0.05, steps=7)
    for refusal in RefusalReason:
        engine.refused(refusal)
    for reason in FinishReason:
        engine.finished(reason, timings)
    metrics.requests.labels("Translate", "m", "OK").inc()
    metrics.request_seconds.labels("Translate", "m", "short").observe(0.2)
    return generate_latest(registry).decode()


if __name__ == "__main__":
    sys.stdout.write(filled_page())
