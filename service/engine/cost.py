"""Predicts how long a sequence will wait and run, from what the engine has seen so far."""

from __future__ import annotations

import math

_MEMORY = 0.99  # weight kept by past sentences and steps for each new one: about a hundred are remembered


class CostModel:
    """Learns target length from source length, and the seconds of a step, as exponentially weighted averages.

    Until it has seen a finished sentence it predicts nothing, so nothing is refused on a guess. Not thread-safe: the
    scheduler's lock guards it.
    """

    def __init__(self) -> None:
        self._weight = 0.0
        self._source = 0.0
        self._steps = 0.0
        self._source_squared = 0.0
        self._source_steps = 0.0
        self._errors_squared = 0.0
        self._turns = 0.0
        self._step_seconds = 0.0
        self._encode_seconds = 0.0

    @property
    def step_seconds(self) -> float:
        """Seconds of a recent decode step; 0 before the first."""
        return self._step_seconds

    def saw_sequence(self, *, source_tokens: int, steps: int) -> None:
        """A sentence of `source_tokens` finished after `steps` decode steps."""
        expected = self.steps(source_tokens)
        error = (steps - expected) / expected if expected else 0.0
        self._errors_squared = self._errors_squared * _MEMORY + error**2
        self._weight = self._weight * _MEMORY + 1.0
        self._source = self._source * _MEMORY + source_tokens
        self._steps = self._steps * _MEMORY + steps
        self._source_squared = self._source_squared * _MEMORY + source_tokens**2
        self._source_steps = self._source_steps * _MEMORY + source_tokens * steps

    def saw_step(self, *, encode_seconds: float, decode_seconds: float) -> None:
        """A worker's turn took this long."""
        self._turns = self._turns * _MEMORY + 1.0  # so that the first ones, which are slow, soon count for little
        self._step_seconds += (decode_seconds - self._step_seconds) / self._turns
        self._encode_seconds += (encode_seconds - self._encode_seconds) / self._turns

    def steps(self, source_tokens: int) -> float:
        """Decode steps that a sentence of `source_tokens` is expected to take: a least-squares line."""
        if not self._weight:
            return 0.0
        mean_source, mean_steps = self._source / self._weight, self._steps / self._weight
        variance = self._source_squared / self._weight - mean_source**2
        if variance < 1.0:
            return mean_steps
        slope = (self._source_steps / self._weight - mean_source * mean_steps) / variance
        return max(1.0, mean_steps + slope * (source_tokens - mean_source))

    def run_seconds(self, source_tokens: int, max_steps: int, *, caution: float = 0.0) -> float:
        """Seconds from admission to answer: as expected, or later by `caution` standard errors of what was expected."""
        late = 1.0 + caution * math.sqrt(self._errors_squared / self._weight) if self._weight else 1.0
        steps = min(self.steps(source_tokens) * late, float(max_steps))
        return steps * (self._step_seconds + self._encode_seconds)

    def wait_seconds(self, row_steps: float, row_slots: int) -> float:
        """Seconds until `row_steps` of waiting work have been taken up by `row_slots` rows in all."""
        return row_steps / row_slots * (self._step_seconds + self._encode_seconds)
