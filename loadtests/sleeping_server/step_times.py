"""How long a worker's turn takes: decode steps by rows, encoder batches by padded tokens, as measured on a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.errors import DataError

MEASURED = Path(__file__).with_name("step_times.json")
"""Of a real model; see the file for which, and `loadtests.sleeping_server.measure` for how."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Seconds over a size: straight between measured points, in proportion to the size beyond the largest."""

    sizes: tuple[float, ...]
    seconds: tuple[float, ...]

    def at(self, size: float) -> float:
        """Seconds for `size`."""
        largest = self.sizes[-1]
        if size > largest:
            return self.seconds[-1] * size / largest
        return float(np.interp(size, self.sizes, self.seconds))

    def scaled(self, factor: float) -> Curve:
        """The same with every time multiplied."""
        return Curve(self.sizes, tuple(factor * each for each in self.seconds))

    @staticmethod
    def of(points: Sequence[tuple[float, float]]) -> Curve:
        """From (size, seconds) in any order."""
        sizes, seconds = zip(*sorted(points), strict=True)
        return Curve(sizes, seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Times of one worker: `step` over rows, `encode` over longest x count of an encoder batch."""

    step: Curve
    encode: Curve

    def scaled(self, factor: float) -> StepTimes:
        """The same on a machine on which everything takes `factor` times as long."""
        return StepTimes(step=self.step.scaled(factor), encode=self.encode.scaled(factor))

    @staticmethod
    def load(path: Path = MEASURED) -> StepTimes:
        """Read a file that `loadtests.sleeping_server.measure` wrote. Raises DataError."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            points = [[(float(size), float(seconds)) for size, seconds in fields[name]] for name in ("step", "encode")]
            step, encode = map(Curve.of, points)
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(f"{path}: not readable as step times") from None
        return StepTimes(step=step, encode=encode)
