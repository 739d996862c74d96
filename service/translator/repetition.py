"""Finds translations that say the same thing over and over, a failure that neural decoders are known for.

Holtzman et al. 2020 (https://arxiv.org/abs/1904.09751) describe it. Here a token 4-gram that was there before counts as
a repeat, so that short periods count by their overlaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_SIZE = 4
_MIN_REPEATS = 8
_MIN_SHARE = 0.4
# What a guarded second decoding may not say twice.
GUARD_NGRAM_SIZE = 3


def first_repeat(ids: Sequence[int]) -> int | None:
    """Where the first 4-gram that was there before begins; None if all are new. What lies before it is no loop."""
    return next(_repeats(ids), None)


def is_looping(ids: Sequence[int], source_ids: Sequence[int]) -> bool:
    """Whether `ids` repeat themselves a lot, and far more than their source does."""
    repeats = sum(1 for _ in _repeats(ids))
    if repeats < _MIN_REPEATS or repeats < _MIN_SHARE * (len(ids) - _SIZE + 1):
        return False
    return repeats > _MIN_REPEATS + 2 * sum(1 for _ in _repeats(source_ids))


def _repeats(ids: Sequence[int]) -> Iterator[int]:
    seen: set[tuple[int, ...]] = set()
    for start in range(len(ids) - _SIZE + 1):
        ngram = tuple(ids[start : start + _SIZE])
        if ngram in seen:
            yield start
        seen.add(ngram)
