"""Measured runs beside the ceilings of the card: achieved bandwidth and rate, and the least time there could be.

The model is that of Williams, Waterman and Patterson, "Roofline", Communications of the ACM 52(4), 2009.
"""

from __future__ import annotations

from dataclasses import dataclass

from loadtests.bench.gpu.traffic import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What the card reached in a copy (bytes a second) and in a product of `precision`, both timed with torch."""

    bytes_per_second: float
    operations_per_second: float
    precision: str
    torch: str

    def least_seconds(self, work: Work) -> float:
        """The time below which `work` cannot be done: it is bound by whichever takes longer."""
        return max(work.bytes / self.bytes_per_second, work.operations / self.operations_per_second)

    def reachable(self, intensity: float) -> float:
        """Operations a second at this many operations for each byte."""
        return min(self.operations_per_second, intensity * self.bytes_per_second)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedRun:
    """One run of a graph: what it is, what it must do, and the median seconds that it took."""

    graph: str
    mode: str
    rows: int
    work: Work
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """Achieved bandwidth, counting only what must move."""
        return self.work.bytes / self.seconds

    @property
    def operations_per_second(self) -> float:
        """Achieved rate, counting only what must be computed."""
        return self.work.operations / self.seconds

    def attained(self, ceilings: Ceilings) -> float:
        """Part of what the card could do: 1 would be on the roof."""
        return ceilings.least_seconds(self.work) / self.seconds
