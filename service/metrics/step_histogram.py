"""A histogram for what happens at every step: each writer counts without a lock, and a scrape adds the writers up.

prometheus_client's own takes a lock three times and looks through its buckets one by one: several of those at each step
cost more than a hundredth of a short one.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class StepCounts:
    """Observations of one writer, which is one thread; `counts` has a last place for what exceeds every bound."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def add(self, other: StepCounts) -> None:
        """Count what `other` has counted."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class StepHistogram(Collector):
    """A histogram family on the page; `writer` gives each thread a place of its own, `retire` keeps what it counted."""

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._labels = tuple(labels)
        self._bounds = tuple(bounds)
        # Reentrant: a garbage collection inside `collect` may retire writers.
        self._lock = threading.RLock()
        self._retired: dict[tuple[str, ...], StepCounts] = {}
        self._writers: list[tuple[tuple[str, ...], StepCounts]] = []

    def writer(self, *labels: str) -> StepCounts:
        """A new place to count in, for one thread."""
        counts = StepCounts(self._bounds)
        with self._lock:
            self._writers.append((labels, counts))
        return counts

    def retire(self, writers: Iterable[StepCounts]) -> None:
        """These will count no more: their sums stay on the page, their memory does not."""
        gone = set(map(id, writers))
        with self._lock:
            for labels, counts in self._writers:
                if id(counts) in gone:
                    self._retired.setdefault(labels, StepCounts(self._bounds)).add(counts)
            self._writers = [each for each in self._writers if id(each[1]) not in gone]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """See prometheus_client."""
        sums: dict[tuple[str, ...], StepCounts] = {}
        with self._lock:
            for labels, counts in [*self._retired.items(), *self._writers]:
                sums.setdefault(labels, StepCounts(self._bounds)).add(counts)
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        names = [*map(str, self._bounds), "+Inf"]
        for labels, counts in sums.items():
            buckets = list(zip(names, map(float, accumulate(counts.counts)), strict=True))
            family.add_metric(labels, buckets, sum_value=counts.total)
        yield family
