"""What runs now, as the page shows it: rows and queue of each model, read off the metrics."""

from __future__ import annotations

from collections import defaultdict

from prometheus_client import Gauge

from service.metrics import Metrics


def live_batch(metrics: Metrics) -> dict[str, object]:
    """Rows in use and in all, and sentences waiting, of each model."""
    rows, slots, waiting = (
        _by_model(gauge) for gauge in (metrics.row_slots_used, metrics.row_slots, metrics.queue_sequences)
    )
    models = [
        {"id": model, "rows": int(rows[model]), "row_slots": int(slots[model]), "waiting": int(waiting[model])}
        for model in sorted(slots)
    ]
    return {"models": models}


def _by_model(gauge: Gauge) -> defaultdict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    for family in gauge.collect():
        for sample in family.samples:
            sums[sample.labels["model"]] += sample.value
    return sums
