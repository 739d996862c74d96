"""Latency quantiles out of the histograms of a Prometheus page."""

import math
from collections import defaultdict
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Cumulative counts per upper bound, in ascending order of bounds; the last bound is infinity."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def total(self) -> float:
        """Number of observations."""
        return self.counts[-1] if self.counts else 0.0

    def quantile(self, share: float) -> float | None:
        """The value below which ``share`` (0 to 1) of the observations lie; None of an empty histogram.

        Linear inside the bucket, as PromQL's histogram_quantile; what lies above the last finite bound is that bound.
        """
        if not self.total:
            return None
        rank = share * self.total
        below, lower = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= rank and count > below:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (rank - below) / (count - below)
            below, lower = count, bound
        raise AssertionError("this is a bug: the last bucket holds every observation")


def read_histogram(page: str, name: str) -> Histogram:
    """The histogram ``name`` of a Prometheus text page, added up over all its labels; empty if it is not there."""
    counts: dict[float, float] = defaultdict(float)
    for family in text_string_to_metric_families(page):
        if family.name == name and family.type == "histogram":
            for sample in family.samples:
                if sample.name == f"{name}_bucket":
                    counts[float(sample.labels["le"])] += sample.value
    bounds = tuple(sorted(counts))
    return Histogram(bounds=bounds, counts=tuple(counts[bound] for bound in bounds))
