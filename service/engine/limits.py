"""Bounds and weights of admission, and the room that a worker has for newcomers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from service.engine.options import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Bounds and weights of admission.

    `max_encode_tokens` bounds longest x count of one encoder batch, `shared_encode_tokens` the same while interactive
    sequences run, which wait for it; `bulk_time_share` is the part of a worker's time that bulk rows get while
    interactive ones run; `reserved_rows` are rows of each worker that bulk
    work may not take; while both classes wait, interactive gets `interactive_share` of the tokens admitted;
    `max_overtakes` is how many later sequences may pass one that needs more rows than are free. Of the time until its
    deadline the first sequence of a call may be expected to wait `max_wait_share`: with all of it, an overloaded queue
    would grow until only short sentences fit behind it. Where others wait, a sequence must be expected to end in time
    even if it takes longer than usual by `caution` standard errors: what ends too late was decoded for nothing.
    `static_batching` lets a worker take new sequences only when none runs, for comparison.
    """

    max_waiting_sequences: int = 2048
    max_waiting_tokens: int = 131_072
    max_encode_tokens: int = 2048
    shared_encode_tokens: int = 512
    bulk_time_share: float = 0.4
    reserved_rows: int = 0
    interactive_share: float = 0.8
    max_overtakes: int = 16
    max_wait_share: float = 0.25
    caution: float = 1.0
    static_batching: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a worker has free when it asks for more: rows in all, rows that bulk may take, rows that interactive
    sequences may take while others gather for a bulk one, sentence slots, and the bound on longest x count of what is
    encoded together."""

    rows: int
    bulk_rows: int
    beside_bulk_rows: int
    sentences: int
    encode_tokens: int

    def less(self, rows: int, priority: Priority) -> Room:
        """What is left when a sequence of `priority` has taken `rows`."""
        left, bulk = self.rows - rows, priority is Priority.BULK
        return replace(
            self,
            rows=left,
            bulk_rows=min(self.bulk_rows - (rows if bulk else 0), left),
            beside_bulk_rows=max(0, min(self.beside_bulk_rows - (0 if bulk else rows), left)),
        )
