"""How the learning rate rises and falls: a linear warm-up, then one of three ways down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Decay = Literal["constant", "inverse-sqrt", "linear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRateSchedule:
    """``linear`` falls to zero at the end of the run, by updates or by minutes, whichever ends first."""

    peak: float
    warmup_updates: int
    decay: Decay = "linear"

    def rate(self, *, update: int, progress: float) -> float:
        """Return the rate of the ``update``-th update (from 1), ``progress`` of the run (0 to 1) having passed."""
        warm = min(1.0, update / max(1, self.warmup_updates))
        if self.decay == "inverse-sqrt":
            return self.peak * min(warm, math.sqrt(max(1, self.warmup_updates) / update))
        if self.decay == "linear":
            return self.peak * warm * max(0.0, 1.0 - progress)
        return self.peak * warm
