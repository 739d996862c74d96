"""What the engine tells whoever watches it; metrics implement this protocol."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from service.engine.sequence import FinishReason, Timings


class RefusalReason(Enum):
    """Why a sequence was not let into the queue."""

    QUEUE_FULL = "queue_full"
    DEADLINE = "deadline"
    DRAINING = "draining"


@dataclass(slots=True, kw_only=True)
class StepRecord:
    """One turn of a worker, filled as it goes on. Seconds stay zero for phases that the turn did not have.

    `sentences` are those in the batch at its end; `encoded_tokens` counts source tokens encoded in this turn,
    `padded_tokens` the same with padding (longest x count); `new_tokens` counts one for each sentence that took part,
    however many beams it has; `full_rows` counts rows that needed the whole vocabulary. A turn whose runner `failed` is
    not told.
    """

    worker: int
    rows: int = 0
    sentences: int = 0
    new_tokens: int = 0
    encoded_tokens: int = 0
    padded_tokens: int = 0
    copied_bytes: int = 0
    full_rows: int = 0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    search_seconds: float = 0.0
    failed: bool = False


class EngineObserver(Protocol):
    """Called from worker threads and from `submit`; must be cheap, must not raise, must not block."""

    def step(self, record: StepRecord) -> None:
        """A worker finished a turn."""

    def refused(self, reason: RefusalReason) -> None:
        """A sequence was refused at submission."""

    def finished(self, reason: FinishReason, timings: Timings) -> None:
        """A sequence got its one answer."""

    def queue(self, sequences: int, tokens: int) -> None:
        """The queue changed: what waits now."""

    def slots(self, worker: int, rows: int, sentences: int) -> None:
        """A worker's slots in use changed."""


class SilentObserver:
    """Watches nothing."""

    def step(self, record: StepRecord) -> None:
        """Ignore."""

    def refused(self, reason: RefusalReason) -> None:
        """Ignore."""

    def finished(self, reason: FinishReason, timings: Timings) -> None:
        """Ignore."""

    def queue(self, sequences: int, tokens: int) -> None:
        """Ignore."""

    def slots(self, worker: int, rows: int, sentences: int) -> None:
        """Ignore."""
